package inspect

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// What goes next is what a registry that forgets is asked for first: whatever the rows are, the soonest is the first,
// what never goes is the last, and a time within which things go leaves out the rest.
func TestWhatGoesNextCanBeAskedFor(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.at(7 * day)
	for _, kind := range []Kind{Blobs, Images, Tags} {
		all := w.list(rules, Options{Kind: kind, Sort: ByExpiry}).expiries()
		if len(all) < 3 || !slices.IsSorted(all) {
			t.Errorf("%s: %q", kind, all)
		}
		backwards := w.list(rules, Options{Kind: kind, Sort: ByExpiry, Reverse: true}).expiries()
		if slices.Reverse(backwards); !slices.Equal(backwards, all) {
			t.Errorf("%s: %q, backwards %q", kind, all, backwards)
		}
		for _, d := range []time.Duration{0, day, 23 * day, 25 * day, 40 * day} {
			var want []string
			for _, e := range all {
				if e <= stamped(7*day+d) {
					want = append(want, e)
				}
			}
			if got := w.list(rules, Options{Kind: kind, Expiring: &d}).expiries(); !slices.Equal(got, want) {
				t.Errorf("%s within %s: got %q, want %q", kind, d, got, want)
			}
			first := w.list(rules, Options{Kind: kind, Expiring: &d, Limit: 2}).expiries()
			if want := want[:min(2, len(want))]; !slices.Equal(first, want) {
				t.Errorf("%s within %s, two of them: got %q, want %q", kind, d, first, want)
			}
		}
	}
	never := index.Policy{Grace: time.Hour, Resolution: time.Minute}
	d := 1000 * day
	if got := w.list(never, Options{Kind: Tags, Expiring: &d}).Tags; len(got) != 0 {
		t.Errorf("what never goes is listed: %+v", got)
	}
	if got := w.list(never, Options{Sort: ByExpiry}).expiries(); got[0] == "never" || got[len(got)-1] != "never" {
		t.Errorf("got %q", got)
	}
	bad := -day
	if err := (Options{Expiring: &bad}).Check(); err == nil {
		t.Error("a time that is over was taken")
	}
}

// expiries are when the rows go, in their order; what never goes sorts behind every date.
func (l listing) expiries() (all []string) {
	add := func(at *string) {
		if at == nil {
			all = append(all, "never")
		} else {
			all = append(all, *at)
		}
	}
	for _, b := range l.Blobs {
		add(b.ExpiresAt)
	}
	for _, i := range slices.Concat(l.Images, l.Tags) {
		add(i.ExpiresAt)
	}
	return all
}

func TestWhatIsDueGoesWithTheNextCleanUp(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.at(29 * day)
	w.manifest("fresh", "just-pushed", manifest.Manifest{})
	w.at(31*day + time.Hour)
	out := w.table(Options{Kind: Images, Expiring: new(time.Duration)})
	if strings.Contains(out, "now") || !strings.Contains(out, "at next clean-up") || strings.Contains(out, "fresh") {
		t.Errorf("got\n%s", out)
	}
	if !strings.Contains(out, "; 1 image due for removal at next clean-up") {
		t.Errorf("got\n%s", out)
	}
	d := 3 * day
	if out := w.table(Options{Kind: Images, Expiring: &d}); !strings.Contains(out, "due for removal within 3 days") {
		t.Errorf("got\n%s", out)
	}
}

func (w *world) table(o Options) string {
	w.t.Helper()
	var out bytes.Buffer
	w.must(Write(w.t.Context(), w, rules, o, Output{To: &out}))
	return out.String()
}

// What the text says machines are told too, whichever way the rows were found.
func TestTheSummaryOfJSONHasWhatTheTextHas(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.at(7 * day)
	text := w.table(Options{})
	for _, o := range []Options{{}, {Limit: 1}, {Kind: Images}, {Kind: Tags, Limit: 2}} {
		s := w.list(rules, o).Summary
		for what, bytes := range map[string]*int64{"within 1 day: %d B": s.Day, "within 7 days: %d B": s.Week, "untagged: 2.2 KiB": s.Untagged} {
			if bytes == nil {
				t.Fatalf("%+v: the summary lacks %s", o, what)
			}
			if strings.Contains(what, "%d") {
				what = fmt.Sprintf(what, *bytes)
			}
			if !strings.Contains(text, what) {
				t.Errorf("%+v: %q is not in\n%s", o, what, text)
			}
		}
		if want := int64(2217); *s.Untagged != want {
			t.Errorf("%+v: untagged %d, want %d", o, *s.Untagged, want)
		}
	}
}

func TestAnImageListsItsTags(t *testing.T) {
	w := newWorld(t)
	w.team()
	for _, limit := range []int{0, 10} {
		for _, i := range w.list(rules, Options{Kind: Images, Limit: limit}).Images {
			if want := strings.Fields(*i.Tag); i.Tags == nil || !slices.Equal(*i.Tags, want) {
				t.Errorf("limit %d: tags %v, want %q", limit, i.Tags, want)
			}
		}
		for _, i := range w.list(rules, Options{Kind: Tags, Limit: limit}).Tags {
			if i.Tags != nil {
				t.Errorf("a tag has tags: %v", *i.Tags)
			}
		}
	}
}

// No word for why an image is there may be read as: it never expires. What machines read stays.
func TestAReasonIsNoPromise(t *testing.T) {
	pushed := time.UnixMilli(0)
	for _, tt := range []struct {
		row  Image
		want string
	}{
		{Image{KeptBy: KeptByTag}, "tagged"},
		{Image{KeptBy: KeptByGrace, LastAccess: stampOf(1000), created: pushed}, "just pushed"},
		{Image{KeptBy: KeptByGrace, LastAccess: stampOf(time.Hour.Milliseconds()), created: pushed}, "just used"},
		{Image{KeptBy: KeptByParent}, "part of an index"},
		{Image{KeptBy: KeptBySubject}, "attached to an image"},
		{Image{KeptBy: KeptByTTL}, "used within the ttl"},
		{Image{}, ""},
	} {
		if got := tt.row.reason(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.row.KeptBy, got, tt.want)
		}
	}
}

func TestAPatternThatMatchesNothingSaysSo(t *testing.T) {
	w := newWorld(t)
	w.team()
	for _, o := range []Options{{}, {Kind: Images}, {Kind: Tags, Limit: 3}, {Histogram: true}} {
		o.Repository = "nosuch*"
		if got, want := w.table(o), "no repository matches \"nosuch*\"\n"; got != want {
			t.Errorf("%+v: got\n%s", o, got)
		}
	}
	if out := w.table(Options{Repository: "lib/*"}); !strings.HasPrefix(out, "DIGEST") {
		t.Errorf("got\n%s", out)
	}
}

// A tag that does not fit is counted, names keep both their ends, and what one can do without is left out first.
func TestEightyColumnsKeepNamesReadable(t *testing.T) {
	w := newWorld(t)
	w.manifest("company/platform/services/api-gateway", "m", manifest.Manifest{})
	for _, tag := range []string{"v1.10.2", "v1.10", "feature-JIRA-1234"} {
		w.tag("company/platform/services/api-gateway", tag, "m")
	}
	var out bytes.Buffer
	w.must(Write(t.Context(), w, rules, Options{Kind: Images}, Output{To: &out, Width: 80}))
	lines := strings.Split(out.String(), "\n")
	if got := strings.Fields(lines[0]); !reflect.DeepEqual(got, strings.Fields("REPOSITORY TAG DIGEST SIZE LAST ACCESS EXPIRES")) {
		t.Errorf("columns %q", got)
	}
	_, sum, _ := strings.Cut(string(dgst("m")), ":")
	for _, want := range []string{"…/api-gateway ", " +2 more ", " " + sum[:12] + " "} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("%q is not in %q", want, lines[1])
		}
	}
}
