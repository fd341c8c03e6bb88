package stores

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Index writes what dcs would know about the store: each image with the age that it was used last. Of the disk
// it looks at what each blob takes there, if it is there. The index is left as a rebuild that is done leaves it.
func Index(ctx context.Context, dir tree.Dir, s Shape, age func(image int) time.Duration) (err error) {
	for _, d := range []string{dir.Metadata(), dir.Native(layout.Blobs)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	ix, err := sqlite.Open(ctx, dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ix.Close()) }()
	token, err := ix.CloseGate(ctx)
	if err != nil {
		return err
	}
	f := filler{ctx: ctx, ix: ix, dir: dir}
	now := time.Now()
	for i := range s.Images {
		if err := f.image(s.Image(i), now.Add(-age(i))); err != nil {
			return err
		}
	}
	if err := f.flush(); err != nil {
		return err
	}
	if err := ix.SetPins(ctx); err != nil {
		return err
	}
	_, err = ix.OpenGate(ctx, token)
	return err
}

// transaction is how many rows are written at once. Together they are written in the order of their keys, or most of
// the time would go into pages of the index that are read and written again and again.
const transaction = 1_000_000

type filler struct {
	ctx  context.Context
	ix   index.Store
	dir  tree.Dir
	rows []index.Adoption
}

func (f *filler) image(im Image, at time.Time) error {
	var names []digest.Digest
	for _, b := range im.Blobs {
		names = append(names, b.Digest)
		f.add(index.Adoption{Claim: index.Claim{Key: layout.LayerKey(im.Repository, b.Digest)}, At: at})
	}
	m := im.Manifest
	for _, b := range append(im.Blobs, m) {
		k := layout.BlobKey(b.Digest)
		f.add(index.Adoption{Claim: index.Claim{Key: k, Size: int64(len(b.Data)), Disk: f.dir.TakenBy(k)}, At: at})
	}
	f.add(index.Adoption{Claim: index.Claim{Key: layout.ManifestKey(im.Repository, m.Digest), Size: int64(len(m.Data)),
		Manifest: &manifest.Manifest{MediaType: v1.MediaTypeImageManifest, Config: names[0],
			References: names}}, At: at})
	if im.Tag != "" {
		f.add(index.Adoption{Claim: index.Claim{Key: layout.TagKey(im.Repository, im.Tag)}, Digest: m.Digest, At: at})
	}
	if len(f.rows) < transaction {
		return nil
	}
	return f.flush()
}

func (f *filler) add(a index.Adoption) { f.rows = append(f.rows, a) }

func (f *filler) flush() error {
	slices.SortFunc(f.rows, func(a, b index.Adoption) int {
		return cmp.Or(cmp.Compare(turn(a.Key.Kind), turn(b.Key.Kind)), cmp.Compare(a.Key.Digest, b.Key.Digest),
			cmp.Compare(a.Digest, b.Digest))
	})
	looks := make([]index.Look, len(f.rows))
	for i := range f.rows {
		looks[i] = func() (index.Adoption, bool, error) { return f.rows[i], true, nil }
	}
	err := f.ix.Adopt(f.ctx, looks...)
	f.rows = f.rows[:0]
	return err
}

// turn is the order of kinds: what holds a row is known when it is written, and is written once.
func turn(k layout.Kind) int {
	return [...]int{layout.Manifest: 0, layout.Layer: 1, layout.Blob: 2, layout.Tag: 3}[k]
}

// StandIn holds a directory as a server does that has compared its index with the disk, and does nothing else. So a gc
// can be measured beside a server on an index alone, whose comparison with the disk would find that all is lost.
func StandIn(ctx context.Context, dir tree.Dir) (release func() error, err error) {
	ix, err := sqlite.Open(ctx, dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		return nil, err
	}
	lock, err := dir.Lock(ctx)
	if err != nil {
		return nil, errors.Join(err, ix.Close())
	}
	release = func() error { return errors.Join(ix.Close(), lock.Unlock()) }
	if err := errors.Join(lock.Announce(tree.Holder{PID: os.Getpid(), Index: ix.ID()}), ix.Beat(ctx)); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}
