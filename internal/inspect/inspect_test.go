package inspect

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

var update = flag.Bool("update", false, "write the golden files")

func TestBlobs(t *testing.T) {
	w := newWorld(t)
	w.team()
	l := w.list(rules, Options{})
	if got, want := fmt.Sprint(*l.Summary.Tags, *l.Summary.Manifests, *l.Summary.Blobs, *l.Summary.Bytes),
		fmt.Sprint(3, 6, 14, 600+1000+(3<<20)+(5<<20)+2000+10+(1<<30)+20+7); got != want {
		t.Errorf("summary is %s, want %s", got, want)
	}
	var got []string
	for _, b := range l.Blobs {
		expires := "never"
		if b.ExpiresAt != nil {
			expires = *b.ExpiresAt
		}
		got = append(got, fmt.Sprintf("%s %s %d %s %s %s %v %d", nameOf(b.Digest), b.Kind, *b.Size, b.CreatedAt, b.LastAccess, expires, b.Repositories, *b.Manifests))
	}
	// app was pulled by tag on day 6: all of it was used then, wherever else it is.
	want := []string{
		blobLine("app-manifest", "manifest", 100, 0, 6*day, 6*day+life, "[app]", 0),
		blobLine("app-config", "config", 1000, 0, 6*day, 6*day+life, "[app]", 1),
		blobLine("base", "layer", 3<<20, 0, 6*day, 6*day+life, "[app lib/core]", 2),
		blobLine("app-1", "layer", 5<<20, 0, 6*day, 6*day+life, "[app]", 1),
		blobLine("core-manifest", "manifest", 100, day, day, day+life, "[lib/core]", 0),
		blobLine("core-1", "layer", 2000, day, day, day+life, "[lib/core]", 1),
		blobLine("core-signature", "manifest", 100, 2*day, 2*day, 2*day+life, "[lib/core]", 0),
		blobLine("signature", "layer", 10, 2*day, 2*day, 2*day+life, "[lib/core]", 1),
		blobLine("all-index", "index", 100, 3*day, 3*day, 3*day+life, "[multi]", 0),
		blobLine("amd", "manifest", 100, 3*day, 3*day, 3*day+life, "[multi]", 1),
		blobLine("arm", "manifest", 100, 3*day, 3*day, 3*day+life, "[multi]", 1),
		blobLine("data", "layer", 1<<30, 3*day, 3*day, 3*day+life, "[multi]", 2),
		blobLine("arm-1", "layer", 20, 3*day, 3*day, 3*day+life, "[multi]", 1),
		blobLine("loose", "layer", 7, 5*day, 5*day, 5*day+lease, "[scratch]", 0),
	}
	slices.Sort(want)
	inOrder := slices.IsSortedFunc(l.Blobs, func(a, b blobJSON) int { return strings.Compare(b.LastAccess, a.LastAccess) })
	if slices.Sort(got); !inOrder || !slices.Equal(got, want) {
		t.Errorf("sorted: %t; got\n%s\nwant\n%s", inOrder, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func blobLine(name, kind string, size int64, created, used, expires time.Duration, repos string, manifests int) string {
	return fmt.Sprintf("%s %s %d %s %s %s %s %d", name, kind, size, stamped(created), stamped(used), stamped(expires), repos, manifests)
}

// nameOf is the inverse of dgst for the things of the team.
func nameOf(d digest.Digest) string {
	for _, name := range strings.Fields("app-manifest app-config base app-1 core-manifest core-1 core-signature signature all-index amd arm data arm-1 loose never") {
		if dgst(name) == d {
			return name
		}
	}
	return d.String()
}

func TestImagesAndTags(t *testing.T) {
	w := newWorld(t)
	w.team()
	images, tags := w.list(rules, Options{Kind: Images, Sort: ByName}), w.list(rules, Options{Kind: Tags, Sort: ByName})
	check := func(what string, rows []imageJSON, want ...string) {
		var got []string
		for _, i := range rows {
			got = append(got, fmt.Sprintf("%s:%s %s %d %d %s %s %s", i.Repository, *i.Tag, nameOf(i.Digest), i.Size, i.UniqueBytes, i.LastAccess, *i.ExpiresAt, *i.KeptBy))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	line := func(name, manifest string, size, unique int64, used time.Duration, keptBy string) string {
		return fmt.Sprintf("%s %s %d %d %s %s %s", name, manifest, size, unique, stamped(used), stamped(used+life), keptBy)
	}
	const app, appOnly, multi = 100 + 1000 + 3<<20 + 5<<20, 100 + 1000 + 5<<20, 300 + 1<<30 + 20
	sig := line("lib/core:", "core-signature", 110, 110, 2*day, "subject")
	core := line("lib/core:", "core-manifest", 100+3<<20+2000, 100+2000+110, day, "ttl")
	if dgst("core-manifest") < dgst("core-signature") {
		sig, core = core, sig
	}
	check("images", images.Images, line("app:latest v1", "app-manifest", app, appOnly, 6*day, "tag"), sig, core, line("multi:all", "all-index", multi, multi, 3*day, "tag"))
	check("tags", tags.Tags, line("app:latest", "app-manifest", app, appOnly, 0, "tag"), line("app:v1", "app-manifest", app, appOnly, 6*day, "tag"),
		line("multi:all", "all-index", multi, multi, 3*day, "tag"))
	if mt := images.Images[len(images.Images)-1].MediaType; mt != ociIndex {
		t.Errorf("media type %q", mt)
	}
	if images.Blobs != nil || images.Tags != nil || tags.Images != nil || tags.Blobs != nil {
		t.Error("lists that nobody asked for")
	}
}

func TestKeptBy(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fill  func(*world)
		now   time.Duration
		image string
		want  string
	}{
		{"a tag keeps, however old", func(w *world) { w.manifest("a", "m", manifest.Manifest{}); w.tag("a", "v", "m") }, 99 * day, "m", KeptByTag},
		{"an untagged image was just pushed", func(w *world) { w.manifest("a", "m", manifest.Manifest{}) }, lease, "m", KeptByGrace},
		{"an untagged image is older than the grace", func(w *world) { w.manifest("a", "m", manifest.Manifest{}) }, lease + 1e6, "m", KeptByTTL},
		{"an untagged image is older than the ttl", func(w *world) { w.manifest("a", "m", manifest.Manifest{}) }, life + 1e6, "m", ""},
		{"a referrer of a living image", func(w *world) {
			w.manifest("a", "m", manifest.Manifest{})
			w.manifest("a", "r", manifest.Manifest{Subject: dgst("m")})
		}, 2 * day, "r", KeptBySubject},
		{"a referrer whose subject is in another repository", func(w *world) {
			w.manifest("b", "m", manifest.Manifest{})
			w.manifest("a", "r", manifest.Manifest{Subject: dgst("m")})
		}, 2 * day, "r", KeptByTTL},
		{"a child whose index is on its way", func(w *world) {
			w.manifest("a", "m", manifest.Manifest{})
			c := index.Claim{Key: layout.ManifestKey("a", dgst("i")), Content: &manifest.Manifest{References: []digest.Digest{dgst("m")}}}
			w.must(w.Claim(context.Background(), c))
		}, 0, "m", KeptByParent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.fill(w)
			w.at(tt.now)
			for _, i := range w.list(rules, Options{Kind: Images}).Images {
				if i.Digest == dgst(tt.image) {
					if *i.KeptBy != tt.want {
						t.Errorf("kept by %q, want %q", *i.KeptBy, tt.want)
					}
					return
				}
			}
			t.Error("not listed")
		})
	}
}

func TestWhatAnotherRepositoryHoldsIsNotUnique(t *testing.T) {
	w := newWorld(t)
	w.blob("a", "l", 5)
	w.manifest("a", "m", manifest.Manifest{}, "l")
	unique := func() int64 { return w.list(rules, Options{Kind: Images, Repository: "a"}).Images[0].UniqueBytes }
	if got := unique(); got != 105 {
		t.Errorf("alone: %d", got)
	}
	w.blob("b", "l", 5)
	if got := unique(); got != 100 {
		t.Errorf("beside a link that no manifest names yet: %d", got)
	}
	w.manifest("b", "m", manifest.Manifest{}, "l")
	if got := unique(); got != 0 {
		t.Errorf("beside the same image: %d", got)
	}
}

func TestManifestsThatNameEachOtherAreOneImage(t *testing.T) {
	w := newWorld(t)
	w.blob("a", "l", 5)
	w.manifest("a", "m1", manifest.Manifest{}, "m2", "l")
	w.at(day).manifest("a", "m2", manifest.Manifest{}, "m1")
	l := w.list(rules, Options{Kind: Images})
	if len(l.Images) != 1 || l.Images[0].Size != 205 || l.Images[0].UniqueBytes != 205 || *l.Images[0].KeptBy != KeptByParent {
		t.Errorf("%+v", l.Images)
	}
	for _, b := range w.list(rules, Options{}).Blobs {
		if b.LastAccess != stamped(day) {
			t.Errorf("%+v", b)
		}
	}
}

func TestNeverExpires(t *testing.T) {
	w := newWorld(t)
	w.team()
	forever := rules
	forever.TTL = 0
	for _, b := range w.list(forever, Options{}).Blobs {
		if loose := b.Digest == dgst("loose"); loose != (b.ExpiresAt != nil) {
			t.Errorf("%s expires at %v", nameOf(b.Digest), b.ExpiresAt)
		}
	}
	for _, i := range append(w.list(forever, Options{Kind: Images}).Images, w.list(forever, Options{Kind: Tags}).Tags...) {
		if i.ExpiresAt != nil {
			t.Errorf("%s expires at %v", nameOf(i.Digest), *i.ExpiresAt)
		}
	}
}

func TestABlobThatNothingHoldsIsListed(t *testing.T) {
	w := newWorld(t)
	w.place(index.Claim{Key: layout.BlobKey(dgst("x")), Size: 3})
	b := w.list(rules, Options{}).Blobs
	if len(b) != 1 || b[0].Kind != "other" || b[0].Repositories == nil || len(b[0].Repositories) != 0 || *b[0].ExpiresAt != stamped(lease) {
		t.Errorf("%+v", b)
	}
}

func TestAnEmptyStore(t *testing.T) {
	w := newWorld(t)
	for _, k := range []Kind{Blobs, Images, Tags} {
		var out bytes.Buffer
		w.must(Write(t.Context(), w, rules, Options{Kind: k}, Output{To: &out, Format: JSON}))
		want := fmt.Sprintf(`{"summary":{"tags":0,"manifests":0,"blobs":0,"bytes":0,"expiring_1d_bytes":0,"expiring_7d_bytes":0,"untagged_bytes":0,"complete":true},"%s":[]}`+"\n", k)
		if out.String() != want {
			t.Errorf("got %s want %s", out.String(), want)
		}
	}
}

func TestOrderAndSelection(t *testing.T) {
	w := newWorld(t)
	w.team()
	names := func(o Options) string {
		var all []string
		for _, b := range w.list(rules, o).Blobs {
			all = append(all, nameOf(b.Digest))
		}
		return strings.Join(all, " ")
	}
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"the largest", Options{Sort: BySize, Limit: 3}, "data app-1 base"},
		{"the smallest", Options{Sort: BySize, Limit: 2, Reverse: true}, "loose signature"},
		{"the newest", Options{Sort: ByCreated, Limit: 1}, "loose"},
		{"the longest unused", Options{Limit: 2, Reverse: true, Repository: "lib/*", Sort: BySize}, "signature core-signature"},
		{"of one repository", Options{Repository: "scratch"}, "loose"},
		{"of no repository", Options{Repository: "lib"}, ""},
	} {
		if got := names(tt.o); got != tt.want && !(tt.o.Repository == "lib/*" && strings.HasPrefix(got, "signature ")) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if s := w.list(rules, Options{Repository: "l*/*", Limit: 1}).Summary; *s.Tags != 0 || *s.Manifests != 2 || *s.Blobs != 5 || *s.Bytes != 200+3<<20+2000+10 {
		t.Errorf("summary of a selection: %d %d %d %d", *s.Tags, *s.Manifests, *s.Blobs, *s.Bytes)
	}
	whole := strings.Fields(names(Options{Sort: ByName}))
	if !slices.IsSortedFunc(whole, func(a, b string) int { return strings.Compare(string(dgst(a)), string(dgst(b))) }) || len(whole) != 14 {
		t.Errorf("by name: %v", whole)
	}
	for n := range 16 { // the limit cuts the list, and nothing else
		if got := strings.Fields(names(Options{Sort: ByName, Limit: n})); n > 0 && !slices.Equal(got, whole[:min(n, 14)]) {
			t.Errorf("limit %d: %v", n, got)
		}
	}
	for _, bad := range []Options{{Sort: "age"}, {Limit: -1}, {Repository: "a["}} {
		var oe *OptionError
		if err := Write(t.Context(), w, rules, bad, Output{To: io.Discard}); !errors.As(err, &oe) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"app", "app", true}, {"app", "app2", false}, {"app", "app/x", false},
		{"*", "app", true}, {"*", "team/app", false}, {"team/*", "team/app", true}, {"team/*", "team/a/b", false}, {"team/*", "team", false},
		{"team/**", "team/a/b", true}, {"team/**", "team", true}, {"team/**", "teams/a", false},
		{"**", "a/b/c", true}, {"**/app", "app", true}, {"**/app", "a/b/app", true}, {"**/app", "a/b/app2", false},
		{"a/**/z", "a/z", true}, {"a/**/z", "a/b/c/z", true}, {"a/**/z", "a/b/c", false}, {"a?p", "app", true}, {"[a-c]pp", "bpp", true},
	} {
		g, err := compileGlob(tt.pattern)
		if got := g.match(tt.name); got != tt.want || err != nil {
			t.Errorf("%s matches %s: %t, %v", tt.pattern, tt.name, got, err)
		}
	}
}

func TestCSV(t *testing.T) {
	w := newWorld(t)
	w.team()
	for _, k := range []Kind{Blobs, Images, Tags} {
		var out bytes.Buffer
		w.must(Write(t.Context(), w, rules, Options{Kind: k, Sort: ByName}, Output{To: &out, Format: CSV}))
		records, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if k == Images && !slices.Contains(records[1], "latest v1") || len(records) != map[Kind]int{Blobs: 15, Images: 5, Tags: 4}[k] {
			t.Errorf("%s: %q", k, records)
		}
		typ := reflect.TypeFor[Image]()
		if k == Blobs {
			typ = reflect.TypeFor[Blob]()
		}
		var keys []string
		for i := range typ.NumField() {
			if key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); key != "" && (key != "tags" || k == Images) {
				keys = append(keys, key)
			}
		}
		if !slices.Equal(records[0], keys) {
			t.Errorf("%s: columns %q, JSON keys %q", k, records[0], keys)
		}
	}
}

func TestTables(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.manifest("team/a-rather-long-name-of-a/repository", "long", manifest.Manifest{}, "base")
	w.tag("team/a-rather-long-name-of-a/repository", "2026-01-07-nightly-build", "long")
	w.at(7 * day)
	for _, k := range []Kind{Blobs, Images, Tags} {
		for _, width := range []int{0, 80, 120} {
			var out bytes.Buffer
			w.must(Write(t.Context(), w, rules, Options{Kind: k}, Output{To: &out, Width: width}))
			golden(t, fmt.Sprintf("%s-%d.txt", k, width), out.Bytes())
			for _, line := range strings.Split(out.String(), "\n") {
				if width > 0 && utf8.RuneCountInString(line) > width || strings.TrimRight(line, " ") != line || strings.Contains(line, "\x1b") {
					t.Errorf("%s at %d: %q", k, width, line)
				}
			}
		}
	}
	var out bytes.Buffer
	w.must(Write(t.Context(), w, rules, Options{Limit: 3, Sort: BySize, Reverse: true}, Output{To: &out, Colour: true}))
	golden(t, "coloured.txt", out.Bytes())
}

func TestHistogram(t *testing.T) {
	w := newWorld(t)
	w.team()
	for _, width := range []int{0, 80, 120} {
		var out bytes.Buffer
		w.must(Write(t.Context(), w, rules, Options{Histogram: true}, Output{To: &out, Width: width}))
		golden(t, fmt.Sprintf("histogram-%d.txt", width), out.Bytes())
	}
	var j, c bytes.Buffer
	w.must(Write(t.Context(), w, rules, Options{Histogram: true, Repository: "multi"}, Output{To: &j, Format: JSON}))
	w.must(Write(t.Context(), w, rules, Options{Histogram: true, Repository: "multi"}, Output{To: &c, Format: CSV}))
	// All of multi was used on day 3, and it is day 6.
	const bytes = 300 + 1<<30 + 20
	last := fmt.Sprintf(`{"from_seconds":172800,"until_seconds":345600,"blobs":5,"bytes":%d}]}`+"\n", bytes)
	if got := j.String(); !strings.HasSuffix(got, last) || !strings.HasPrefix(got, `{"summary":{"tags":1,"manifests":3,"blobs":5,"bytes":`) {
		t.Errorf("got %s want it to end with %s", got, last)
	}
	records, err := csv.NewReader(&c).ReadAll()
	if err != nil || len(records) != 6 || strings.Join(records[0], " ") != "from_seconds until_seconds blobs bytes" ||
		strings.Join(records[5], " ") != fmt.Sprint("172800 345600 5 ", bytes) {
		t.Errorf("%v, %v", records, err)
	}
	w.at(2 * 365 * day)
	j.Reset()
	w.must(Write(t.Context(), w, rules, Options{Histogram: true, Repository: "multi"}, Output{To: &j, Format: JSON}))
	if want := fmt.Sprintf(`{"from_seconds":31536000,"until_seconds":null,"blobs":5,"bytes":%d}]}`, bytes); !strings.Contains(j.String(), want) {
		t.Errorf("after two years: got %s want %s in it", j.String(), want)
	}
}

// TestFigures compares what is summed up with the rows.
func TestFigures(t *testing.T) {
	w := newWorld(t)
	w.team()
	w.at(29 * day)
	p := rules
	var within = map[time.Duration]int64{}
	for _, b := range w.list(p, Options{}).Blobs {
		for _, span := range []time.Duration{day, week} {
			if b.ExpiresAt != nil && *b.ExpiresAt <= stamped(29*day+span) {
				within[span] += *b.Size
			}
		}
	}
	const untagged = 200 + 2000 + 10 + 7 // of lib/core, but for the layer that app has too; and scratch
	for _, o := range []Options{{}, {Limit: 2}, {Kind: Images}, {Kind: Images, Limit: 1}, {Histogram: true}} {
		var out bytes.Buffer
		w.must(Write(t.Context(), w, p, o, Output{To: &out}))
		want := fmt.Sprintf("due for removal within 1 day: %s, within 7 days: %s; untagged: %s\n", ui.Bytes(within[day]), ui.Bytes(within[week]), ui.Bytes(untagged))
		if !strings.HasSuffix(out.String(), want) || within[day] == 0 || within[week] <= within[day] {
			t.Errorf("%+v: got\n%s\nwant it to end with %s", o, out.String(), want)
		}
	}
}

// Names may have every character of the grammar, and a tag many: who parses the output gets them back.
func TestEveryNameComesBack(t *testing.T) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	repos := []string{letters, "a.b_c__d-e--f/g.h/0", "x---y/z__1"}
	tags := []string{"_" + letters + strings.ToUpper(letters[:26]) + "._-", "0", "latest", "-", "v1.2.3-rc.1_amd64"}
	tags[3] = "A-"
	w := newWorld(t)
	want := map[string]bool{}
	for i, repo := range repos {
		for _, tag := range tags {
			m := fmt.Sprint("m", i)
			w.manifest(repo, m, manifest.Manifest{})
			w.tag(repo, tag, m)
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
	for _, row := range w.list(rules, Options{Kind: Tags}).Tags {
		got[row.Repository+" "+*row.Tag] = true
	}
	check("JSON", got)
	for _, kind := range []Kind{Tags, Images} {
		var out bytes.Buffer
		w.must(Write(t.Context(), w, rules, Options{Kind: kind}, Output{To: &out, Format: CSV}))
		records, err := csv.NewReader(&out).ReadAll()
		w.must(err)
		got = map[string]bool{}
		for _, r := range records[1:] {
			for tag := range strings.FieldsSeq(r[1]) {
				got[r[0]+" "+tag] = true
			}
		}
		check("CSV of "+string(kind), got)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %v; got\n%s\nwant\n%s", name, err, got, want)
	}
}

// TestExpiresWhenItSays lets random stores age, and retires what can be retired as an expiry run does:
// what is left is what was said to be left.
func TestExpiresWhenItSays(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := index.Policy{TTL: time.Duration(rnd.IntN(4)) * 5 * day, Grace: time.Duration(1+rnd.IntN(6)) * day, Resolution: time.Minute}
		end := w.live(rnd)
		said := w.list(p, Options{})
		for at := end; at < end+30*day; at += time.Duration(rnd.Int64N(int64(4 * day))) {
			w.at(at).retire(p)
			left := map[digest.Digest]bool{}
			for _, b := range w.list(p, Options{}).Blobs {
				left[b.Digest] = true
			}
			for _, b := range said.Blobs {
				if want := b.ExpiresAt == nil || stamped(at) <= *b.ExpiresAt; left[b.Digest] != want {
					t.Fatalf("seed %d, %s: there %t; it was to go at %v; %+v", seed, stamped(at), left[b.Digest], b.ExpiresAt, b)
				}
			}
		}
	}
}

// live is a random life of a store. It returns when it ended.
func (w *world) live(rnd *rand.Rand) (at time.Duration) {
	ctx := context.Background()
	repos, layers, manifests := []string{"a", "b"}, strings.Fields("l1 l2 l3 l4"), strings.Fields("m1 m2 m3 m4 m5 m6")
	one := func(of []string) string { return of[rnd.IntN(len(of))] }
	// What a manifest says follows from its digest.
	content := map[string]func() (manifest.Manifest, []string){
		"m1": func() (manifest.Manifest, []string) { return manifest.Manifest{Config: dgst("l1")}, []string{"l2"} },
		"m2": func() (manifest.Manifest, []string) { return manifest.Manifest{}, []string{"l2", "l3"} },
		"m3": func() (manifest.Manifest, []string) {
			return manifest.Manifest{MediaType: ociIndex}, []string{"m1", "m2"}
		},
		"m4": func() (manifest.Manifest, []string) { return manifest.Manifest{Subject: dgst("m3")}, []string{"l4"} },
		"m6": func() (manifest.Manifest, []string) { return manifest.Manifest{}, []string{"l1", "l4"} },
		"m5": func() (manifest.Manifest, []string) { return manifest.Manifest{Subject: dgst("m2")}, []string{"m4"} },
	}
	for range 10 + rnd.IntN(30) {
		at += time.Duration(rnd.Int64N(int64(2 * day))).Truncate(time.Second)
		w.at(at)
		repo := one(repos)
		switch rnd.IntN(7) {
		case 0:
			w.blob(repo, one(layers), 5)
		case 1, 2:
			name := one(manifests)
			c, names := content[name]()
			w.manifest(repo, name, c, names...)
		case 3:
			if m := one(manifests); w.has(layout.ManifestKey(repo, dgst(m))) {
				w.tag(repo, one([]string{"t", "u"}), m)
			}
		case 4:
			_, err := w.Lease(ctx, []layout.Key{layout.TagKey(repo, "t"), layout.ManifestKey(repo, dgst(one(manifests))), layout.LayerKey(repo, dgst(one(layers)))}[rnd.IntN(3)])
			w.must(err)
		case 5:
			w.must(w.DeleteTag(ctx, repo, "u", nop))
		case 6: // A push that breaks off. Of manifests that keep no others: when a claim goes together with
			// what it keeps, the last use of the claim is lost, and when it goes before, it is inherited.
			name := one([]string{"m1", "m6"})
			c, names := content[name]()
			for _, n := range names {
				c.References = append(c.References, dgst(n))
			}
			if c.Config != "" {
				c.References = append(c.References, c.Config)
			}
			w.must(w.Claim(ctx, index.Claim{Key: layout.ManifestKey(repo, dgst(name)), Size: 100, Content: &c}))
		}
	}
	return at
}

func (w *world) has(k layout.Key) (found bool) {
	w.must(w.View(context.Background(), func(r index.Reader) error {
		row, err := r.Row(k)
		found = row != nil
		return err
	}))
	return found
}
