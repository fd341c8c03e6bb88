// Package tree keeps a registry's local files. It knows what they are called, not what rows say about them.
//
// A Dir is a data directory that is read, a Tree one that is changed. Files are asked for by key. Files are placed and
// removed through a Change: inside a transaction of the index it only renames and unlinks, so that a row and its file
// change as one, and Commit makes all of it durable afterwards. What root creates belongs to the owner of the
// directory.
//
// A Walk lists what is on disk as a server serves it: through symbolic links, but each directory under one name only.
// A lock on the directory says which of its servers and runs still exist.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Dir is a data directory: the value of storage.directory, as an absolute path.
type Dir string

// At makes the directory that an operator named absolute.
func At(directory string) (Dir, error) {
	abs, err := filepath.Abs(directory)
	return Dir(strings.TrimSuffix(abs, "/")), err // which only the root of all has
}

// NoStoreError says that a directory holds no registry.
type NoStoreError struct{ Directory string }

func (e *NoStoreError) Error() string {
	return fmt.Sprintf("%s is not a registry data directory", e.Directory)
}

// Check looks for a tree or an index in d. *NoStoreError: there is neither.
func (d Dir) Check() error {
	for _, path := range []string{d.Native(layout.Root), d.Index()} {
		_, err := os.Stat(path)
		if err == nil || !(errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			return err
		}
	}
	return &NoStoreError{string(d)}
}

// File is where a file of the tree is on this machine.
func (d Dir) File(p layout.Path) string { return string(d) + p.String() } // both are clean

// Native is where a directory of the tree is on this machine, given as package layout spells it.
func (d Dir) Native(driverPath string) string {
	return filepath.Join(string(d), filepath.FromSlash(driverPath))
}

// Metadata is where dcs keeps what is its own. The other paths are in it.
func (d Dir) Metadata() string { return filepath.Join(string(d), ".metadata") }
func (d Dir) Index() string    { return filepath.Join(d.Metadata(), "index.db") }
func (d Dir) Temp() string     { return filepath.Join(d.Metadata(), "tmp") }
func (d Dir) Pending() string  { return filepath.Join(d.Metadata(), "pending") }
func (d Dir) Trash() string    { return filepath.Join(d.Metadata(), "trash") }
func (d Dir) Policy() string   { return filepath.Join(d.Metadata(), "policy.json") }
func (d Dir) Secret() string   { return filepath.Join(d.Metadata(), "secret") }
func (d Dir) Htpasswd() string { return filepath.Join(d.Metadata(), "htpasswd") }
func (d Dir) Ballast() string  { return filepath.Join(d.Metadata(), "ballast") }
func (d Dir) Reuse() string    { return filepath.Join(d.Metadata(), "reuse") }
func (d Dir) LockFile() string { return filepath.Join(d.Metadata(), "lock") }

// reached are the directories between which files are renamed, down to where repositories and blobs begin.
func (d Dir) reached() []string {
	return []string{d.Native("/docker"), d.Native("/docker/registry"),
		d.Native(layout.Root), d.Native(layout.Blobs), d.Native(layout.Repositories)}
}

// Quarantine is where a repair puts blobs whose bytes do not have their digest.
func (d Dir) Quarantine() string { return filepath.Join(d.Metadata(), "quarantine") }
func (d Dir) GCLock() string     { return filepath.Join(d.Metadata(), "gc.lock") }
func (d Dir) Pins() string       { return filepath.Join(d.Metadata(), "pins.json") }
func (d Dir) PinsLock() string   { return filepath.Join(d.Metadata(), "pins.lock") }

// Served says whether a server ever ran on the directory, and so may have promised something.
func (d Dir) Served() bool {
	_, err := os.Lstat(d.Secret())
	return err == nil
}
