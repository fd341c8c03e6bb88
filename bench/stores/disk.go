package stores

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Disk writes the store into a directory, as distribution's filesystem driver leaves it. Nothing is synced.
func Disk(dir tree.Dir, s Shape) error { return write(&writer{dir: dir}, s) }

// Aged writes it with the age of each image as that of its files.
func Aged(dir tree.Dir, s Shape, age func(image int) time.Duration) error {
	return write(&writer{dir: dir, now: time.Now(), age: age}, s)
}

func write(w *writer, s Shape) error {
	var next atomic.Int64
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var working sync.WaitGroup
	for n := range workers {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(s.Images) && errs[n] == nil; i = next.Add(1) - 1 {
				errs[n] = w.Image(s.Image(int(i)), int(i))
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

// Write puts one image into a directory.
func Write(dir tree.Dir, im Image) error { return (&writer{dir: dir}).Image(im, 0) }

type writer struct {
	dir  tree.Dir
	now  time.Time
	age  func(image int) time.Duration // before now; nil: files are as old as they are
	made sync.Map                      // directories that are there: most of the time would go into looking for them
}

// Image stores what was uploaded, then the manifest, then the tag.
func (w *writer) Image(im Image, number int) error {
	var at time.Time
	if w.age != nil {
		at = w.now.Add(-w.age(number))
	}
	for _, b := range im.Blobs {
		if err := errors.Join(w.blob(b, at), w.link(im, layout.LayerLink, b.Digest, at)); err != nil {
			return err
		}
	}
	d := im.Manifest.Digest
	err := errors.Join(w.blob(im.Manifest, at), w.link(im, layout.RevisionLink, d, at))
	if im.Tag != "" && err == nil {
		err = errors.Join(w.link(im, layout.TagIndexLink, d, at), w.link(im, layout.TagLink, d, at))
	}
	return err
}

func (w *writer) blob(b Blob, at time.Time) error {
	return w.file(layout.Path{Kind: layout.BlobData, Digest: b.Digest}, b.Data, at)
}

func (w *writer) link(im Image, kind layout.PathKind, d digest.Digest, at time.Time) error {
	return w.file(layout.Path{Kind: kind, Repository: im.Repository, Digest: d, Tag: im.Tag}, []byte(d), at)
}

// file writes a file of a date; zero: now.
func (w *writer) file(p layout.Path, data []byte, at time.Time) error {
	name := w.dir.File(p)
	if err := w.parent(filepath.Dir(name)); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, 0o644); err != nil || at.IsZero() {
		return err
	}
	return os.Chtimes(name, at, at)
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
