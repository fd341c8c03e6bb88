package disk

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOnlyRegularFilesAreOpened: to open a pipe waits for somebody at its other end, and to read it for what he
// writes. A test that waits fails by its deadline.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	pipe, socket, folder := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket"), filepath.Join(dir, "folder")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Mkdir(folder, 0o700),
		os.Symlink(pipe, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, path := range []string{pipe, socket, folder, "/dev/zero", filepath.Join(dir, "link")} {
		_, opened := Open(path)
		_, read := ReadFile(path)
		_, toRead := OpenFile(path, os.O_RDONLY, 0)
		for how, err := range map[string]error{"Open": opened, "ReadFile": read, "OpenFile": toRead,
			"CheckRegular": CheckRegular(path)} {
			if !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s %s: %v", how, path, err)
			}
		}
	}
	if _, err := OpenFile(pipe, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a pipe for writing: %v", err)
	}
	if _, err := OpenNoFollow(filepath.Join(dir, "link")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link that is not followed: %v", err)
	}
	if err := CheckRegular(filepath.Join(dir, "nothing")); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

func TestAFileIsReadToItsEndEvenWhenItGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, 511, 512, 513, 100_000} {
		want := bytes.Repeat([]byte{'x'}, size)
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		grown := append(bytes.Clone(want), bytes.Repeat([]byte{'y'}, 1000)...)
		if err := os.WriteFile(path, grown, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := f.ReadAll(); err != nil || !bytes.Equal(got, grown) {
			t.Errorf("of %d bytes that became %d: %d, %v", size, len(grown), len(got), err)
		}
		if got, err := ReadFile(path); err != nil || !bytes.Equal(got, grown) {
			t.Errorf("%d bytes: %d, %v", len(grown), len(got), err)
		}
		_ = f.Close()
	}
}

// TestAVersionKnowsAnEditThatKeepsSizeAndTime, as an editor or a careless script makes it.
func TestAVersionKnowsAnEditThatKeepsSizeAndTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := VersionOf(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := VersionOf(path); err != nil || again != before {
		t.Errorf("the same file has two versions: %v, %v, %v", before, again, err)
	}
	for after := before; after.changed == before.changed; { // the kernel's clock goes on in ticks
		if err := errors.Join(os.WriteFile(path, []byte("two"), 0o600),
			os.Chtimes(path, fi.ModTime(), fi.ModTime())); err != nil {
			t.Fatal(err)
		}
		if after, err = VersionOf(path); err != nil {
			t.Fatal(err)
		}
	}
}
