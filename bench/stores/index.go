package stores

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Index writes what dcs would know about the store: each image with the age that it was used last. Nothing looks at the
// disk. The index is left as a rebuild that is done leaves it.
func Index(ctx context.Context, dir layout.Dir, s Shape, age func(image int) time.Duration) (err error) {
	for _, d := range []string{dir.Metadata(), dir.File(layout.Path{Kind: layout.BlobsDir})} {
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
	f := filler{ctx: ctx, ix: ix}
	now := time.Now()
	for i := range s.Images {
		if err := f.image(s.Image(i), now.Add(-age(i))); err != nil {
			return err
		}
	}
	if err := f.flush(); err != nil {
		return err
	}
	_, err = ix.OpenGate(ctx, token)
	return err
}

type filler struct {
	ctx   context.Context
	ix    index.Store
	looks []index.Look
}

func (f *filler) image(im Image, at time.Time) error {
	var names []digest.Digest
	for _, b := range im.Blobs {
		names = append(names, b.Digest)
	}
	m := im.Manifest
	f.add(index.Adoption{Claim: index.Claim{Key: index.ManifestKey(im.Repository, m.Digest), Size: int64(len(m.Data)),
		Content: &index.Content{MediaType: "application/vnd.oci.image.manifest.v1+json", Config: names[0], References: names}}, At: at})
	for _, b := range append(im.Blobs, m) {
		f.add(index.Adoption{Claim: index.Claim{Key: index.BlobKey(b.Digest), Size: int64(len(b.Data))}, At: at})
	}
	for _, d := range names {
		f.add(index.Adoption{Claim: index.Claim{Key: index.LayerKey(im.Repository, d)}, At: at})
	}
	if im.Tag != "" {
		f.add(index.Adoption{Claim: index.Claim{Key: index.TagKey(im.Repository, im.Tag)}, Digest: m.Digest, At: at})
	}
	if len(f.looks) < 100_000 { // a transaction
		return nil
	}
	return f.flush()
}

func (f *filler) add(a index.Adoption) {
	f.looks = append(f.looks, func() (index.Adoption, bool, error) { return a, true, nil })
}

func (f *filler) flush() error {
	err := f.ix.Adopt(f.ctx, f.looks...)
	f.looks = f.looks[:0]
	return err
}

// StandIn holds a directory as a server does that has compared its index with the disk, and does nothing else. So a gc can
// be measured beside a server on an index alone, whose comparison with the disk would find that all is lost.
func StandIn(ctx context.Context, dir layout.Dir) (release func() error, err error) {
	ix, err := sqlite.Open(ctx, dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		return nil, err
	}
	lock, err := dir.Lock(ctx)
	if err != nil {
		return nil, errors.Join(err, ix.Close())
	}
	release = func() error { return errors.Join(ix.Close(), lock.Unlock()) }
	if err := errors.Join(lock.Announce(layout.Holder{PID: os.Getpid(), Index: ix.ID()}), ix.Beat(ctx)); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}
