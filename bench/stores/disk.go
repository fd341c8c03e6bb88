package stores

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Disk writes the store into a directory, as distribution's filesystem driver leaves it. Nothing is synced.
func Disk(dir tree.Dir, s Shape) error {
	w := writer{dir: dir}
	var next atomic.Int64
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var working sync.WaitGroup
	for n := range workers {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(s.Images) && errs[n] == nil; i = next.Add(1) - 1 {
				errs[n] = w.Image(s.Image(int(i)))
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// Write puts one image into a directory.
func Write(dir tree.Dir, im Image) error { return (&writer{dir: dir}).Image(im) }

type writer struct {
	dir  tree.Dir
	made sync.Map // directories that are there: most of the time would go into looking for them
}

// Image stores what was uploaded, then the manifest, then the tag.
func (w *writer) Image(im Image) error {
	for _, b := range im.Blobs {
		if err := errors.Join(w.blob(b), w.link(im, layout.LayerLink, b.Digest)); err != nil {
			return err
		}
	}
	d := im.Manifest.Digest
	err := errors.Join(w.blob(im.Manifest), w.link(im, layout.RevisionLink, d))
	if im.Tag != "" && err == nil {
		err = errors.Join(w.link(im, layout.TagIndexLink, d), w.link(im, layout.TagLink, d))
	}
	return err
}

func (w *writer) blob(b Blob) error {
	return w.file(layout.Path{Kind: layout.BlobData, Digest: b.Digest}, b.Data)
}

func (w *writer) link(im Image, kind layout.PathKind, d digest.Digest) error {
	return w.file(layout.Path{Kind: kind, Repository: im.Repository, Digest: d, Tag: im.Tag}, []byte(d))
}

func (w *writer) file(p layout.Path, data []byte) error {
	name := w.dir.File(p)
	if err := w.parent(filepath.Dir(name)); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// parent makes the directory of a file, which is most often new, in one that is most often there.
func (w *writer) parent(dir string) error {
	above := filepath.Dir(dir)
	if _, ok := w.made.Load(above); !ok {
		if err := os.MkdirAll(above, 0o755); err != nil {
			return err
		}
		w.made.Store(above, true)
	}
	if err := os.Mkdir(dir, 0o755); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
