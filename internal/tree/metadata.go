package tree

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// ReadMetadata reads a file of .metadata, of so many bytes at most. fs.ErrNotExist.
func (d Dir) ReadMetadata(path string, most int64) ([]byte, error) {
	file, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if file.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, file.Size(), most)
	}
	return file.ReadAll()
}

// WriteMetadata replaces a file of .metadata by one that holds data, atomically and durably. It is staged in temp,
// which a start empties: a kill leaves nothing behind.
func (t *Tree) WriteMetadata(path string, data []byte) error {
	staged, err := t.Stage(data)
	if err != nil {
		return err
	}
	defer staged.Discard()
	if err := Sync(staged); err != nil {
		return err
	}
	failpoint.Step()
	if err := os.Rename(staged.path, path); err != nil {
		return err
	}
	staged.placed = true
	return disk.SyncDir(filepath.Dir(path))
}
