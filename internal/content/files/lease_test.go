package files

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// names lets the index know a manifest of a repository, and links for all that it names.
func (b *bench) names(repo, name string, parts ...string) {
	b.Helper()
	m := &manifest.Manifest{}
	var looks []index.Look
	add := func(c index.Claim) {
		looks = append(looks, func() (index.Adoption, bool, error) { return index.Adoption{Claim: c}, true, nil })
	}
	for _, part := range parts {
		m.References = append(m.References, digest.FromString(part))
		add(index.Claim{Key: layout.LayerKey(repo, digest.FromString(part)), WithBlob: true, Size: 1})
	}
	add(index.Claim{Key: layout.ManifestKey(repo, digest.FromString(name)), WithBlob: true, Size: 1, Manifest: m})
	if err := b.index.Adopt(b.Context(), looks...); err != nil {
		b.Fatal(err)
	}
}

// reads records a read of the bytes of a layer.
func (b *bench) reads(repo, part string) {
	b.Helper()
	k := layout.LayerKey(repo, digest.FromString(part))
	if st, err := b.leases.takeBytes(b.Context(), k, b.meetSymlinks); err != nil || !st.placed {
		b.Fatalf("the read of %s found %+v, %v", part, st, err)
	}
}

// TestMemoryOfReadsIsBounded reads a layer of a manifest that names more than any image does.
func TestMemoryOfReadsIsBounded(t *testing.T) {
	const most = 1 + 128 // itself, and those beside it
	b := newBench(t)
	var parts []string
	for i := range 200 {
		parts = append(parts, fmt.Sprint("layer ", i))
	}
	b.names("app", "hostile", parts...)
	b.names("app", "image", "one", "two", "three")
	for _, part := range []string{parts[199], parts[0]} {
		d := digest.FromString(part)
		leased, err := b.index.LeaseBytes(t.Context(), "app", d, b.index.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(leased) != most || leased[0].Digest != d {
			t.Errorf("a read of %s finds %d links, of which %s is the first; want %d, and %s", part, len(leased),
				leased[0].Digest, most, d)
		}
	}
	b.reads("app", parts[199])
	if n := len(b.leases.last); n != most {
		t.Errorf("%d uses are remembered, want %d", n, most)
	}
	b.pass(2 * rules.Resolution)
	b.reads("app", "two")
	if n := len(b.leases.last); n != 3 {
		t.Errorf("%d uses are remembered two resolutions later, want 3", n)
	}
}

// TestAReadOfAnOlderImageTakesNoReadBack reads two images with a layer in common, and the one that was used before the
// other last.
func TestAReadOfAnOlderImageTakesNoReadBack(t *testing.T) {
	b := newBench(t)
	b.names("app", "older", "base", "of the older")
	b.pass(rules.Resolution / 2)
	b.names("app", "younger", "base", "of the younger")
	b.reads("app", "of the younger")
	b.reads("app", "of the older")
	b.pass(rules.Resolution - time.Second)
	if _, fresh := b.leases.freshBytes(layout.LayerKey("app", digest.FromString("base"))); !fresh {
		t.Error("the layer of both is asked for again, within a resolution of the use of the younger image")
	}
	if _, fresh := b.leases.freshBytes(layout.LayerKey("app", digest.FromString("of the older"))); fresh {
		t.Error("the use of the older image counts for longer than a resolution")
	}
}
