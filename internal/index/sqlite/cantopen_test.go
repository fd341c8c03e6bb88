package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWhatCannotBeOpenedIsNamed: SQLite has one word for all that keeps it from opening a file. None of these is an
// index that a killed server left.
func TestWhatCannotBeOpenedIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		path string
		want error
	}{
		"no directory":            {filepath.Join(dir, "missing", "index.db"), fs.ErrNotExist},
		"a file for a directory":  {filepath.Join(file, "index.db"), syscall.ENOTDIR},
		"a name that is too long": {filepath.Join(dir, strings.Repeat("i", 300)), syscall.ENAMETOOLONG},
	} {
		for _, mode := range []Mode{Serve, alone} {
			_, err := Open(t.Context(), tt.path, mode, time.Now)
			if !errors.Is(err, tt.want) || errors.Is(err, ErrNoSharedMemory) ||
				!strings.Contains(err.Error(), tt.path) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestAnIndexOfAKilledServerWithoutSharedMemory lies in a directory where no file can be made. Tests may run as root,
// for whom every directory can be written to, so the file beside the WAL is a link that leads nowhere.
func TestAnIndexOfAKilledServerWithoutSharedMemory(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "index.db"), filepath.Join(t.TempDir(), "index.db")
	s := open(t, from, Serve, time.Now)
	if err := s.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} { // as a kill leaves them
		if err := copyFile(to+suffix, from+suffix); err != nil {
			t.Fatal(err)
		}
	}
	id := s.ID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "missing", "shm"), to+"-shm"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), to, Look, time.Now); !errors.Is(err, ErrNoSharedMemory) {
		t.Errorf("looking: %v; want %v", err, ErrNoSharedMemory)
	}
	if _, err := Open(t.Context(), to, Serve, time.Now); err == nil || errors.Is(err, ErrNoSharedMemory) {
		t.Errorf("serving: %v; want an error, and not that a copy would do", err)
	}
	copied, err := OpenCopy(t.Context(), to, t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if copied.ID() != id {
		t.Errorf("the copy is index %s, want %s", copied.ID(), id)
	}
}
