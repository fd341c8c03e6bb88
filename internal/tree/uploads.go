package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The files of an unfinished upload promise nothing, and are not synced. The time of the last write, by the wall clock,
// says whether a client still continues it.

// BeginUpload makes an upload that begins at a time.
func (t *Tree) BeginUpload(u layout.Upload, at time.Time) error {
	t.beginning.RLock()
	defer t.beginning.RUnlock()
	return t.scratch(t.File(u.StartedAt()), []byte(at.UTC().Format(time.RFC3339Nano)))
}

// UploadBegan reads when an upload began. ok is false if its file does not say.
func (d Dir) UploadBegan(u layout.Upload) (at time.Time, ok bool, err error) {
	data, err := disk.ReadFile(d.File(u.StartedAt()))
	if err != nil {
		return time.Time{}, false, err
	}
	at, bad := time.Parse(time.RFC3339, string(data)) // with a fraction or without
	return at, bad == nil, nil
}

// TouchUpload records that a client continues an upload.
func (t *Tree) TouchUpload(u layout.Upload, at time.Time) error {
	return os.Chtimes(t.File(u.StartedAt()), at, at)
}

// UploadSize is how many bytes of an upload are on disk. fs.ErrNotExist: there is no such upload.
func (d Dir) UploadSize(u layout.Upload) (int64, error) {
	if _, err := os.Stat(d.File(u.StartedAt())); err != nil {
		return 0, err
	}
	fi, err := os.Stat(d.File(u.Data()))
	if Missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// UploadFile holds the bytes of an upload. What is written is appended.
type UploadFile struct{ *os.File }

// OpenUpload opens the bytes of an upload, which has none when it begins.
func (t *Tree) OpenUpload(u layout.Upload) (*UploadFile, error) {
	failpoint.Step()
	f, err := disk.OpenFile(t.File(u.Data()), os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return nil, err
	}
	if err := t.Own(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &UploadFile{f}, nil
}

// Size is how many bytes there are.
func (f *UploadFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// BeginSync lets the disk begin to write some bytes while more of them come.
func (f *UploadFile) BeginSync(offset, length int64) error {
	return disk.BeginSync(f.File, offset, length)
}

// AwaitSync waits until the disk has some of the bytes.
func (f *UploadFile) AwaitSync(offset, length int64) error {
	return disk.AwaitSync(f.File, offset, length)
}

// Sync makes the bytes durable.
func (f *UploadFile) Sync() error { return disk.SyncFile(f.File) }

// RemoveUpload removes an upload, whatever is in its directory.
func (t *Tree) RemoveUpload(u layout.Upload) error {
	failpoint.Step()
	dir := t.Native(u.Dir())
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	t.prune(filepath.Dir(dir))
	return nil
}

// RemoveUploads removes all unfinished uploads, also those of an earlier server.
func (t *Tree) RemoveUploads() error {
	t.beginning.Lock()
	defer t.beginning.Unlock()
	return t.removeUploads()
}

// removeUploads passes over directories that this process may not read: it made none of those.
func (t *Tree) removeUploads() error {
	walk, err := t.Walk()
	if err != nil {
		return err
	}
	var errs []error
	ctx := context.Background() // what is left would be trusted
	err = walk.Repositories(ctx, func(repo string) error {
		return walk.Uploads(ctx, repo, func(u layout.Upload) error {
			errs = append(errs, t.RemoveUpload(u))
			return nil
		})
	})
	for _, u := range walk.Unread() {
		errs = append(errs, u.Err)
	}
	errs = slices.DeleteFunc(append(errs, err), func(err error) bool { return errors.Is(err, fs.ErrPermission) })
	return errors.Join(errs...)
}

// RemoveAbandoned moves an upload to the trash if it still is abandoned. False: it is not, or does not exist.
func (t *Tree) RemoveAbandoned(u layout.Upload, since time.Time) (bool, error) {
	dir := t.Native(u.Dir())
	moved, err := t.throwIf(dir, func(moved string) (bool, error) {
		over, err := abandoned(moved, since)
		return !over, err
	})
	if moved {
		t.prune(filepath.Dir(dir))
	}
	return moved, err
}

// Abandoned says whether nothing was written to an upload since a time.
func (d Dir) Abandoned(u layout.Upload, since time.Time) (bool, error) {
	return abandoned(d.Native(u.Dir()), since)
}

// abandoned wants a directory that holds only what registries put into an upload. Any other is an operator's own: a
// symbolic link in place of the list of uploads may lead anywhere.
func abandoned(dir string, since time.Time) (bool, error) {
	last, err := lastWrite(dir)
	if err != nil || last.IsZero() || !last.Before(since) { // zero: it ended since
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if Missing(err) {
		return true, nil
	}
	strange := slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return !slices.Contains(layout.UploadEntries, e.Name())
	})
	return !strange, err
}

// LastWrite is when a client last went on with an upload. Zero: there is none.
func (d Dir) LastWrite(u layout.Upload) (time.Time, error) { return lastWrite(d.Native(u.Dir())) }

func lastWrite(dir string) (last time.Time, err error) {
	for _, name := range append([]string{""}, layout.UploadFiles...) {
		fi, err := os.Stat(filepath.Join(dir, name))
		if Missing(err) {
			continue
		}
		if err != nil {
			return last, err
		}
		if fi.ModTime().After(last) {
			last = fi.ModTime()
		}
	}
	return last, nil
}
