package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// OpenCopy copies the index at path into dir and opens the copy, whose changes no other process sees. Without an index
// it makes a new one. No process may write to the index while it is copied.
func OpenCopy(ctx context.Context, path, dir string, wall func() time.Time) (*Store, error) {
	copied := filepath.Join(dir, filepath.Base(path))
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(copied+suffix, path+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("copy index: %w", err)
		}
	}
	return openIn(ctx, copied, alone, wall, nil)
}

// copyFile copies a regular file. The copy is for this process alone, and must not exist yet.
func copyFile(to, from string) error {
	f, err := disk.OpenNoFollow(from) // the copy may be another's to read than what a link leads to
	if err != nil {
		return err
	}
	defer f.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, f.File())
	return errors.Join(err, dst.Close())
}
