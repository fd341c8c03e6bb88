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

// everyKind has a path of each kind of file, as distribution's documentation of its layout spells it.
var everyKind = []struct {
	path string
	want Path
}{
	{"/docker/registry/v2/blobs/sha256/e3/" + hex256 + "/data", Path{Kind: BlobData, Digest: dgst}},
	{"/docker/registry/v2/blobs/sha512/e3/" + hex256 + hex256 + "/data", Path{Kind: BlobData, Digest: dgst5}},
	{"/docker/registry/v2/repositories/app/_layers/sha256/" + hex256 + "/link",
		Path{Kind: LayerLink, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests/revisions/sha256/" + hex256 + "/link",
		Path{Kind: RevisionLink, Repository: "app", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/current/link",
		Path{Kind: TagLink, Repository: "app", Tag: "v1"}},
	{"/docker/registry/v2/repositories/app/_manifests/tags/v1/index/sha256/" + hex256 + "/link",
		Path{Kind: TagIndexLink, Repository: "app", Tag: "v1", Digest: dgst}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/data", Path{Kind: UploadData, Repository: "app",
		Upload: "1b4e"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/startedat",
		Path{Kind: UploadStartedAt, Repository: "app", Upload: "1b4e"}},
	{"/docker/registry/v2/repositories/app/_uploads/1b4e/hashstates/sha256/1024",
		Path{Kind: UploadHashState, Repository: "app", Upload: "1b4e", Algorithm: "sha256", Offset: "1024"}},
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
	for k := BlobData; k <= UploadHashState; k++ {
		if !seen[k] {
			t.Errorf("no path of kind %d in the table", k)
		}
	}
}

// TestAKeyAndItsFileAreInverse for the four kinds of keys, and for no other file.
func TestAKeyAndItsFileAreInverse(t *testing.T) {
	keys := map[Kind]bool{}
	for _, c := range everyKind {
		k, ok := c.want.Key()
		if ok != (c.want.Kind <= TagLink) || ok && k.Path() != c.want {
			t.Errorf("Key(%+v) = %v, %v, whose file is %+v", c.want, k, ok, k.Path())
		}
		keys[k.Kind] = true
	}
	for _, kind := range []Kind{Blob, Layer, Manifest, Tag} {
		if !keys[kind] {
			t.Errorf("no file of a %s in the table", kind)
		}
	}
}

// everyDirectory has a directory of each kind that may hold files.
var everyDirectory = []string{
	"/docker", "/docker/registry", Root,
	"/docker/registry/v2/blobs/sha256", "/docker/registry/v2/blobs/sha512/e3",
	"/docker/registry/v2/repositories/app/_layers/sha256",
	"/docker/registry/v2/repositories/app/_manifests/tags/v1/current",
	"/docker/registry/v2/blobs",
	"/docker/registry/v2/blobs/sha256/e3/" + hex256,
	"/docker/registry/v2/repositories",
	"/docker/registry/v2/repositories/a/b-c/d.e__f",
	"/docker/registry/v2/repositories/app/_layers",
	"/docker/registry/v2/repositories/app/_layers/sha256/" + hex256,
	"/docker/registry/v2/repositories/app/_manifests",
	"/docker/registry/v2/repositories/app/_manifests/revisions",
	"/docker/registry/v2/repositories/app/_manifests/revisions/sha256/" + hex256,
	"/docker/registry/v2/repositories/app/_manifests/tags",
	"/docker/registry/v2/repositories/app/_manifests/tags/_V1.x",
	"/docker/registry/v2/repositories/app/_manifests/tags/" + hex256,
	"/docker/registry/v2/repositories/app/_manifests/tags/v1/index",
	"/docker/registry/v2/repositories/app/_manifests/tags/v1/index/sha256/" + hex256,
	"/docker/registry/v2/repositories/app/_uploads",
	"/docker/registry/v2/repositories/app/_uploads/1b4e",
	"/docker/registry/v2/repositories/app/_uploads/1b4e/hashstates/sha256",
}

func TestEveryDirectoryOfTheTreeIsKnown(t *testing.T) {
	for _, dir := range everyDirectory {
		if !Known(dir) {
			t.Errorf("%s is not known", dir)
		}
		if p, ok := Parse(dir); ok {
			t.Errorf("Parse(%s) = %+v, and it is a directory", dir, p)
		}
	}
	for _, c := range everyKind {
		if !Known(c.path) {
			t.Errorf("%s is not known", c.path)
		}
	}
	for _, path := range []string{"/etc", "/docker/x", "/docker/registry/v2/x", "/docker/registry/v2/blobs/md5",
		"/docker/registry/v2/blobs/sha256/e34",
		"/docker/registry/v2/repositories/-app", "/docker/registry/v2/repositories/app/_other", "/docker/registry/v2/repositories/app/_uploads/1b4e/x",
		"/docker/registry/v2/repositories/app/_manifests/tags/v1/x"} {
		if Known(path) {
			t.Errorf("%s is known", path)
		}
	}
}

func TestDirectoriesHoldTheirFiles(t *testing.T) {
	upload := Upload{"app", "1b4e"}
	for dir, file := range map[string]Path{
		LinksDir(Layer, "app"):              {Kind: LayerLink, Repository: "app", Digest: dgst},
		LinksDir(Manifest, "app"):           {Kind: RevisionLink, Repository: "app", Digest: dgst},
		TagDir("app", "v1"):                 {Kind: TagLink, Repository: "app", Tag: "v1"},
		TagIndexEntryDir("app", "v1", dgst): {Kind: TagIndexLink, Repository: "app", Tag: "v1", Digest: dgst},
		upload.Dir():                        upload.Data(),
		ManifestsDir("app"):                 {Kind: RevisionLink, Repository: "app", Digest: dgst},
		TagsDir("app"):                      {Kind: TagLink, Repository: "app", Tag: "v1"},
		UploadsDir("app"):                   upload.StartedAt(),
	} {
		if !strings.HasPrefix(file.String(), dir+"/") {
			t.Errorf("%s is not in %s", file, dir)
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
		"sha256:" + strings.Repeat("a0", 32): true, "sha256:" + strings.Repeat("A0", 32): false, "sha256:" +
			strings.Repeat("a", 63): false,
		"sha256:" + strings.Repeat("g", 64): false, "sha512:" + strings.Repeat("a0", 64): true, "md5:" +
			strings.Repeat("a", 32): false, "": false,
	} {
		if d, err := ParseDigest(s); (err == nil) != ok || ok && d.String() != s {
			t.Errorf("%q: %q, %v", s, d, err)
		}
	}
}
