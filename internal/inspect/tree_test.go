package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// shop is a world with a data directory.
type shop struct {
	*world
	dir tree.Dir
}

func newShop(t *testing.T) shop {
	return shop{newWorld(t), tree.Dir(t.TempDir())}
}

func (s shop) write(k layout.Key, data string) {
	s.t.Helper()
	file := s.dir.File(k.Path())
	s.must(errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o644)))
}

// layer uploads a blob of a size, of which the file has the name.
func (s shop) layer(repo, name string, size int64) {
	s.t.Helper()
	s.blob(repo, name, size)
	s.write(layout.BlobKey(dgst(name)), name)
	s.write(layout.LayerKey(repo, dgst(name)), dgst(name).String())
}

// push puts a manifest under a tag, or under none.
func (s shop) push(repo, tag, text string) digest.Digest {
	s.t.Helper()
	d := digest.FromString(text)
	c, err := manifest.Parse([]byte(text))
	s.must(err)
	s.place(index.Claim{Key: layout.BlobKey(d), Size: int64(len(text))})
	s.place(index.Claim{Key: layout.ManifestKey(repo, d), Size: int64(len(text)), Content: c})
	s.write(layout.BlobKey(d), text)
	s.write(layout.ManifestKey(repo, d), d.String())
	if tag != "" {
		s.must(s.MoveTag(context.Background(), repo, tag, d, nop))
		s.write(layout.TagKey(repo, tag), d.String())
	}
	return d
}

const ociLayer = "application/vnd.oci.image.layer.v1.tar+gzip"

func descriptor(mediaType string, d digest.Digest, more string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7%s}`, mediaType, d, more)
}

// manifestOf is a manifest of a config and layers, in this order.
func manifestOf(more, config string, layers ...string) string {
	var all []string
	for _, l := range layers {
		all = append(all, descriptor(ociLayer, dgst(l), ""))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`, ociManifest,
		descriptor("application/vnd.oci.image.config.v1+json", dgst(config), ""), strings.Join(all, ","), more)
}

func indexOf(children ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, strings.Join(children, ","))
}

// fill sells an image of two platforms with what BuildKit and cosign hang on it.
//
//	day 0  lib/core:3 with layer base
//	day 1  team/app:1.0 with layers base and old
//	day 2  team/app:1.1, also 1.1.0: linux/amd64 of base, app-amd and gone (which is lost), linux/arm of
//	       base-arm and one that lives elsewhere, an attestation; signed on day 3
func (s shop) fill() (top digest.Digest) {
	s.layer("lib/core", "base", 30<<20)
	s.layer("lib/core", "core-config", 900)
	s.push("lib/core", "3", manifestOf("", "core-config", "base"))
	s.at(day)
	s.layer("team/app", "base", 30<<20)
	s.layer("team/app", "old", 1<<20)
	s.layer("team/app", "old-config", 900)
	s.push("team/app", "1.0", manifestOf("", "old-config", "base", "old"))
	s.at(2 * day)
	for name, size := range map[string]int64{"app-amd": 20 << 20, "gone": 5, "base-arm": 28 << 20, "amd-config": 1536, "arm-config": 1540, "provenance": 8000, "no-config": 2} {
		s.layer("team/app", name, size)
	}
	amd := s.push("team/app", "", manifestOf("", "amd-config", "base", "app-amd", "gone"))
	arm := s.push("team/app", "", strings.Replace(manifestOf("", "arm-config", "base-arm", "windows"), descriptor(ociLayer, dgst("windows"), ""),
		descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", dgst("windows"), `,"urls":["https://example.com/windows"]`), 1))
	attested := s.push("team/app", "", manifestOf("", "no-config", "provenance"))
	top = s.push("team/app", "1.1", indexOf(
		descriptor(ociManifest, amd, `,"platform":{"os":"linux","architecture":"amd64"}`),
		descriptor(ociManifest, arm, `,"platform":{"os":"linux","architecture":"arm","variant":"v7"}`),
		descriptor(ociManifest, attested, `,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`)))
	s.must(s.MoveTag(context.Background(), "team/app", "1.1.0", top, nop))
	s.write(layout.TagKey("team/app", "1.1.0"), top.String())
	s.must(os.Remove(s.dir.File(layout.BlobKey(dgst("gone")).Path())))
	s.at(3 * day)
	s.layer("team/app", "sig", 200)
	s.push("team/app", "", manifestOf(`,"artifactType":"application/vnd.dev.cosign.artifact.sig.v1+json","subject":`+descriptor(ociIndex, top, ""), "no-config", "sig"))
	s.at(20 * day)
	return top
}

func (s shop) tree(ref string) (*Tree, error) {
	s.t.Helper()
	parsed, err := ParseReference(ref)
	s.must(err)
	return ReadTree(context.Background(), s.world, rules, s.dir, parsed)
}

func lines(name string) string { return map[string]string{"LANG": "C.UTF-8"}[name] }

func TestTreeForPeople(t *testing.T) {
	s := newShop(t)
	s.fill()
	tree, err := s.tree("team/app:1.1")
	s.must(err)
	for _, width := range []int{0, 80, 120} {
		var out bytes.Buffer
		s.must(tree.Write(Output{To: &out, Width: width}, ui.BranchesFor(lines)))
		golden(t, fmt.Sprintf("tree-%d.txt", width), out.Bytes())
		for _, line := range strings.Split(out.String(), "\n") {
			if width > 0 && len([]rune(line)) > width || strings.TrimRight(line, " ") != line || strings.Contains(line, "\x1b") {
				t.Errorf("at %d: %q", width, line)
			}
		}
	}
	var out bytes.Buffer
	s.must(tree.Write(Output{To: &out, Colour: true}, ui.BranchesFor(os.Getenv)))
	if !strings.Contains(out.String(), "\x1b[31mmissing") {
		t.Error(out.String())
	}
	out.Reset()
	s.must(tree.Write(Output{To: &out}, ui.BranchesFor(func(string) string { return "C" })))
	for _, r := range out.String() {
		if r > 126 {
			t.Fatalf("not ASCII:\n%s", out.String())
		}
	}
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
	s.t.Helper()
	parsed, err := ParseReference(ref)
	s.must(err)
	read, err := ReadTree(context.Background(), s.world, p, s.dir, parsed)
	s.must(err)
	var out bytes.Buffer
	s.must(read.Write(Output{To: &out, Format: JSON}, ui.Branches{}))
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	s.must(dec.Decode(&tree))
	if dec.More() {
		s.t.Error("more than one object")
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
		all[dgst(n)] = n
	}
	return all
}

func TestTreeForMachines(t *testing.T) {
	s := newShop(t)
	top := s.fill()
	names := namesOf(strings.Fields("base base-arm old app-amd gone windows amd-config arm-config old-config no-config provenance sig")...)
	tree := s.treeJSON(rules, "team/app@"+top.String()[:19])
	want := "manifest linux/amd64 (config amd-config, layer base [team/app:1.0 lib/core], layer app-amd, layer gone missing), " +
		"manifest linux/arm/v7 (config arm-config, layer base-arm, layer windows foreign), " +
		"manifest (config no-config, layer provenance), referrer (config no-config, layer sig)"
	if got := toldAll(tree.Children, names); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if tree.Digest != top || *tree.Tag != "1.1 1.1.0" || tree.Kind != "index" || tree.CreatedAt != stamped(2*day) || *tree.KeptBy != KeptByTag ||
		tree.LastAccess != stamped(2*day) || *tree.ExpiresAt != stamped(2*day+life) {
		t.Errorf("%+v", tree.imageJSON)
	}
	if n := tree.Children[3]; *n.ArtifactType != "application/vnd.dev.cosign.artifact.sig.v1+json" || *n.MediaType != ociManifest {
		t.Errorf("referrer: %+v", n)
	}
	if n := tree.Children[0].Children; *n[1].MediaType != ociLayer || *n[1].Size != 30<<20 || *n[3].Size != 7 {
		t.Errorf("layers: %+v", n)
	}
}

// Without the files of the manifests the parts are known, and their order is not.
func TestTreeFromTheIndexAlone(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.team()
	want := []string{"layer app-1", "layer base [lib/core]"}
	if dgst("base") < dgst("app-1") {
		slices.Reverse(want)
	}
	if got, want := toldAll(s.treeJSON(rules, "app").Children, namesOf("base", "app-1", "app-config")), "config app-config, "+strings.Join(want, ", "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An image says of itself what the list of images says of it.
func TestATreeAgreesWithTheList(t *testing.T) {
	for seed := range uint64(60) {
		s := shop{newWorld(t), ""}
		p := index.Policy{TTL: time.Duration(seed%4) * 5 * day, Grace: 2 * day}
		if s.team(); seed > 0 {
			s.trade(rand.New(rand.NewPCG(seed, 7)))
		}
		for _, want := range s.list(p, Options{Kind: Images}).Images {
			got := s.treeJSON(p, want.Repository+"@"+want.Digest.String()).imageJSON
			if g, w := fmt.Sprint(plain(got)), fmt.Sprint(plain(want)); g != w {
				t.Errorf("seed %d: the tree says\n%s\nthe list\n%s", seed, g, w)
			}
		}
	}
}

// trade is a random life of two repositories, in which images share layers and children.
func (s shop) trade(rnd *rand.Rand) {
	type says struct {
		manifest.Manifest
		names []string
	}
	of := map[string]says{
		"m1": {manifest.Manifest{Config: dgst("l1")}, []string{"l2"}}, "m2": {manifest.Manifest{}, []string{"l2", "l3"}},
		"m3": {manifest.Manifest{MediaType: ociIndex}, []string{"m1", "m2"}}, "m4": {manifest.Manifest{MediaType: ociIndex}, []string{"m3", "m2"}},
		"s1": {manifest.Manifest{Subject: dgst("m3")}, []string{"l4"}}, "s2": {manifest.Manifest{Subject: dgst("s1")}, []string{"l1", "l4"}},
	}
	one := func(of string) string { all := strings.Fields(of); return all[rnd.IntN(len(all))] }
	for at := 6 * day; at < 20*day; at += time.Duration(rnd.Int64N(int64(day))).Truncate(time.Second) {
		s.at(at)
		repo, m := one("a b"), one("m1 m2 m3 m4 s1 s2")
		switch rnd.IntN(5) {
		case 0:
			s.blob(repo, one("l1 l2 l3 l4"), 5)
		case 1, 2:
			s.manifest(repo, m, of[m].Manifest, of[m].names...)
		case 3:
			if s.has(layout.ManifestKey(repo, dgst(m))) {
				s.tag(repo, one("t u"), m)
			}
		case 4:
			_, err := s.Lease(context.Background(), layout.ManifestKey(repo, dgst(m)))
			s.must(err)
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
	s.blob("a", "l", 5)
	s.manifest("a", "m1", manifest.Manifest{}, "m2", "l")
	s.manifest("a", "m2", manifest.Manifest{Subject: dgst("m1")}, "m1")
	got := toldAll(s.treeJSON(rules, "a@"+dgst("m1").String()).Children, namesOf("m1", "m2", "l"))
	m2 := "manifest m2 (manifest m1 above)"
	if got != m2+", layer l, referrer m2 above" && got != "layer l, "+m2+", referrer m2 above" {
		t.Error(got)
	}
}

// A child that another index names too, or that has a tag, stays when the image goes.
func TestSharedChildren(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.blob("a", "l", 5)
	s.manifest("a", "m", manifest.Manifest{}, "l")
	s.manifest("a", "i1", manifest.Manifest{MediaType: ociIndex}, "m")
	s.manifest("a", "i2", manifest.Manifest{MediaType: ociIndex}, "m")
	s.tag("a", "one", "i1")
	s.tag("a", "two", "i2")
	s.tag("a", "m", "m")
	names := namesOf("m", "l")
	if got := toldAll(s.treeJSON(rules, "a:one").Children, names); got != "manifest m [a:two a:m] (layer l [a:m])" {
		t.Error(got)
	}
	tree := s.treeJSON(rules, "a:m")
	if got := toldAll(tree.Children, names); (got != "layer l [a:one a:two]" && got != "layer l [a:two a:one]") || tree.UniqueBytes != 0 {
		t.Error(got, tree.UniqueBytes)
	}
}

func TestManyReferrersAreCutForPeople(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.manifest("a", "m", manifest.Manifest{})
	s.tag("a", "latest", "m")
	for i := range 25 {
		s.manifest("a", fmt.Sprint("r", i), manifest.Manifest{Subject: dgst("m")})
	}
	tree, err := s.tree("a")
	s.must(err)
	var out bytes.Buffer
	s.must(tree.Write(Output{To: &out}, ui.BranchesFor(lines)))
	if !strings.HasSuffix(out.String(), "└── and 5 more referrers\n") || len(tree.Children) != 25 {
		t.Error(out.String())
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

func (r counted) Holders(d digest.Digest, most int) ([]index.Row, error) {
	rows, err := r.Reader.Holders(d, most)
	r.c.n += 1 + len(rows)
	return rows, err
}

func (r counted) Each(layout.Kind, func(index.Row) error) error {
	r.c.t.Error("somebody reads all rows")
	return nil
}

func (r counted) Uses(func(index.Use) error) error { return r.Each(layout.Blob, nil) }

func (r counted) Nested(func(_, _ digest.Digest) error) error { return r.Each(layout.Manifest, nil) }

// TestALayerThatThousandsShareCostsNoMore compares the work beside a few others and beside thousands.
func TestALayerThatThousandsShareCostsNoMore(t *testing.T) {
	s := shop{newWorld(t), ""}
	s.blob("a", "base", 5)
	s.blob("a", "own", 5)
	s.manifest("a", "m", manifest.Manifest{}, "base", "own")
	s.tag("a", "latest", "m")
	cost, others := func() int {
		c := &counting{Store: s.world, t: t}
		tree, err := ReadTree(t.Context(), c, rules, "", Reference{Repository: "a", Tag: "latest"})
		s.must(err)
		if tree.UniqueBytes != 105 {
			t.Errorf("%d unique bytes", tree.UniqueBytes)
		}
		return c.n
	}, 0
	share := func(until int) {
		for ; others < until; others++ {
			s.manifest("a", fmt.Sprint("m", others), manifest.Manifest{}, "base")
			s.blob(fmt.Sprint("r", others), "base", 5)
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
	s.fill()
	s.push("team/app", "1.2", manifestOf("", "old-config", "old"))
	amd := digest.FromString(manifestOf("", "core-config", "base"))
	s.layer("fresh", "alone", 5)
	short := func(name string) string { return dgst(name).String()[:19] }
	for _, tt := range []struct{ ref, what, hint string }{
		{"nothing", "repository nothing is unknown", "dcs inspect --images lists"},
		{"team/ap:1.1", "repository team/ap is unknown", "did you mean team/app?"},
		{"app", "repository app is unknown", "did you mean team/app?"},
		{"127.0.0.1:5000/team/app:1.1", "repository 127.0.0.1:5000/team/app is unknown", "carry no host: dcs inspect team/app:1.1"},
		{"localhost/team/app@sha256:1a", "is unknown", "carry no host: dcs inspect team/app@sha256:1a"},
		{"127.0.0.1:5000/team/ap", "is unknown", "did you mean team/app?"},
		{"sha256:1a2b3c", "no blob has a digest that begins with sha256:1a2b3c", "dcs inspect --images"},
		{"sha256:1", "no blob has a digest that begins with sha256:1", "dcs inspect --images"},
		{"1a2b3c4d5e6f", "no blob has a digest that begins with sha256:1a2b3c4d5e6f", "dcs inspect --images"},
		{short("base"), "is a layer or a config, not an image", "it is a part of "},
		{short("base")[7:], short("base") + " is a layer or a config, not an image", "it is a part of "},
		{short("alone"), "is a layer or a config, not an image", "no image uses it yet; dcs inspect --repository fresh"},
		{"team", "repository team is unknown", "dcs inspect --images --repository 'team/**'"},
		{"team/app", "repository team/app has no tag latest", "it has 1.2, 1.1, 1.1.0, 1.0: dcs inspect team/app:1.2"},
		{"team/app:1.3", "repository team/app has no tag 1.3", "it has 1.0, 1.1, 1.2"},
		{"fresh", "repository fresh has no tag latest", "it has none: dcs inspect --images --repository fresh lists images without a tag, if there are any"},
		{"team/app@" + dgst("x").String(), "repository team/app has no manifest " + dgst("x").String(), "dcs inspect --images --repository team/app"},
		{"team/app@" + amd.String(), "is unknown", "repository lib/core has it: dcs inspect lib/core@" + amd.String()[:19]},
		{"team/app@" + short("base"), "is a layer or a config, not an image", "it is a part of team/app:1."},
		{"team/app@" + dgst("sig").String(), "is a layer or a config", ": dcs inspect team/app:1.1"},
		{"fresh@" + short("alone"), "is a layer or a config", "no image uses it yet"},
	} {
		var unknown *NotFoundError
		_, err := s.tree(tt.ref)
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), tt.what) || !strings.Contains(unknown.Try, tt.hint) {
			t.Errorf("%s: %v; hint %+v", tt.ref, err, unknown)
		}
	}
}

// The digest that a listing shows is enough, with its algorithm or without, where only one repository has it.
func TestADigestAlone(t *testing.T) {
	s := newShop(t)
	top := s.fill()
	for _, typed := range []string{top.String(), top.String()[:19], top.Encoded()[:12]} {
		tree, err := s.tree(typed)
		if err != nil || tree.Digest != top || tree.Repository != "team/app" || tree.asked.String() != "team/app@"+top.String()[:19] {
			t.Errorf("%s: %+v, %v", typed, tree, err)
		}
	}
	twice := s.push("one/app", "v", manifestOf("", "old-config", "old"))
	s.push("other/app", "v", manifestOf("", "old-config", "old"))
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
	s.push(top.Encoded()[:12], "latest", manifestOf("", "old-config", "old")) // a repository may be called like that
	if tree, err := s.tree(top.Encoded()[:12]); err != nil || tree.Repository != top.Encoded()[:12] {
		t.Errorf("%+v, %v", tree, err)
	}
}

// A shortened digest is the image if only one of the repository starts like it.
func TestShortenedDigests(t *testing.T) {
	s := newShop(t)
	first := map[string]digest.Digest{} // by the first character
	for i := 0; len(first) == i; i++ {
		d := s.push("app", "", manifestOf("", fmt.Sprint("config", i)))
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
		s.t.Fatalf("%s: %v", start, err)
	}
	for _, d := range digests {
		if !strings.Contains(unknown.Try, "app@"+d.String()) {
			s.t.Errorf("%s is not among %s", d, unknown.Try)
		}
	}
}

// While the index is being rebuilt what it does not know may well exist.
func TestUnknownWhileTheIndexIsRebuilt(t *testing.T) {
	s := newShop(t)
	_, err := s.CloseGate(t.Context())
	s.must(err)
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
	s.write(layout.TagKey("app", "v"), gone.String())
	s.must(s.Adopt(t.Context(), adopt.Look(s.dir, layout.TagKey("app", "v"), adopt.Now)))
	if _, err := s.tree("app:v"); err == nil || !strings.Contains(err.Error(), "points at manifest "+gone.String()+", which is missing") {
		t.Error(err)
	}
	s.write(layout.TagKey("app", "empty"), "")
	s.must(s.Adopt(t.Context(), adopt.Look(s.dir, layout.TagKey("app", "empty"), adopt.Now)))
	if _, err := s.tree("app:empty"); err == nil || !strings.Contains(err.Error(), "points at nothing") {
		t.Error(err)
	}
}
