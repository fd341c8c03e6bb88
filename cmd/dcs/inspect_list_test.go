package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// view is what a test asks of dcs inspect.
type view struct {
	inspect.Options
	histogram bool
	format    string // default table
	width     int
	colour    bool
}

// shown is what dcs inspect writes about a store.
func shown(w *inspecttest.World, v view) string {
	w.T.Helper()
	list, err := inspect.List(w.T.Context(), w, inspecttest.Rules, v.Options)
	w.Must(err)
	var out bytes.Buffer
	l := listed{Listing: list, options: v.Options}
	w.Must(l.write(w.T.Context(), v.histogram, v.format, display{to: &out, width: v.width, colour: v.colour}))
	w.Must(list.Close())
	return out.String()
}

func TestAnEmptyStore(t *testing.T) {
	w := inspecttest.New(t)
	for _, k := range inspect.Kinds {
		out := shown(w, view{Options: inspect.Options{Kind: k}, format: formatJSON})
		want := fmt.Sprintf(`{"summary":{"tags":0,"manifests":0,"blobs":0,"bytes":0,"expiring_1d_bytes":0,"expiring_7d_bytes":0,"untagged_bytes":0,"complete":true},"%s":[]}`+"\n", k)
		if out != want {
			t.Errorf("got %s want %s", out, want)
		}
	}
}

func TestCSV(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	for _, k := range inspect.Kinds {
		out := shown(w, view{Options: inspect.Options{Kind: k, Sort: inspect.ByName}, format: formatCSV})
		records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if k == inspect.Images && !slices.Contains(records[1], "latest v1") || len(records) != map[inspect.Kind]int{inspect.Blobs: 15, inspect.Images: 4, inspect.Tags: 4, inspect.Repositories: 5}[k] {
			t.Errorf("%s: %q", k, records)
		}
		typ := map[inspect.Kind]reflect.Type{inspect.Blobs: reflect.TypeFor[inspect.Blob](),
			inspect.Images:       reflect.TypeFor[inspect.Image](),
			inspect.Tags:         reflect.TypeFor[inspect.Image](),
			inspect.Repositories: reflect.TypeFor[inspect.Repository]()}[k]
		var keys []string
		for i := range typ.NumField() {
			if key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); key != "" && key != "-" &&
				(key != "tags" || k == inspect.Images) {
				keys = append(keys, key)
			}
		}
		if !slices.Equal(records[0], keys) {
			t.Errorf("%s: columns %q, JSON keys %q", k, records[0], keys)
		}
	}
}

func TestTables(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	w.Manifest("team/a-rather-long-name-of-a/repository", "long", manifest.Manifest{}, "base")
	w.Tag("team/a-rather-long-name-of-a/repository", "2026-01-07-nightly-build", "long")
	w.At(7 * day)
	for _, k := range inspect.Kinds {
		for _, width := range []int{0, 80, 120} {
			out := shown(w, view{Options: inspect.Options{Kind: k}, width: width})
			golden(t, fmt.Sprintf("inspect/%s-%d.txt", k, width), out)
			for _, line := range strings.Split(out, "\n") {
				if width > 0 && utf8.RuneCountInString(line) > width || strings.TrimRight(line, " ") != line ||
					strings.Contains(line, "\x1b") {
					t.Errorf("%s at %d: %q", k, width, line)
				}
			}
		}
	}
	out := shown(w, view{Options: inspect.Options{Limit: 3, Sort: inspect.BySize, Reverse: true}, colour: true})
	golden(t, "inspect/coloured.txt", out)
}

func TestHistogram(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	for _, width := range []int{0, 80, 120} {
		out := shown(w, view{Options: inspect.Options{}, histogram: true, width: width})
		golden(t, fmt.Sprintf("inspect/histogram-%d.txt", width), out)
	}
	var j, c string
	j = shown(w, view{Options: inspect.Options{Repository: "multi"}, histogram: true, format: formatJSON})
	c = shown(w, view{Options: inspect.Options{Repository: "multi"}, histogram: true, format: formatCSV})
	// All of multi was used on day 3, and it is day 6.
	const bytes = 300 + 1<<30 + 20
	last := fmt.Sprintf(`{"from_seconds":172800,"until_seconds":345600,"blobs":5,"bytes":%d}]}`+"\n", bytes)
	if got := j; !strings.HasSuffix(got, last) || !strings.HasPrefix(got,
		`{"summary":{"tags":1,"manifests":3,"blobs":5,"bytes":`) {
		t.Errorf("got %s want it to end with %s", got, last)
	}
	records, err := csv.NewReader(strings.NewReader(c)).ReadAll()
	if err != nil || len(records) != 6 || strings.Join(records[0], " ") != "from_seconds until_seconds blobs bytes" ||
		strings.Join(records[5], " ") != fmt.Sprint("172800 345600 5 ", bytes) {
		t.Errorf("%v, %v", records, err)
	}
	w.At(2 * 365 * day)
	j = shown(w, view{Options: inspect.Options{Repository: "multi"}, histogram: true, format: formatJSON})
	if want := fmt.Sprintf(`{"from_seconds":31536000,"until_seconds":null,"blobs":5,"bytes":%d}]}`,
		bytes); !strings.Contains(j, want) {
		t.Errorf("after two years: got %s want %s in it", j, want)
	}
}

// TestFigures compares what is summed up with the rows.
func TestFigures(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	w.At(29 * day)
	var within = map[time.Duration]int64{}
	list, err := inspect.List(t.Context(), w, inspecttest.Rules, inspect.Options{})
	w.Must(err)
	rows, err := list.All(t.Context())
	w.Must(errors.Join(err, list.Close()))
	for _, row := range rows {
		b := row.(inspect.Blob)
		for _, span := range []time.Duration{day, week} {
			if due := time.Time(b.ExpiresAt); !due.IsZero() && !due.After(w.Clock.Add(span)) {
				within[span] += b.Size
			}
		}
	}
	const untagged = 200 + 2000 + 10 + 7 // of lib/core, but for the layer that app has too; and scratch
	for _, o := range []view{{}, {Options: inspect.Options{Limit: 2}}, {Options: inspect.Options{Kind: inspect.Images}},
		{Options: inspect.Options{Kind: inspect.Images,
			Limit: 1}}, {Options: inspect.Options{Kind: inspect.Repositories}}, {histogram: true}} {
		out := shown(w, o)
		want := fmt.Sprintf("due for removal within 1 day: %s, within 7 days: %s; untagged: %s\n",
			ui.Bytes(within[day]), ui.Bytes(within[week]), ui.Bytes(untagged))
		if !strings.HasSuffix(out, want) || within[day] == 0 || within[week] <= within[day] {
			t.Errorf("%+v: got\n%s\nwant it to end with %s", o, out, want)
		}
	}
}

// Names may have every character of the grammar, and a tag many: who parses the output gets them back.
func TestEveryNameComesBack(t *testing.T) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	repos := []string{letters, "a.b_c__d-e--f/g.h/0", "x---y/z__1"}
	tags := []string{"_" + letters + strings.ToUpper(letters[:26]) + "._-", "0", "latest", "-", "v1.2.3-rc.1_amd64"}
	tags[3] = "A-"
	w := inspecttest.New(t)
	want := map[string]bool{}
	for i, repo := range repos {
		for _, tag := range tags {
			m := fmt.Sprint("m", i)
			w.Manifest(repo, m, manifest.Manifest{})
			w.Tag(repo, tag, m)
			want[repo+" "+tag] = true
		}
	}
	check := func(what string, got map[string]bool) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	got := map[string]bool{}
	var told struct {
		Tags []struct{ Repository, Tag string }
	}
	w.Must(json.Unmarshal([]byte(shown(w, view{Options: inspect.Options{Kind: inspect.Tags}, format: formatJSON})),
		&told))
	for _, row := range told.Tags {
		got[row.Repository+" "+row.Tag] = true
	}
	check("JSON", got)
	for _, kind := range []inspect.Kind{inspect.Tags, inspect.Images} {
		out := shown(w, view{Options: inspect.Options{Kind: kind}, format: formatCSV})
		records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		w.Must(err)
		got = map[string]bool{}
		for _, r := range records[1:] {
			for tag := range strings.FieldsSeq(r[1]) {
				got[r[0]+" "+tag] = true
			}
		}
		check("CSV of "+string(kind), got)
	}
}

func TestWhatIsDueGoesWithTheNextCleanUp(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	w.At(29 * day)
	w.Manifest("fresh", "just-pushed", manifest.Manifest{})
	w.At(31*day + time.Hour)
	out := shown(w, view{Options: inspect.Options{Kind: inspect.Images, Expiring: new(time.Duration)}})
	if strings.Contains(out, "now") || !strings.Contains(out, "at next clean-up") || strings.Contains(out, "fresh") {
		t.Errorf("got\n%s", out)
	}
	if !strings.Contains(out, "; 1 image due for removal at next clean-up") {
		t.Errorf("got\n%s", out)
	}
	d := 3 * day
	if out := shown(w, view{Options: inspect.Options{Kind: inspect.Images, Expiring: &d}}); !strings.Contains(out,
		"due for removal within 3 days") {
		t.Errorf("got\n%s", out)
	}
}

// What the text says machines are told too, whichever way the rows were found.
func TestTheSummaryOfJSONHasWhatTheTextHas(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	w.At(7 * day)
	text := shown(w, view{})
	for _, o := range []inspect.Options{{}, {Limit: 1}, {Kind: inspect.Images}, {Kind: inspect.Tags, Limit: 2},
		{Kind: inspect.Repositories}} {
		var told struct {
			Summary struct {
				Day      *int64 `json:"expiring_1d_bytes"`
				Week     *int64 `json:"expiring_7d_bytes"`
				Untagged *int64 `json:"untagged_bytes"`
			}
		}
		w.Must(json.Unmarshal([]byte(shown(w, view{Options: o, format: formatJSON})), &told))
		s := told.Summary
		for what, bytes := range map[string]*int64{"within 1 day: %d B": s.Day, "within 7 days: %d B": s.Week,
			"untagged: 2.2 KiB": s.Untagged} {
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

// No word for why an image is there may be read as: it never expires. What machines read stays.
func TestAReasonIsNoPromise(t *testing.T) {
	pushed := stamp.Time(time.UnixMilli(0))
	for _, tt := range []struct {
		row  inspect.Image
		want string
	}{
		{inspect.Image{KeptBy: inspect.KeptByTag}, "tagged"},
		{inspect.Image{KeptBy: inspect.KeptByGrace, LastAccess: stamp.Time(time.UnixMilli(1000)), CreatedAt: pushed},
			"just pushed"},
		{inspect.Image{KeptBy: inspect.KeptByGrace, LastAccess: stamp.Time(time.UnixMilli(0).Add(time.Hour)),
			CreatedAt: pushed}, "just used"},
		{inspect.Image{KeptBy: inspect.KeptByParent}, "part of an index"},
		{inspect.Image{KeptBy: inspect.KeptBySubject}, "attached to an image"},
		{inspect.Image{KeptBy: inspect.KeptByTTL}, "used within the ttl"},
		{inspect.Image{}, ""},
	} {
		if got := reason(tt.row); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.row.KeptBy, got, tt.want)
		}
	}
}

func TestAPatternThatMatchesNothingSaysSo(t *testing.T) {
	w := inspecttest.New(t)
	w.Team()
	for _, o := range []view{{}, {Options: inspect.Options{Kind: inspect.Images}},
		{Options: inspect.Options{Kind: inspect.Tags, Limit: 3}},
		{Options: inspect.Options{Kind: inspect.Repositories}}, {histogram: true}} {
		o.Repository = "nosuch*"
		if got, want := shown(w, o), "no repository matches \"nosuch*\"\n"; got != want {
			t.Errorf("%+v: got\n%s", o, got)
		}
	}
	if out := shown(w, view{Options: inspect.Options{Repository: "lib/*"}}); !strings.HasPrefix(out, "DIGEST") {
		t.Errorf("got\n%s", out)
	}
}

// A tag that does not fit is counted, names keep both their ends, and what one can do without is left out first.
func TestEightyColumnsKeepNamesReadable(t *testing.T) {
	w := inspecttest.New(t)
	w.Manifest("company/platform/services/api-gateway", "m", manifest.Manifest{})
	for _, tag := range []string{"v1.10.2", "v1.10", "feature-JIRA-1234"} {
		w.Tag("company/platform/services/api-gateway", tag, "m")
	}
	out := shown(w, view{Options: inspect.Options{Kind: inspect.Images}, width: 80})
	lines := strings.Split(out, "\n")
	if got := strings.Fields(lines[0]); !reflect.DeepEqual(got,
		strings.Fields("REPOSITORY TAG DIGEST SIZE LAST ACCESS EXPIRES")) {
		t.Errorf("columns %q", got)
	}
	_, sum, _ := strings.Cut(string(inspecttest.Dgst("m")), ":")
	for _, want := range []string{"…/api-gateway ", " +2 more ", " " + sum[:12] + " "} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("%q is not in %q", want, lines[1])
		}
	}
}

// While a server compares its index with the disk, all that the index knows may be a small part.
func TestWhileTheIndexIsRebuiltEveryFormSaysSoFirst(t *testing.T) {
	s := inspecttest.NewShop(t)
	top := s.Fill()
	forms := map[string]func(format string) string{
		"blobs": func(format string) string { return shown(s.World, view{format: format}) },
		"images": func(format string) string {
			return shown(s.World, view{Options: inspect.Options{Kind: inspect.Images, Sort: inspect.ByName},
				format: format})
		},
		"histogram": func(format string) string { return shown(s.World, view{histogram: true, format: format}) },
		"image": func(format string) string {
			tree := readTree(s, "team/app@"+top.String())
			if format == formatJSON {
				data, err := json.Marshal(tree)
				s.Must(err)
				return string(data)
			}
			return drawn(s, tree, display{})
		},
	}
	said := func(whole bool) {
		t.Helper()
		for form, write := range forms {
			machine := write(formatJSON)
			first, _, _ := strings.Cut(write(formatTable), "\n")
			if strings.Contains(first, "incomplete") == whole {
				t.Errorf("%s, whole %v: the first line is %q", form, whole, first)
			}
			if key := map[bool]string{true: `"complete":true`, false: `"complete":false`}[whole]; strings.Count(machine,
				key) != 1 {
				t.Errorf("%s, whole %v: %s", form, whole, machine)
			}
		}
	}
	said(true)
	token, err := s.CloseGate(t.Context())
	s.Must(err)
	said(false)
	_, err = s.OpenGate(t.Context(), token)
	s.Must(err)
	said(true)
	s.Must(s.LeaveGate(t.Context())) // its server stopped, and nobody rebuilds it
	said(true)
}
