package manifest

import (
	_ "crypto/sha512" // digests know the algorithms that are linked
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func dg(name string) digest.Digest { return digest.FromString(name) }

func dgs(names ...string) (all []digest.Digest) {
	for _, n := range names {
		all = append(all, dg(n))
	}
	return all
}

// fill replaces each <name> by the digest of name.
func fill(text string) []byte {
	for {
		before, rest, ok := strings.Cut(text, "<")
		if !ok {
			return []byte(text)
		}
		name, after, _ := strings.Cut(rest, ">")
		text = before + dg(name).String() + after
	}
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		want       Manifest
	}{
		{"a docker image",
			`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
			"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"<config>","size":7},
			"layers":[{"mediaType":"l","digest":"<l1>","size":1},{"mediaType":"l","digest":"<l2>","size":2}]}`,
			Manifest{MediaType: "application/vnd.docker.distribution.manifest.v2+json",
				ArtifactType: "application/vnd.docker.container.image.v1+json",
				Config:       dg("config"), References: dgs("l1", "l2", "config")}},
		{"an OCI image that does not say its media type",
			`{"schemaVersion":2,"config":{"mediaType":"c","digest":"<config>"},"layers":[]}`,
			Manifest{MediaType: ociManifest, ArtifactType: "c", Config: dg("config"), References: dgs("config")}},
		{"an OCI index that does not say its media type",
			`{"schemaVersion":2,"manifests":[{"digest":"<m1>","platform":{"os":"linux"}},{"digest":"<m2>"}]}`,
			Manifest{MediaType: ociIndex, References: dgs("m1", "m2")}},
		{"an empty index", `{"schemaVersion":2,"manifests":[]}`, Manifest{MediaType: ociIndex}},
		{"BuildKit's cache, an index that lists layers and a config under manifests",
			`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[
			{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",` +
				`"digest":"<l1>","size":1,"annotations":{"buildkit/createdat":"x"}},
			{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"<cache>","size":2}]}`,
			Manifest{MediaType: ociIndex, References: dgs("l1", "cache")}},
		{"layers that may live elsewhere",
			`{"schemaVersion":2,"config":{"digest":"<c>"},"layers":[
			{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",` +
				`"digest":"<f>","urls":["https://example.com/f"]},
			{"digest":"<l>","urls":[]}]}`,
			Manifest{MediaType: ociManifest, Config: dg("c"), References: dgs("f", "l", "c")}},
		{"a referrer with an artifact type of its own",
			`{"schemaVersion":2,"artifactType":"a",` +
				`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"<{}>"},
			"layers":[{"digest":"<sig>"}],"subject":{"mediaType":"x","digest":"<image>","size":3}}`,
			Manifest{MediaType: ociManifest, ArtifactType: "a", Config: dg("{}"), Subject: dg("image"),
				References: dgs("sig", "{}")}},
		{"a referrer whose config says its artifact type",
			`{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config","digest":"<c>"},` +
				`"layers":[],"subject":{"digest":"<image>"}}`,
			Manifest{MediaType: ociManifest, ArtifactType: "application/vnd.cncf.helm.config", Config: dg("c"),
				Subject: dg("image"), References: dgs("c")}},
		{"an index with a subject that it also lists",
			`{"schemaVersion":2,"artifactType":"a","manifests":[{"digest":"<r>"}],"subject":{"digest":"<r>"}}`,
			Manifest{MediaType: ociIndex, ArtifactType: "a", References: dgs("r")}},
		{"a config that null does not take back",
			`{"schemaVersion":2,"config":{"digest":"<c>"},"config":null}`,
			Manifest{MediaType: ociManifest, Config: dg("c"), References: dgs("c")}},
		{"an artifact manifest from before OCI 1.1",
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.artifact.manifest.v1+json",` +
				`"artifactType":"a","blobs":[{"digest":"<b>"}],"subject":{"digest":"<s>"}}`,
			Manifest{MediaType: "application/vnd.oci.artifact.manifest.v1+json", ArtifactType: "a", Subject: dg("s"),
				References: dgs("b")}},
		{"schema 1, signed, which repeats its empty layer",
			`{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws",` +
				`"name":"a","tag":"v1",
			"fsLayers":[{"blobSum":"<empty>"},{"blobSum":"<l>"},{"blobSum":"<empty>"}],` +
				`"history":[{"v1Compatibility":"{}"}],"signatures":[{}]}`,
			Manifest{MediaType: SchemaOne, References: dgs("empty", "l")}},
		{"schema 1 that says to be an image",
			`{"schemaVersion":1,"mediaType":"` + ociManifest + `","fsLayers":[{"blobSum":"<l>"}]}`,
			Manifest{MediaType: SchemaOne, References: dgs("l")}},
		{"each reference once, the config among the layers too",
			`{"schemaVersion":2,"config":{"digest":"<x>"},` +
				`"layers":[{"digest":"<x>"},{"digest":"<y>"},{"digest":"<y>"}],` +
				`"manifests":[{"digest":"<y>"}]}`,
			Manifest{MediaType: ociIndex, Config: dg("x"), References: dgs("x", "y")}},
		{"a type that nobody knows",
			`{"schemaVersion":2,"mediaType":"x/y",` +
				`"layers":[{"mediaType":"?","digest":"<l>"}],"more":{"digest":"sha256:no"}}`,
			Manifest{MediaType: "x/y", References: dgs("l")}},
		{"a config of null", `{"schemaVersion":2,"config":null,"subject":null,"layers":null,"manifests":null}`,
			Manifest{MediaType: ociManifest}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(fill(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			got.Parts = nil // see TestAPartIsWhatAllItsDescriptorsSay
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got\n%+v, want\n%+v", *got, tt.want)
			}
		})
	}
}

func TestParseTakesEveryAlgorithm(t *testing.T) {
	d := digest.SHA512.FromString("l")
	c, err := Parse(fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"digest":%q}]}`, d))
	if err != nil || !slices.Equal(c.References, []digest.Digest{d}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, data, why string }{
		{"nothing", ``, "not JSON"},
		{"what is no JSON", `<html>`, "not JSON"},
		{"half a manifest", `{"schemaVersion":2,"layers":[`, "not JSON"},
		{"something after the manifest", `{"schemaVersion":2} {}`, "not JSON"},
		{"a list", `[]`, "not JSON"},
		{"null", `null`, "schemaVersion 0"},
		{"an image configuration", `{"architecture":"amd64","rootfs":{"type":"layers"}}`, "schemaVersion 0"},
		{"a schema of the future", `{"schemaVersion":3}`, "schemaVersion 3"},
		{"layers that are no list", `{"schemaVersion":2,"layers":{"digest":"x"}}`, "not JSON"},
		{"a digest that is a number", `{"schemaVersion":2,"layers":[{"digest":1}]}`, "not JSON"},
		{"a layer without a digest", `{"schemaVersion":2,"layers":[{"size":1}]}`, "reference"},
		{"a config without a digest", `{"schemaVersion":2,"config":{}}`, "reference"},
		{"a digest without an algorithm", `{"schemaVersion":2,"layers":[{"digest":"` + dg("x").Encoded() + `"}]}`,
			"reference"},
		{"a digest of an unknown algorithm",
			`{"schemaVersion":2,"layers":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e"}]}`,
			"reference"},
		{"a short digest", `{"schemaVersion":2,"manifests":[{"digest":"sha256:abcd"}]}`, "reference"},
		{"a digest that is a path", `{"schemaVersion":2,"layers":[{"digest":"sha256:../../etc/passwd"}]}`, "reference"},
		{"a digest in capitals", `{"schemaVersion":2,"blobs":[{"digest":"sha256:` + strings.ToUpper(dg("x").Encoded()) +
			`"}]}`, "reference"},
		{"a bad digest of schema 1", `{"schemaVersion":1,"fsLayers":[{"blobSum":"tarsum+sha256:` + dg("x").Encoded() +
			`"}]}`, "reference"},
		{"a subject without a digest", `{"schemaVersion":2,"subject":{}}`, "subject"},
		{"a bad subject", `{"schemaVersion":2,"subject":{"digest":"sha256:no"}}`, "subject"},
		{"deep nesting", `{"schemaVersion":2,"x":` + strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6) + `}`,
			"not JSON"},
		{"more than a manifest can have", `{"schemaVersion":2,"x":"` + strings.Repeat("x", MaxManifest) + `"}`,
			"more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.data))
			if err == nil || c != nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("%+v, %v; want an error with %q", c, err, tt.why)
			}
		})
	}
}

func TestParseTakesTheLargestManifest(t *testing.T) {
	const frame = `{"schemaVersion":2,"x":""}`
	data := `{"schemaVersion":2,"x":"` + strings.Repeat("x", MaxManifest-len(frame)) + `"}`
	if _, err := Parse([]byte(data)); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"schemaVersion":2}`, `{"schemaVersion":2,"manifests":[{"digest":"<m>"},{"digest":"<m>"}]}`,
		`{"schemaVersion":2,"config":{"digest":"<c>"},"layers":[{"digest":"<l>","urls":["u"]},{"digest":"<c>"}],` +
			`"subject":{"digest":"<s>"}}`,
		`{"schemaVersion":1,"fsLayers":[{"blobSum":"<l>"}]}`, `{"schemaVersion":2,"layers":[{"digest":"sha256:"}]}`,
		`{"schemaVersion":2,"blobs":[null,{"digest":"sha512:00"}]}`,
	} {
		f.Add(fill(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%+v, %v", c, err)
		}
		if err != nil {
			return
		}
		if !json.Valid(data) || c.MediaType == "" {
			t.Errorf("%q was taken: %+v", data, c)
		}
		seen := map[digest.Digest]bool{}
		for _, d := range c.References {
			if d.Validate() != nil || seen[d] {
				t.Errorf("reference %q is bad or there twice: %+v", d, c)
			}
			seen[d] = true
		}
		for i, p := range c.Parts {
			if p.Digest != c.References[i] || p.Foreign && (p.Manifest || p.Digest == c.Config) {
				t.Errorf("%+v is no reference, or may not live elsewhere: %+v", p, c)
			}
		}
		if c.Config != "" && !seen[c.Config] {
			t.Errorf("the config is no reference: %+v", c)
		}
		if c.Subject != "" && c.Subject.Validate() != nil {
			t.Errorf("the subject is bad: %+v", c)
		}
	})
}

func TestAPartIsWhatAllItsDescriptorsSay(t *testing.T) {
	const layer, foreign, urls = `"mediaType":"application/vnd.oci.image.layer.v1.tar"`,
		`"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"`, `"urls":["https://example.com/f"]`
	blob := func(size int64) Part { return Part{Digest: dg("x"), Size: size, Blob: true} }
	for _, tt := range []struct {
		name, members string
		want          Part
	}{
		{"a layer", `"layers":[{` + layer + `,"digest":"<x>","size":7}]`, blob(7)},
		{"a layer twice", `"layers":[{` + layer + `,"digest":"<x>","size":7},{"digest":"<x>","size":7}]`, blob(7)},
		{"a layer of no size", `"layers":[{"digest":"<x>"},{"digest":"<x>","size":null}]`, blob(Unsaid)},
		{"a layer whose size is said once", `"layers":[{"digest":"<x>"},{"digest":"<x>","size":8}]`, blob(8)},
		{"a layer of two sizes",
			`"layers":[{"digest":"<x>","size":7},{"digest":"<x>","size":8},{"digest":"<x>","size":7}]`,
			blob(Contradictory)},
		{"a layer of a size below nothing", `"layers":[{"digest":"<x>","size":-1}]`, blob(Contradictory)},
		{"a layer whose size is a word", `"layers":[{"digest":"<x>","size":"7"}]`, blob(Contradictory)},
		{"a blob of an artifact", `"blobs":[{"digest":"<x>","size":7}]`, blob(7)},
		{"a child", `"manifests":[{"mediaType":"` + ociManifest + `","digest":"<x>","size":7}]`,
			Part{Digest: dg("x"), Size: 7, Manifest: true}},
		{"a child without a type", `"manifests":[{"digest":"<x>","size":7}]`, Part{Digest: dg("x"), Size: 7}},
		{"a layer of BuildKit's cache", `"manifests":[{` + layer + `,"digest":"<x>","size":7}]`, blob(7)},
		{"a manifest among layers", `"layers":[{"mediaType":"` + ociManifest + `","digest":"<x>","size":7}]`,
			Part{Digest: dg("x"), Size: 7}},
		{"a child that is a layer, too", `"layers":[{"digest":"<x>","size":7}],"manifests":[{"mediaType":"` + ociIndex +
			`","digest":"<x>","size":7}]`,
			Part{Digest: dg("x"), Size: 7, Blob: true, Manifest: true}},
		{"a foreign layer", `"layers":[{` + foreign + `,` + urls + `,"digest":"<x>","size":7}]`,
			Part{Digest: dg("x"), Size: 7, Blob: true, Foreign: true}},
		{"a foreign layer without a place", `"layers":[{` + foreign + `,"digest":"<x>","size":7}]`, blob(7)},
		{"a foreign layer that is a plain one, too", `"layers":[{` + foreign + `,` + urls +
			`,"digest":"<x>","size":7},{` + layer + `,"digest":"<x>","size":7}]`, blob(7)},
		{"a plain layer that is a foreign one, too", `"layers":[{` + layer + `,"digest":"<x>","size":7},{` + foreign +
			`,` + urls + `,"digest":"<x>","size":7}]`, blob(7)},
		{"a config that calls itself foreign", `"config":{` + foreign + `,` + urls + `,"digest":"<x>","size":7}`,
			blob(7)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(fill(`{"schemaVersion":2,` + tt.members + `}`))
			if err != nil || len(c.Parts) != 1 || c.Parts[0] != tt.want {
				t.Errorf("%+v, %v; want %+v", c, err, tt.want)
			}
		})
	}
}

func TestCheckUnambiguous(t *testing.T) {
	for _, good := range []string{
		`{}`, `{"a":1,"b":[{"a":1},{"a":{"a":[]}}]}`, `[]`, `{"a":"b","c":null}`,
		`{"annotations":{"team":"a","Team":"b","digest":"c","Digest":"d"}}`,
		`{"layers":[{"digest":"x","annotations":{"size":"1","SIZE":"2"},"platform":{"os":"a","OS":"b"}}]}`,
		`{"annotations":{},"Annotations":{}}`,
	} {
		if err := CheckUnambiguous([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		`{"a":1,"a":2}`, `{"layers":[],"Layers":[]}`, `{"layers":[{"digest":"x","Digest":"y"}]}`,
		`{"a":{},"c":[1],"a":null}`, `{"a"`,
		`{} {}`, `{"layers":[],"layerſ":[]}`, `{"layers":[],"layer` + "ſ" + `":[]}`, `{"blob` + "ſ" +
			`":[],"blobs":[]}`, `{"manife` + "ſ" + `ts":[],"manifestS":[]}`,
		`{"subject":{"digest":"x","DIGEST":"y"}}`, `{"config":{"mediaType":"a","mediatype":"b"}}`,
		`{"manifests":[{"size":1,"` + "ſ" + `ize":2}]}`,
		`{"fsLayers":[{"blobSum":"x","blob` + "ſ" +
			`um":"y"}]}`, `{"Config":{"digest":"x","Digest":"y"}}`, `{"annotations":{"a":"1","a":"2"}}`,
		strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6),
	} {
		if err := CheckUnambiguous([]byte(bad)); err == nil {
			t.Errorf("%.100s is taken", bad)
		}
	}
}

// TestNamesThatReadersTakeForOneAreRefused asks encoding/json itself, for each character that it may take
// for a letter of a member.
func TestNamesThatReadersTakeForOneAreRefused(t *testing.T) {
	for member := range manifestObject {
		for i := range member {
			for c := rune(0x80); c < 0x20000; c++ {
				if !strings.EqualFold(string(c), member[i:i+1]) {
					continue
				}
				alike := member[:i] + string(c) + member[i+1:]
				if !readAlike(t, member, alike) {
					t.Errorf("encoding/json takes %q for another name than %q", alike, member)
				}
				if err := CheckUnambiguous(fmt.Appendf(nil, `{%q:null,%q:null}`, member, alike)); err == nil {
					t.Errorf("%q beside %q is taken", alike, member)
				}
			}
		}
	}
}

// readAlike says whether encoding/json reads a name into the field of another.
func readAlike(t *testing.T, member, name string) bool {
	t.Helper()
	field := reflect.StructOf([]reflect.StructField{{Name: "F", Type: reflect.TypeFor[string](),
		Tag: reflect.StructTag(fmt.Sprintf(`json:%q`, member))}})
	v := reflect.New(field)
	if err := json.Unmarshal(fmt.Appendf(nil, `{%q:"read"}`, name), v.Interface()); err != nil {
		t.Fatal(err)
	}
	return v.Elem().Field(0).String() == "read"
}
