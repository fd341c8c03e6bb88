package layout

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

const (
	hex256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	dgst   = digest.Digest("sha256:" + hex256)
	dgst5  = digest.Digest("sha512:" + hex256 + hex256)
)

// everyKind has one path of each kind, as distribution's documentation of its layout spells it.
var everyKind = []struct {
	path string
	want Path
}{
	{"/docker/registry/v2/blobs", Path{Kind: BlobsDir}},
	{"/docker/registry/v2/blobs/sha256/e3/" + hex256, Path{Kind: BlobDir, Digest: dgst}},
	{"/docker/registry/v2/blobs/sha256/e3/" + hex256 + "/data", Path{Kind: BlobData, Digest: dgst}},
	{"/docker/registry/v2/blobs/sha512/e3/" + hex256 + hex256 + "/data", Path{Kind: BlobData, Digest: dgst5}},
	{"/docker/registry/v2/repositories", Path{Kind: RepositoriesDir}},
	{"/docker/registry/v2/repositories/a/b-c/d.e__f", Path{Kind: RepositoryDir, Repository: "a/b-c/d.e__f"}},
	{"/docker/registry/v2/repositories/app/_layers", Path{Kind: LayersDir, Repository: "app"}},
	{"/docker/registry/v2/repositories/app/_layers/sha256/" + hex256, Path{Kind: LayerDir, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_layers/sha256/" + hex256 + "/link", Path{Kind: LayerLink, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests", Path{Kind: ManifestsDir, Repository: "app"}},
	{"/docker/registry/v2/repositories/app/_manifests/revisions", Path{Kind: RevisionsDir, Repository: "app"}},
	{"/docker/registry/v2/repositories/app/_manifests/revisions/sha256/" + hex256, Path{Kind: RevisionDir, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests/revisions/sha256/" + hex256 + "/link", Path{Kind: RevisionLink, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests/tags", Path{Kind: TagsDir, Repository: "app"}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/_V1.x", Path{Kind: TagDir, Repository: "app", Tag: "_V1.x"}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/" + hex256, Path{Kind: TagDir, Repository: "app", Tag: hex256}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/current/link", Path{Kind: TagLink, Repository: "app", Tag: "v1"}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/index", Path{Kind: TagIndexDir, Repository: "app", Tag: "v1"}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/index/sha256/" + hex256, Path{Kind: TagIndexEntryDir, Repository: "app", Tag: "v1", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/index/sha256/" + hex256 + "/link", Path{Kind: TagIndexLink, Repository: "app", Tag: "v1", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_uploads", Path{Kind: UploadsDir, Repository: "app"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e", Path{Kind: UploadDir, Repository: "app", Upload: "1b4e"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/data", Path{Kind: UploadData, Repository: "app", Upload: "1b4e"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/startedat", Path{Kind: UploadStartedAt, Repository: "app", Upload: "1b4e"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/hashstates/sha256", Path{Kind: UploadHashStatesDir, Repository: "app", Upload: "1b4e", Algorithm: "sha256"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/hashstates/sha256/1024", Path{Kind: UploadHashState, Repository: "app", Upload: "1b4e", Algorithm: "sha256", Offset: "1024"}},
}

func TestParseAndStringAreInverse(t *testing.T) {
	seen := map[PathKind]bool{}
	for _, c := range everyKind {
		got, ok := Parse(c.path)
		if !ok || got != c.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", c.path, got, ok, c.want)
		}
		if s := c.want.String(); s != c.path {
			t.Errorf("String(%+v) = %q; want %q", c.want, s, c.path)
		}
		seen[c.want.Kind] = true
	}
	for k := BlobsDir; k <= UploadHashState; k++ {
		if !seen[k] {
			t.Errorf("no path of kind %d in the table", k)
		}
	}
}

func TestParseRefusesWhatDistributionNeverWrites(t *testing.T) {
	for _, p := range []string{
		"", "/", "/docker/registry/v2", "/docker/registry/v2/", "/docker/registry/v2/blobs/",
		"/docker/registry/v2/blobs/sha256/e4/" + hex256 + "/data",         // wrong prefix
		"/docker/registry/v2/blobs/sha256/e3/" + hex256[1:] + "/data",     // short
		"/docker/registry/v2/blobs/md5/e3/" + hex256 + "/data",            // unknown algorithm
		"/docker/registry/v2/blobs/sha256/E3/" + strings.ToUpper(hex256),  // upper case
		"/docker/registry/v2/repositories/App",                            // upper case
		"/docker/registry/v2/repositories/host:5000/app",                  // port
		"/docker/registry/v2/repositories/a/../b",                         // traversal
		"/docker/registry/v2/repositories/a//b",                           // empty component
		"/docker/registry/v2/repositories/_layers",                        // no name
		"/docker/registry/v2/repositories/app/_other",                     // unknown
		"/docker/registry/v2/repositories/app/_manifests/tags/-v1",        // tag rule
		"/docker/registry/v2/repositories/app/_manifests/tags/v1/current", // a directory without meaning
		"/docker/registry/v2/repositories/app/_uploads/..",                // traversal
		"/docker/registry/v2/repositories/app/_uploads/1b4e/hashstates/sha256/01",
		"/docker/registry/v2/repositories/app/_layers/sha256/" + hex256 + "/link/x",
	} {
		if got, ok := Parse(p); ok {
			t.Errorf("Parse(%q) = %+v; want refusal", p, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range everyKind {
		f.Add(c.path)
	}
	f.Add("/docker/registry/v2/repositories/a/_b/_layers")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := Parse(s)
		if ok && p.String() != s {
			t.Errorf("Parse(%q).String() = %q", s, p.String())
		}
	})
}

// TestAPlainNameIsAValidName holds the short way to the rule.
func TestAPlainNameIsAValidName(t *testing.T) {
	const letters = "ab0z/-_.:A@ "
	random := rand.New(rand.NewPCG(1, 2))
	plain := 0
	for range 200_000 {
		b := make([]byte, 1+random.IntN(8))
		for i := range b {
			b[i] = letters[random.IntN(len(letters))]
		}
		name := string(b)
		n, err := reference.WithName(name)
		valid := err == nil && n.Name() == name && !strings.Contains(name, ":")
		if isPlain(name) {
			plain++
			if !valid {
				t.Errorf("%q is no name", name)
			}
		}
		if ValidName(name) != valid {
			t.Errorf("%q: %v", name, ValidName(name))
		}
	}
	if plain == 0 {
		t.Error("no name was plain")
	}
}

func TestParseDigest(t *testing.T) {
	for s, ok := range map[string]bool{
		"sha256:" + strings.Repeat("a0", 32): true, "sha256:" + strings.Repeat("A0", 32): false, "sha256:" + strings.Repeat("a", 63): false,
		"sha256:" + strings.Repeat("g", 64): false, "sha512:" + strings.Repeat("a0", 64): true, "md5:" + strings.Repeat("a", 32): false, "": false,
	} {
		if d, err := ParseDigest(s); (err == nil) != ok || ok && d.String() != s {
			t.Errorf("%q: %q, %v", s, d, err)
		}
	}
}
