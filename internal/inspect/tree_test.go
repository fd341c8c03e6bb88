package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// shop is a store with a data directory that is read.
type shop struct {
	*world
	dir tree.Dir
}

func newShop(t *testing.T) shop {
	s := inspecttest.NewShop(t)
	return shop{&world{s.World}, s.Dir}
}

// files makes what has files.
func (s shop) files() inspecttest.Shop { return inspecttest.Shop{World: s.World, Dir: s.dir} }

func (s shop) tree(ref string) (*Tree, error) {
	s.T.Helper()
	parsed, err := ParseReference(ref)
	s.Must(err)
	return ReadTree(context.Background(), s.world, inspecttest.Rules, s.dir, parsed)
}

// nodeJSON is a node as somebody reads it who takes the contract at its word.
type nodeJSON struct {
	Digest       digest.Digest `json:"digest"`
	Kind         string        `json:"kind"`
	MediaType    *string       `json:"media_type"`
	ArtifactType *string       `json:"artifact_type"`
	Platform     *string       `json:"platform"`
	Size         *int64        `json:"size"`
	Shared       *bool         `json:"shared"`
	SharedWith   []string      `json:"shared_with"`
	Missing      *bool         `json:"missing"`
	Foreign      *bool         `json:"foreign"`
	Above        *bool         `json:"above"`
	Children     []nodeJSON    `json:"children"`
}

type treeJSON struct {
	imageJSON
	Kind      string     `json:"kind"`
	CreatedAt string     `json:"created_at"`
	Children  []nodeJSON `json:"children"`
	Complete  *bool      `json:"complete"`
}

func (s shop) treeJSON(p index.Policy, ref string) (tree treeJSON) {
	s.T.Helper()
	parsed, err := ParseReference(ref)
	s.Must(err)
	read, err := ReadTree(context.Background(), s.world, p, s.dir, parsed)
	s.Must(err)
	data, err := json.Marshal(read)
	s.Must(err)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	s.Must(dec.Decode(&tree))
	if dec.More() {
		s.T.Error("more than one object")
	}
	return tree
}

// told is a node with what is below it, in a line.
func (n nodeJSON) told(names map[digest.Digest]string) string {
	text := n.Kind
	if names[n.Digest] != "" {
		text += " " + names[n.Digest]
	}
	for word, is := range map[string]bool{"missing": *n.Missing, "foreign": *n.Foreign, "above": *n.Above} {
		if is {
			text += " " + word
		}
	}
	if *n.Platform != "" {
		text += " " + *n.Platform
	}
	if *n.Shared {
		text += fmt.Sprint(" ", n.SharedWith)
	}
	if len(n.Children) > 0 {
		text += " (" + toldAll(n.Children, names) + ")"
	}
	return text
}

func toldAll(nodes []nodeJSON, names map[digest.Digest]string) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.told(names))
	}
	return strings.Join(all, ", ")
}

func namesOf(names ...string) map[digest.Digest]string {
	all := map[digest.Digest]string{}
	for _, n := range names {
		all[inspecttest.Dgst(n)] = n
	}
	return all
}

func TestTreeForMachines(t *testing.T) {
	s := newShop(t)
	top := s.files().Fill()
	names := namesOf(strings.Fields("base base-arm old app-amd gone windows amd-config arm-config old-config no-config provenance sig")...)
	tree := s.treeJSON(inspecttest.Rules, "team/app@"+top.String()[:19])
	want := "manifest linux/amd64 (config amd-config, layer base [team/app:1.0 lib/core], layer app-amd, layer gone missing), " +
		"manifest linux/arm/v7 (config arm-config, layer base-arm, layer windows foreign), " +
		"manifest (config no-config, layer provenance), referrer (config no-config, layer sig)"
	if got := toldAll(tree.Children, names); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if tree.Digest != top || *tree.Tag != "1.1 1.1.0" || tree.Kind != "index" ||
		tree.CreatedAt != inspecttest.Stamped(2*day) || *tree.KeptBy != KeptByTag ||
		tree.LastAccess != inspecttest.Stamped(2*day) ||
		*tree.ExpiresAt != inspecttest.Stamped(2*day+inspecttest.Life) {
		t.Errorf("%+v", tree.imageJSON)
	}
	if n := tree.Children[3]; *n.ArtifactType != "application/vnd.dev.cosign.artifact.sig.v1+json" ||
		*n.MediaType != inspecttest.OCIManifest {
		t.Errorf("referrer: %+v", n)
	}
	if n := tree.Children[0].Children; *n[1].MediaType != inspecttest.OCILayer || *n[1].Size != 30<<20 ||
		*n[3].Size != 7 {
		t.Errorf("layers: %+v", n)
	}
}

// Without the files of the manifests the parts are known, and their order is not.
func TestTreeFromTheIndexAlone(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.Team()
	want := []string{"layer app-1", "layer base [lib/core]"}
	if inspecttest.Dgst("base") < inspecttest.Dgst("app-1") {
		slices.Reverse(want)
	}
	if got, want := toldAll(s.treeJSON(inspecttest.Rules, "app").Children,
		namesOf("base", "app-1", "app-config")), "config app-config, "+strings.Join(want, ", "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An image says of itself what the list of images says of it.
func TestATreeAgreesWithTheList(t *testing.T) {
	for seed := range uint64(60) {
		s := shop{newWorld(t), ""}
		p := index.Policy{TTL: time.Duration(seed%4) * 5 * day, Grace: 2 * day,
			Rules: someRules(rand.New(rand.NewPCG(seed, 3)))}
		if s.Team(); seed > 0 {
			s.trade(rand.New(rand.NewPCG(seed, 7)))
		}
		s.pinSome(rand.New(rand.NewPCG(seed, 8)))
		for _, want := range s.list(p, Options{Kind: Images}).Images {
			got := s.treeJSON(p, want.Repository+"@"+want.Digest.String()).imageJSON
			if g, w := fmt.Sprint(plain(got)), fmt.Sprint(plain(want)); g != w {
				t.Errorf("seed %d: the tree says\n%s\nthe list\n%s", seed, g, w)
			}
		}
	}
}

// trade is a random inspecttest.Life of two repositories, in which images share layers and children.
func (s shop) trade(rnd *rand.Rand) {
	type says struct {
		manifest.Manifest
		names []string
	}
	of := map[string]says{
		"m1": {manifest.Manifest{Config: inspecttest.Dgst("l1")}, []string{"l2"}}, "m2": {manifest.Manifest{},
			[]string{"l2", "l3"}},
		"m3": {manifest.Manifest{MediaType: inspecttest.OCIIndex}, []string{"m1",
			"m2"}}, "m4": {manifest.Manifest{MediaType: inspecttest.OCIIndex}, []string{"m3", "m2"}},
		"s1": {manifest.Manifest{Subject: inspecttest.Dgst("m3")},
			[]string{"l4"}}, "s2": {manifest.Manifest{Subject: inspecttest.Dgst("s1")}, []string{"l1", "l4"}},
	}
	one := func(of string) string { all := strings.Fields(of); return all[rnd.IntN(len(all))] }
	for at := 6 * day; at < 20*day; at += time.Duration(rnd.Int64N(int64(day))).Truncate(time.Second) {
		s.At(at)
		repo, m := one("a b"), one("m1 m2 m3 m4 s1 s2")
		switch rnd.IntN(5) {
		case 0:
			s.Blob(repo, one("l1 l2 l3 l4"), 5)
		case 1, 2:
			s.Manifest(repo, m, of[m].Manifest, of[m].names...)
		case 3:
			if s.has(layout.ManifestKey(repo, inspecttest.Dgst(m))) {
				s.Tag(repo, one("t u"), m)
			}
		case 4:
			_, err := s.Lease(context.Background(), layout.ManifestKey(repo, inspecttest.Dgst(m)))
			s.Must(err)
		}
	}
}

// plain is a row without pointers.
func plain(i imageJSON) []any {
	expires := "never"
	if i.ExpiresAt != nil {
		expires = *i.ExpiresAt
	}
	return []any{i.Repository, *i.Tag, i.Digest, i.MediaType, i.Size, i.UniqueBytes, i.LastAccess, expires, *i.KeptBy}
}

func TestCirclesOfManifestsEnd(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.Blob("a", "l", 5)
	s.Manifest("a", "m1", manifest.Manifest{}, "m2", "l")
	s.Manifest("a", "m2", manifest.Manifest{Subject: inspecttest.Dgst("m1")}, "m1")
	got := toldAll(s.treeJSON(inspecttest.Rules, "a@"+inspecttest.Dgst("m1").String()).Children,
		namesOf("m1", "m2", "l"))
	m2 := "manifest m2 (manifest m1 above)"
	if got != m2+", layer l, referrer m2 above" && got != "layer l, "+m2+", referrer m2 above" {
		t.Error(got)
	}
}

// A referrer is no row of a list. It says of itself what it is attached to.
func TestAReferrerSaysWhatItIsAttachedTo(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.Blob("a", "l", 5)
	s.Manifest("a", "m", manifest.Manifest{}, "l")
	s.Manifest("a", "sig", manifest.Manifest{Subject: inspecttest.Dgst("m")})
	s.Manifest("a", "of-sig", manifest.Manifest{Subject: inspecttest.Dgst("sig")})
	for _, tag := range []string{"", "v1"} {
		want := "a@" + inspecttest.Dgst("m").String()[:19]
		if tag != "" {
			s.Tag("a", tag, "m")
			want = "a:" + tag
		}
		tree, err := s.tree("a@" + inspecttest.Dgst("sig").String())
		if err != nil || tree.KeptBy != KeptBySubject || tree.Owner != want {
			t.Errorf("%+v, %v; want it to be attached to %s", tree, err, want)
		}
		if tree, err = s.tree("a@" + inspecttest.Dgst("of-sig").String()); tag != "" &&
			(err != nil || tree.Owner != want) {
			t.Errorf("%+v, %v; want it to be attached to %s", tree, err, want)
		}
	}
}

// A child that another index names too, or that has a tag, stays when the image goes.
func TestSharedChildren(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.Blob("a", "l", 5)
	s.Manifest("a", "m", manifest.Manifest{}, "l")
	s.Manifest("a", "i1", manifest.Manifest{MediaType: inspecttest.OCIIndex}, "m")
	s.Manifest("a", "i2", manifest.Manifest{MediaType: inspecttest.OCIIndex}, "m")
	s.Tag("a", "one", "i1")
	s.Tag("a", "two", "i2")
	s.Tag("a", "m", "m")
	names := namesOf("m", "l")
	if got := toldAll(s.treeJSON(inspecttest.Rules, "a:one").Children,
		names); got != "manifest m [a:two a:m] (layer l [a:m])" {
		t.Error(got)
	}
	tree := s.treeJSON(inspecttest.Rules, "a:m")
	if got := toldAll(tree.Children, names); (got != "layer l [a:one a:two]" && got != "layer l [a:two a:one]") ||
		tree.UniqueBytes != 0 {
		t.Error(got, tree.UniqueBytes)
	}
}

// counting is a store that counts what is asked for and answered, and knows that nobody asks for it all.
type counting struct {
	index.Store
	t *testing.T
	n int
}

func (c *counting) View(ctx context.Context, read func(index.Reader) error) error {
	return c.Store.View(ctx, func(r index.Reader) error { return read(counted{r, c}) })
}

type counted struct {
	index.Reader
	c *counting
}

func (r counted) Row(k layout.Key) (*index.Row, error) {
	r.c.n++
	return r.Reader.Row(k)
}

func (r counted) Parents(repo string, d digest.Digest, most int) ([]index.Row, error) {
	rows, err := r.Reader.Parents(repo, d, most)
	r.c.n += 1 + len(rows)
	return rows, err
}

func (r counted) Owners(d digest.Digest, most int) ([]index.Row, error) {
	rows, err := r.Reader.Owners(d, most)
	r.c.n += 1 + len(rows)
	return rows, err
}

func (r counted) Each(layout.Kind, func(index.Row) error) error {
	r.c.t.Error("somebody reads all rows")
	return nil
}

func (r counted) ListBlobs(index.BlobListing, func(index.Blob) error) error {
	return r.Each(layout.Blob, nil)
}

// TestALayerThatThousandsShareCostsNoMore compares the work beside a few others and beside thousands.
func TestALayerThatThousandsShareCostsNoMore(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.Blob("a", "base", 5)
	s.Blob("a", "own", 5)
	s.Manifest("a", "m", manifest.Manifest{}, "base", "own")
	s.Tag("a", "latest", "m")
	cost, others := func() int {
		c := &counting{Store: s.world, t: t}
		tree, err := ReadTree(t.Context(), c, inspecttest.Rules, "", Reference{Repository: "a", Tag: "latest"})
		s.Must(err)
		if tree.UniqueBytes != 105 {
			t.Errorf("%d unique bytes", tree.UniqueBytes)
		}
		return c.n
	}, 0
	share := func(until int) {
		for ; others < until; others++ {
			s.Manifest("a", fmt.Sprint("m", others), manifest.Manifest{}, "base")
			s.Blob(fmt.Sprint("r", others), "base", 5)
		}
	}
	share(20)
	few := cost()
	share(2500)
	if many := cost(); many > few {
		t.Errorf("%d questions and answers beside 5,000 others, %d beside 40", many, few)
	}
}

func TestHints(t *testing.T) {
	s := newShop(t)
	s.files().Fill()
	s.files().Push("team/app", "1.2", inspecttest.ManifestOf("", "old-config", "old"))
	amd := digest.FromString(inspecttest.ManifestOf("", "core-config", "base"))
	s.files().Layer("fresh", "alone", 5)
	short := func(name string) string { return inspecttest.Dgst(name).String()[:19] }
	for _, tt := range []struct{ ref, what, hint string }{
		{"nothing", "repository nothing is unknown", "dcs inspect --images lists"},
		{"team/ap:1.1", "repository team/ap is unknown", "did you mean team/app?"},
		{"app", "repository app is unknown", "did you mean team/app?"},
		{"127.0.0.1:5000/team/app:1.1", "repository 127.0.0.1:5000/team/app is unknown",
			"carry no host: dcs inspect team/app:1.1"},
		{"localhost/team/app@sha256:1a", "is unknown", "carry no host: dcs inspect team/app@sha256:1a"},
		{"127.0.0.1:5000/team/ap", "is unknown", "did you mean team/app?"},
		{"sha256:1a2b3c", "no blob has a digest that begins with sha256:1a2b3c", "dcs inspect --images"},
		{"sha256:1", "no blob has a digest that begins with sha256:1", "dcs inspect --images"},
		{"1a2b3c4d5e6f", "no blob has a digest that begins with sha256:1a2b3c4d5e6f", "dcs inspect --images"},
		{short("base"), "is a layer or a config, not an image", "it is a part of "},
		{short("base")[7:], short("base") + " is a layer or a config, not an image", "it is a part of "},
		{short("alone"), "is a layer or a config, not an image",
			"no image uses it yet; dcs inspect --repository fresh"},
		{"team", "repository team is unknown", "dcs inspect --images --repository 'team/**'"},
		{"team/app", "repository team/app has no tag latest", "it has 1.2, 1.1, 1.1.0, 1.0: dcs inspect team/app:1.2"},
		{"team/app:1.3", "repository team/app has no tag 1.3", "it has 1.0, 1.1, 1.2"},
		{"fresh", "repository fresh has no tag latest",
			"it has none: dcs inspect --images --repository fresh lists images without a tag, if there are any"},
		{"team/app@" + inspecttest.Dgst("x").String(), "repository team/app has no manifest " +
			inspecttest.Dgst("x").String(), "dcs inspect --images --repository team/app"},
		{"team/app@" + amd.String(), "is unknown", "repository lib/core has it: dcs inspect lib/core@" +
			amd.String()[:19]},
		{"team/app@" + short("base"), "is a layer or a config, not an image", "it is a part of team/app:1."},
		{"team/app@" + inspecttest.Dgst("sig").String(), "is a layer or a config", ": dcs inspect team/app:1.1"},
		{"fresh@" + short("alone"), "is a layer or a config", "no image uses it yet"},
	} {
		var unknown *NotFoundError
		_, err := s.tree(tt.ref)
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), tt.what) ||
			!strings.Contains(unknown.Try, tt.hint) {
			t.Errorf("%s: %v; hint %+v", tt.ref, err, unknown)
		}
	}
}

// The digest that a listing shows is enough, with its algorithm or without, where only one repository has it.
func TestADigestAlone(t *testing.T) {
	s := newShop(t)
	top := s.files().Fill()
	for _, typed := range []string{top.String(), top.String()[:19], top.Encoded()[:12]} {
		tree, err := s.tree(typed)
		if err != nil || tree.Digest != top || tree.Repository != "team/app" ||
			tree.Asked.String() != "team/app@"+top.String()[:19] {
			t.Errorf("%s: %+v, %v", typed, tree, err)
		}
	}
	twice := s.files().Push("one/app", "v", inspecttest.ManifestOf("", "old-config", "old"))
	s.files().Push("other/app", "v", inspecttest.ManifestOf("", "old-config", "old"))
	_, err := s.tree(twice.String())
	var unknown *NotFoundError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "several repositories") {
		t.Fatal(err)
	}
	for _, repo := range []string{"one/app", "other/app"} {
		if name := repo + "@" + twice.String()[:19]; !strings.Contains(unknown.Try, name) {
			t.Errorf("%s is not among %s", name, unknown.Try)
		} else if tree, err := s.tree(name); err != nil || tree.Repository != repo {
			t.Errorf("the hint %s: %v", name, err)
		}
	}
	// a repository may be called like that
	s.files().Push(top.Encoded()[:12], "latest", inspecttest.ManifestOf("", "old-config", "old"))
	if tree, err := s.tree(top.Encoded()[:12]); err != nil || tree.Repository != top.Encoded()[:12] {
		t.Errorf("%+v, %v", tree, err)
	}
}

// A shortened digest is the image if only one of the repository starts like it.
func TestShortenedDigests(t *testing.T) {
	s := newShop(t)
	first := map[string]digest.Digest{} // by the first character
	for i := 0; len(first) == i; i++ {
		d := s.files().Push("app", "", inspecttest.ManifestOf("", fmt.Sprint("config", i)))
		if other, taken := first[d.Encoded()[:1]]; taken {
			s.ambiguous(d.Encoded()[:1], d, other)
			break
		}
		first[d.Encoded()[:1]] = d
	}
	for _, d := range first {
		for _, n := range []int{6, 12, 64} {
			if tree, err := s.tree("app@sha256:" + d.Encoded()[:n]); err != nil || tree.Digest != d {
				t.Errorf("%d characters of %s: %+v, %v", n, d, tree, err)
			}
		}
	}
}

func (s shop) ambiguous(start string, digests ...digest.Digest) {
	_, err := s.tree("app@sha256:" + start)
	var unknown *NotFoundError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "2 manifests") {
		s.T.Fatalf("%s: %v", start, err)
	}
	for _, d := range digests {
		if !strings.Contains(unknown.Try, "app@"+d.String()) {
			s.T.Errorf("%s is not among %s", d, unknown.Try)
		}
	}
}

// While the index is being rebuilt what it does not know may well exist.
func TestUnknownWhileTheIndexIsRebuilt(t *testing.T) {
	s := newShop(t)
	_, err := s.CloseGate(t.Context())
	s.Must(err)
	_, err = s.tree("app")
	var unknown *NotFoundError
	if !errors.As(err, &unknown) || !strings.Contains(unknown.Try, "being rebuilt") {
		t.Errorf("%v, %+v", err, unknown)
	}
}

// A tag whose manifest is gone is told apart from one that never was.
func TestATagWithoutItsManifest(t *testing.T) {
	s := newShop(t)
	gone := digest.FromString("gone")
	s.files().Write(layout.TagKey("app", "v"), gone.String())
	s.Must(s.Adopt(t.Context(), adopt.Look(s.dir, layout.TagKey("app", "v"), adopt.Now)))
	if _, err := s.tree("app:v"); err == nil || !strings.Contains(err.Error(),
		"points at manifest "+gone.String()+", which is missing") {
		t.Error(err)
	}
	s.files().Write(layout.TagKey("app", "empty"), "")
	s.Must(s.Adopt(t.Context(), adopt.Look(s.dir, layout.TagKey("app", "empty"), adopt.Now)))
	if _, err := s.tree("app:empty"); err == nil || !strings.Contains(err.Error(), "points at nothing") {
		t.Error(err)
	}
}
