package inspect

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
)

// What goes next is what a registry that forgets is asked for first: whatever the rows are, the soonest is the first,
// what never goes is the last, and a time within which things go leaves out the rest.
func TestWhatGoesNextCanBeAskedFor(t *testing.T) {
	w := newWorld(t)
	w.Team()
	w.At(7 * day)
	for _, kind := range []Kind{Blobs, Images, Tags} {
		all := w.list(inspecttest.Rules, Options{Kind: kind, Sort: ByExpiry}).expiries()
		if len(all) < 3 || !slices.IsSorted(all) {
			t.Errorf("%s: %q", kind, all)
		}
		backwards := w.list(inspecttest.Rules, Options{Kind: kind, Sort: ByExpiry, Reverse: true}).expiries()
		if slices.Reverse(backwards); !slices.Equal(backwards, all) {
			t.Errorf("%s: %q, backwards %q", kind, all, backwards)
		}
		for _, d := range []time.Duration{0, day, 23 * day, 25 * day, 40 * day} {
			var want []string
			for _, e := range all {
				if e <= inspecttest.Stamped(7*day+d) {
					want = append(want, e)
				}
			}
			if got := w.list(inspecttest.Rules, Options{Kind: kind, Expiring: &d}).expiries(); !slices.Equal(got,
				want) {
				t.Errorf("%s within %s: got %q, want %q", kind, d, got, want)
			}
			first := w.list(inspecttest.Rules, Options{Kind: kind, Expiring: &d, Limit: 2}).expiries()
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

func TestAnImageListsItsTags(t *testing.T) {
	w := newWorld(t)
	w.Team()
	for _, limit := range []int{0, 10} {
		for _, i := range w.list(inspecttest.Rules, Options{Kind: Images, Limit: limit}).Images {
			if want := strings.Fields(*i.Tag); i.Tags == nil || !slices.Equal(*i.Tags, want) {
				t.Errorf("limit %d: tags %v, want %q", limit, i.Tags, want)
			}
		}
		for _, i := range w.list(inspecttest.Rules, Options{Kind: Tags, Limit: limit}).Tags {
			if i.Tags != nil {
				t.Errorf("a tag has tags: %v", *i.Tags)
			}
		}
	}
}
