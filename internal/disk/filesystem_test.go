package disk

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mounted mounts a new file system from a file. It skips the test where that is not possible.
func mounted(t *testing.T, make ...string) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root of a Linux can mount")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Skipf("%s %q: %v, %s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(make[0], append(make[1:], image)...)
	run("mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

func fileSystem(t *testing.T, dir string) *FileSystem {
	t.Helper()
	f, err := OpenFileSystem(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestAFileSystemIsTrustedByItsJournal(t *testing.T) {
	for name, tt := range map[string]struct {
		mkfs  []string
		whole bool
	}{
		"with a journal":    {[]string{"mkfs.ext4", "-q", "-F"}, true},
		"without a journal": {[]string{"mkfs.ext4", "-q", "-F", "-O", "^has_journal"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := fileSystem(t, mounted(t, tt.mkfs...))
			if f.Whole() != tt.whole {
				t.Errorf("whole: %v, want %v", f.Whole(), tt.whole)
			}
			if err := f.Sync(0); err != nil {
				t.Error(err)
			}
		})
	}
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() && fileSystem(t, "/dev/shm").Whole() {
		t.Error("a file system in memory is trusted")
	}
}

// TestASlowSyncOfLittleIsLeftAlone: it waited for others' data.
func TestASlowSyncOfLittleIsLeftAlone(t *testing.T) {
	f := &FileSystem{whole: true}
	for _, tt := range []struct {
		own   int64
		took  time.Duration
		whole bool
	}{
		{little, 2 * slow, true},
		{0, slow, true},
		{0, 2 * slow, false},
	} {
		f.took(tt.own, tt.took)
		if f.Whole() != tt.whole {
			t.Errorf("after %s for %d bytes: %v", tt.took, tt.own, f.Whole())
		}
	}
	past := time.Now().Add(-time.Millisecond)
	f.impatient.Store(&past)
	if !f.Whole() {
		t.Error("it is left alone for ever")
	}
}

func TestManyFilesAreSynced(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i := range 3 * atOnce {
		path := filepath.Join(dir, strings.Repeat("f", i+1))
		if err := os.WriteFile(path, []byte("bytes"), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if err := SyncFiles(paths); err != nil {
		t.Error(err)
	}
	if err := SyncFiles(append(paths, filepath.Join(dir, "missing"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
	if err := SyncDirs([]string{dir, filepath.Join(dir, "missing")}); err != nil {
		t.Error(err)
	}
}
