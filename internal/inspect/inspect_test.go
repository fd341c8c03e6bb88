package inspect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

func TestBlobs(t *testing.T) {
	w := newWorld(t)
	w.Team()
	l := w.list(inspecttest.Rules, Options{})
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
		got = append(got, fmt.Sprintf("%s %s %d %s %s %s %v %d", nameOf(b.Digest), b.Kind, *b.Size, b.CreatedAt,
			b.LastAccess, expires, b.Repositories, *b.Manifests))
	}
	// app was pulled by tag on day 6: all of it was used then, wherever else it is.
	want := []string{
		blobLine("app-manifest", "manifest", 100, 0, 6*day, 6*day+inspecttest.Life, "[app]", 0),
		blobLine("app-config", "config", 1000, 0, 6*day, 6*day+inspecttest.Life, "[app]", 1),
		blobLine("base", "layer", 3<<20, 0, 6*day, 6*day+inspecttest.Life, "[app lib/core]", 2),
		blobLine("app-1", "layer", 5<<20, 0, 6*day, 6*day+inspecttest.Life, "[app]", 1),
		blobLine("core-manifest", "manifest", 100, day, day, day+inspecttest.Life, "[lib/core]", 0),
		blobLine("core-1", "layer", 2000, day, day, day+inspecttest.Life, "[lib/core]", 1),
		blobLine("core-signature", "manifest", 100, 2*day, 2*day, 2*day+inspecttest.Life, "[lib/core]", 0),
		blobLine("signature", "layer", 10, 2*day, 2*day, 2*day+inspecttest.Life, "[lib/core]", 1),
		blobLine("all-index", "index", 100, 3*day, 3*day, 3*day+inspecttest.Life, "[multi]", 0),
		blobLine("amd", "manifest", 100, 3*day, 3*day, 3*day+inspecttest.Life, "[multi]", 1),
		blobLine("arm", "manifest", 100, 3*day, 3*day, 3*day+inspecttest.Life, "[multi]", 1),
		blobLine("data", "layer", 1<<30, 3*day, 3*day, 3*day+inspecttest.Life, "[multi]", 2),
		blobLine("arm-1", "layer", 20, 3*day, 3*day, 3*day+inspecttest.Life, "[multi]", 1),
		blobLine("loose", "layer", 7, 5*day, 5*day, 5*day+inspecttest.Lease, "[scratch]", 0),
	}
	slices.Sort(want)
	inOrder := slices.IsSortedFunc(l.Blobs, func(a, b blobJSON) int {
		return strings.Compare(b.LastAccess,
			a.LastAccess)
	})
	if slices.Sort(got); !inOrder || !slices.Equal(got, want) {
		t.Errorf("sorted: %t; got\n%s\nwant\n%s", inOrder, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func blobLine(name, kind string, size int64, created, used, expires time.Duration, repos string, manifests int) string {
	return fmt.Sprintf("%s %s %d %s %s %s %s %d", name, kind, size, inspecttest.Stamped(created),
		inspecttest.Stamped(used), inspecttest.Stamped(expires), repos, manifests)
}

// nameOf is the inverse of dgst for the things of the team.
func nameOf(d digest.Digest) string {
	for _, name := range strings.Fields("app-manifest app-config base app-1 core-manifest core-1 core-signature signature all-index amd arm data arm-1 loose never") {
		if inspecttest.Dgst(name) == d {
			return name
		}
	}
	return d.String()
}

func TestImagesAndTags(t *testing.T) {
	w := newWorld(t)
	w.Team()
	images, tags := w.list(inspecttest.Rules, Options{Kind: Images, Sort: ByName}), w.list(inspecttest.Rules,
		Options{Kind: Tags, Sort: ByName})
	check := func(what string, rows []imageJSON, want ...string) {
		var got []string
		for _, i := range rows {
			got = append(got, fmt.Sprintf("%s:%s %s %d %d %s %s %s", i.Repository, *i.Tag, nameOf(i.Digest), i.Size,
				i.UniqueBytes, i.LastAccess, *i.ExpiresAt, *i.KeptBy))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	line := func(name, manifest string, size, unique int64, used time.Duration, keptBy string) string {
		return fmt.Sprintf("%s %s %d %d %s %s %s", name, manifest, size, unique, inspecttest.Stamped(used),
			inspecttest.Stamped(used+inspecttest.Life), keptBy)
	}
	const app, appOnly, multi = 100 + 1000 + 3<<20 + 5<<20, 100 + 1000 + 5<<20, 300 + 1<<30 + 20
	// with its signature, which is no row
	core := line("lib/core:", "core-manifest", 100+3<<20+2000, 100+2000+110, day, "ttl")
	check("images", images.Images, line("app:latest v1", "app-manifest", app, appOnly, 6*day, "tag"), core,
		line("multi:all", "all-index", multi, multi, 3*day, "tag"))
	check("tags", tags.Tags, line("app:latest", "app-manifest", app, appOnly, 6*day, "tag"),
		line("app:v1", "app-manifest", app, appOnly, 6*day, "tag"),
		line("multi:all", "all-index", multi, multi, 3*day, "tag"))
	if mt := images.Images[len(images.Images)-1].MediaType; mt != inspecttest.OCIIndex {
		t.Errorf("media type %q", mt)
	}
	if images.Blobs != nil || images.Tags != nil || tags.Images != nil || tags.Blobs != nil {
		t.Error("lists that nobody asked for")
	}
}

func TestKeptBy(t *testing.T) {
	const notListed = "not listed"
	for _, tt := range []struct {
		name  string
		fill  func(*world)
		now   time.Duration
		image string
		want  string
	}{
		{"a tag keeps, however old", func(w *world) { w.Manifest("a", "m", manifest.Manifest{}); w.Tag("a", "v", "m") },
			99 * day, "m", KeptByTag},
		{"an untagged image was just pushed", func(w *world) { w.Manifest("a", "m", manifest.Manifest{}) },
			inspecttest.Lease, "m", KeptByGrace},
		{"an untagged image is older than the grace", func(w *world) { w.Manifest("a", "m", manifest.Manifest{}) },
			inspecttest.Lease + 1e6, "m", KeptByTTL},
		{"an untagged image is older than the ttl", func(w *world) { w.Manifest("a", "m", manifest.Manifest{}) },
			inspecttest.Life + 1e6, "m", ""},
		{"a referrer of a living image is a part of it", func(w *world) {
			w.Manifest("a", "m", manifest.Manifest{})
			w.Manifest("a", "r", manifest.Manifest{Subject: inspecttest.Dgst("m")})
		}, 2 * day, "r", notListed},
		{"a referrer with a tag", func(w *world) {
			w.Manifest("a", "m", manifest.Manifest{})
			w.Manifest("a", "r", manifest.Manifest{Subject: inspecttest.Dgst("m")})
			w.Tag("a", "sig", "r")
		}, 2 * day, "r", KeptByTag},
		{"a referrer whose subject is on its way", func(w *world) {
			w.Must(w.Claim(context.Background(), index.Claim{Key: layout.ManifestKey("a", inspecttest.Dgst("m")),
				Manifest: &manifest.Manifest{}}))
			w.Manifest("a", "r", manifest.Manifest{Subject: inspecttest.Dgst("m")})
		}, 0, "r", KeptBySubject},
		{"a referrer whose subject is in another repository", func(w *world) {
			w.Manifest("b", "m", manifest.Manifest{})
			w.Manifest("a", "r", manifest.Manifest{Subject: inspecttest.Dgst("m")})
		}, 2 * day, "r", KeptByTTL},
		{"a child whose index is on its way", func(w *world) {
			w.Manifest("a", "m", manifest.Manifest{})
			c := index.Claim{Key: layout.ManifestKey("a", inspecttest.Dgst("i")),
				Manifest: &manifest.Manifest{References: []digest.Digest{inspecttest.Dgst("m")}}}
			w.Must(w.Claim(context.Background(), c))
		}, 0, "m", KeptByParent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.fill(w)
			w.At(tt.now)
			got := notListed
			for _, i := range w.list(inspecttest.Rules, Options{Kind: Images}).Images {
				if i.Digest == inspecttest.Dgst(tt.image) {
					got = *i.KeptBy
				}
			}
			if got != tt.want {
				t.Errorf("kept by %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhatAnotherRepositoryHoldsIsNotUnique(t *testing.T) {
	w := newWorld(t)
	w.Blob("a", "l", 5)
	w.Manifest("a", "m", manifest.Manifest{}, "l")
	unique := func() int64 {
		return w.list(inspecttest.Rules, Options{Kind: Images, Repository: "a"}).Images[0].UniqueBytes
	}
	if got := unique(); got != 105 {
		t.Errorf("alone: %d", got)
	}
	w.Blob("b", "l", 5)
	if got := unique(); got != 100 {
		t.Errorf("beside a link that no manifest names yet: %d", got)
	}
	w.Manifest("b", "m", manifest.Manifest{}, "l")
	if got := unique(); got != 0 {
		t.Errorf("beside the same image: %d", got)
	}
}

// No digest can be in what it is the digest of, but an index may say so: a listing ends, and shows each blob.
func TestAListingOfManifestsThatNameEachOtherEnds(t *testing.T) {
	w := newWorld(t)
	w.Blob("a", "l", 5)
	w.Manifest("a", "m1", manifest.Manifest{}, "m2", "l")
	w.At(day).Manifest("a", "m2", manifest.Manifest{}, "m1")
	for _, limit := range []int{0, 3} {
		w.list(inspecttest.Rules, Options{Kind: Images, Limit: limit})
		blobs := w.list(inspecttest.Rules, Options{Limit: limit}).Blobs
		if len(blobs) != 3 {
			t.Errorf("%+v", blobs)
		}
		for _, b := range blobs {
			if b.LastAccess != inspecttest.Stamped(day) {
				t.Errorf("%+v", b)
			}
		}
	}
}

func TestNeverExpires(t *testing.T) {
	w := newWorld(t)
	w.Team()
	forever := inspecttest.Rules
	forever.TTL = 0
	for _, b := range w.list(forever, Options{}).Blobs {
		if loose := b.Digest == inspecttest.Dgst("loose"); loose != (b.ExpiresAt != nil) {
			t.Errorf("%s expires at %v", nameOf(b.Digest), b.ExpiresAt)
		}
	}
	for _, i := range append(w.list(forever, Options{Kind: Images}).Images,
		w.list(forever, Options{Kind: Tags}).Tags...) {
		if i.ExpiresAt != nil {
			t.Errorf("%s expires at %v", nameOf(i.Digest), *i.ExpiresAt)
		}
	}
}

func TestABlobThatNothingHoldsIsListed(t *testing.T) {
	w := newWorld(t)
	w.Put(index.Claim{Key: layout.BlobKey(inspecttest.Dgst("x")), Size: 3})
	b := w.list(inspecttest.Rules, Options{}).Blobs
	if len(b) != 1 || b[0].Kind != "other" || b[0].Repositories == nil || len(b[0].Repositories) != 0 ||
		*b[0].ExpiresAt != inspecttest.Stamped(inspecttest.Lease) {
		t.Errorf("%+v", b)
	}
}

func TestOrderAndSelection(t *testing.T) {
	w := newWorld(t)
	w.Team()
	names := func(o Options) string {
		var all []string
		for _, b := range w.list(inspecttest.Rules, o).Blobs {
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
		{"the longest unused", Options{Limit: 2, Reverse: true, Repository: "lib/*", Sort: BySize},
			"signature core-signature"},
		{"of one repository", Options{Repository: "scratch"}, "loose"},
		{"of no repository", Options{Repository: "lib"}, ""},
	} {
		if got := names(tt.o); got != tt.want && !(tt.o.Repository == "lib/*" && strings.HasPrefix(got, "signature ")) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if s := w.list(inspecttest.Rules, Options{Repository: "l*/*", Limit: 1}).Summary; *s.Tags != 0 ||
		*s.Manifests != 2 || *s.Blobs != 5 || *s.Bytes != 200+3<<20+2000+10 {
		t.Errorf("summary of a selection: %d %d %d %d", *s.Tags, *s.Manifests, *s.Blobs, *s.Bytes)
	}
	whole := strings.Fields(names(Options{Sort: ByName}))
	if !slices.IsSortedFunc(whole, func(a, b string) int {
		return strings.Compare(string(inspecttest.Dgst(a)), string(inspecttest.Dgst(b)))
	}) || len(whole) != 14 {
		t.Errorf("by name: %v", whole)
	}
	for n := range 16 { // the limit cuts the list, and nothing else
		if got := strings.Fields(names(Options{Sort: ByName, Limit: n})); n > 0 &&
			!slices.Equal(got, whole[:min(n, 14)]) {
			t.Errorf("limit %d: %v", n, got)
		}
	}
	for _, bad := range []Options{{Sort: "age"}, {Limit: -1}, {Repository: "a["}} {
		var oe *OptionError
		if _, err := List(t.Context(), w, inspecttest.Rules, bad); !errors.As(err, &oe) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestExpiresWhenItSays lets random stores age, and retires what can be retired as a run does:
// what is left is what was said to be left.
func TestExpiresWhenItSays(t *testing.T) {
	for seed := range uint64(150) {
		w := newWorld(t)
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := index.Policy{TTL: time.Duration(rnd.IntN(4)) * 5 * day, Grace: time.Duration(1+rnd.IntN(6)) * day,
			Resolution: time.Minute, Rules: someRules(rnd)}
		end := w.live(rnd)
		said := w.list(p, Options{})
		for at := end; at < end+30*day; at += time.Duration(rnd.Int64N(int64(4 * day))) {
			w.At(at)
			w.retire(p)
			left := map[digest.Digest]bool{}
			for _, b := range w.list(p, Options{}).Blobs {
				left[b.Digest] = true
			}
			for _, b := range said.Blobs {
				if want := b.ExpiresAt == nil || inspecttest.Stamped(at) <= *b.ExpiresAt; left[b.Digest] != want {
					t.Fatalf("seed %d, %s: there %t; it was to go at %v; %s %+v\n%s", seed, inspecttest.Stamped(at),
						left[b.Digest], text(b.ExpiresAt), nameOf(b.Digest), b, text(p))
				}
			}
		}
	}
}

// someRules are random ones for the repositories and tags of live; often none.
func someRules(rnd *rand.Rand) (rs rule.Rules) {
	one := func(of ...string) string { return of[rnd.IntN(len(of))] }
	days := func() *time.Duration { d := time.Duration(rnd.IntN(20)) * day; return &d }
	for range max(0, rnd.IntN(8)-2) {
		r := rule.Rule{Repository: one("", "a", "b", "**"), Tag: one("", "", "t", "u", "[tu]", "sha256-*")}
		switch rnd.IntN(5) {
		case 0:
			keep := rnd.IntN(3) > 0
			r.Keep = &keep
		case 1, 2:
			r.TTL = days()
		case 3:
			last := rnd.IntN(3)
			r.KeepLast = &last
		case 4:
			r.Tag, r.UntaggedTTL = "", days()
		}
		rs = append(rs, r)
	}
	return rs
}

// live is a random inspecttest.Life of a store. It returns when it ended.
func (w *world) live(rnd *rand.Rand) (at time.Duration) {
	ctx := context.Background()
	repos, layers, manifests := []string{"a", "b"}, strings.Fields("l1 l2 l3 l4"), strings.Fields("m1 m2 m3 m4 m5 m6")
	one := func(of []string) string { return of[rnd.IntN(len(of))] }
	// What a manifest says follows from its digest.
	content := map[string]func() (manifest.Manifest, []string){
		"m1": func() (manifest.Manifest, []string) {
			return manifest.Manifest{Config: inspecttest.Dgst("l1")}, []string{"l2"}
		},
		"m2": func() (manifest.Manifest, []string) { return manifest.Manifest{}, []string{"l2", "l3"} },
		"m3": func() (manifest.Manifest, []string) {
			return manifest.Manifest{MediaType: inspecttest.OCIIndex}, []string{"m1", "m2"}
		},
		"m4": func() (manifest.Manifest, []string) {
			return manifest.Manifest{Subject: inspecttest.Dgst("m3")}, []string{"l4"}
		},
		"m6": func() (manifest.Manifest, []string) { return manifest.Manifest{}, []string{"l1", "l4"} },
		"m5": func() (manifest.Manifest, []string) {
			return manifest.Manifest{Subject: inspecttest.Dgst("m2")}, []string{"m4"}
		},
	}
	for range 10 + rnd.IntN(30) {
		at += time.Duration(rnd.Int64N(int64(2 * day))).Truncate(time.Second)
		w.At(at)
		repo := one(repos)
		switch rnd.IntN(7) {
		case 0:
			w.Blob(repo, one(layers), 5)
		case 1, 2:
			name := one(manifests)
			c, names := content[name]()
			w.Manifest(repo, name, c, names...)
		case 3:
			if m := one(manifests); w.has(layout.ManifestKey(repo, inspecttest.Dgst(m))) {
				about := strings.Replace(inspecttest.Dgst(one(manifests)).String(), ":", "-", 1)
				w.Tag(repo, one([]string{"t", "u", "t", "u", about, about + ".sig"}), m)
			}
		case 4:
			_, err := w.Lease(ctx, []layout.Key{layout.TagKey(repo, "t"),
				layout.ManifestKey(repo, inspecttest.Dgst(one(manifests))), layout.LayerKey(repo,
					inspecttest.Dgst(one(layers)))}[rnd.IntN(3)])
			w.Must(err)
		case 5:
			w.Must(w.DeleteTag(ctx, repo, "u", inspecttest.Nop))
		case 6: // A push that breaks off. Of manifests that keep no others: when a claim goes together with
			// what it keeps, the last use of the claim is lost, and when it goes before, it is inherited.
			name := one([]string{"m1", "m6"})
			c, names := content[name]()
			for _, n := range names {
				c.References = append(c.References, inspecttest.Dgst(n))
			}
			if c.Config != "" {
				c.References = append(c.References, c.Config)
			}
			w.Must(w.Claim(ctx, index.Claim{Key: layout.ManifestKey(repo, inspecttest.Dgst(name)), Size: 100,
				Manifest: &c}))
		}
	}
	w.pinSome(rnd)
	return at
}

// pinSome pins tags and manifests at random, some until a day to come; often none.
func (w *world) pinSome(rnd *rand.Rand) {
	w.T.Helper()
	var rows []index.Row
	w.Must(w.View(w.T.Context(), func(r index.Reader) error {
		add := func(r index.Row) error { rows = append(rows, r); return nil }
		return errors.Join(r.Each(layout.Tag, add), r.Each(layout.Manifest, add))
	}))
	var pins []index.Pin
	for range min(len(rows), max(0, rnd.IntN(5)-2)) {
		p := index.Pin{Key: rows[rnd.IntN(len(rows))].Key, Made: w.Now()}
		if rnd.IntN(2) == 0 {
			p.Until = w.Now().Add(time.Duration(1+rnd.IntN(25)) * day)
		}
		pins = append(pins, p)
	}
	w.Must(w.SetPins(w.T.Context(), pins...))
}

func (w *world) has(k layout.Key) (found bool) {
	w.Must(w.View(context.Background(), func(r index.Reader) error {
		row, err := r.Row(k)
		found = row != nil
		return err
	}))
	return found
}

// What a repository has, and what it would free, follow from the blobs that can be pulled from it.
func TestRepositories(t *testing.T) {
	w := newWorld(t)
	w.Team()
	lines := func(o Options) (all []string) {
		o.Kind = Repositories
		for _, r := range w.list(inspecttest.Rules, o).Repositories {
			all = append(all, fmt.Sprintf("%s %d %d %d %s", r.Repository, r.Images, r.Size, r.UniqueBytes,
				r.LastAccess))
		}
		return all
	}
	line := func(name string, images, size, unique int64, used time.Duration) string {
		return fmt.Sprintf("%s %d %d %d %s", name, images, size, unique, inspecttest.Stamped(used))
	}
	app := line("app", 1, 100+1000+3<<20+5<<20, 100+1000+5<<20, 6*day)
	scratch := line("scratch", 0, 7, 7, 5*day)
	multi := line("multi", 1, 300+1<<30+20, 300+1<<30+20, 3*day)
	core := line("lib/core", 1, 200+3<<20+2010, 200+2010, 2*day)
	for _, tt := range []struct {
		o    Options
		want []string
	}{
		{Options{}, []string{app, scratch, multi, core}},
		{Options{Limit: 2}, []string{app, scratch}},
		{Options{Sort: BySize}, []string{multi, app, core, scratch}},
		{Options{Sort: ByName, Reverse: true}, []string{scratch, multi, core, app}},
		{Options{Repository: "*/*"}, []string{core}},
	} {
		if got := lines(tt.o); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got\n%s\nwant\n%s", tt.o, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	in := time.Hour
	for _, bad := range []Options{{Sort: ByCreated}, {Sort: ByExpiry}, {Expiring: &in}} {
		bad.Kind = Repositories
		if _, err := List(t.Context(), w, inspecttest.Rules, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
