// Package owner makes a process of root work as the user who owns a data directory.
//
// What is always true once Become has changed the process:
//
//   - The process opens, makes, changes and removes files with the owner's rights. A symbolic link that the owner put
//     into the directory leads to no place that the owner could not reach.
//   - Only AsRoot gets root's rights back, on one thread, for one call. It is for files that root named outside of the
//     directory, such as a TLS key, and for ports that only root may open.
//   - The owner can neither send a signal to the process nor read its memory: the real and saved ids stay root's.
//
// Only a program may call Become. A library never does, so its AsRoot is a plain call.
package owner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Become makes a process of root work as the owner of dir, when that is another user. It changes nothing in a process
// of another user, in one that may not change its user (as in a container without capabilities), and for a missing
// directory. It must be called before other goroutines work in dir.
func Become(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return become(dir, fi)
}

// AsRoot calls f with root's rights if Become took them away. f must do all of its work on its own goroutine.
func AsRoot(f func() error) error { return asRoot(f) }

// Outside calls f as the owner, and again as root if the owner lacks the rights for path, which the operator named.
// Below dir it never uses root's rights: there the owner could have made the path lead elsewhere.
func Outside(dir, path string, f func() error) error {
	err := f()
	if !errors.Is(err, fs.ErrPermission) || isBelow(dir, path) {
		return err
	}
	return AsRoot(f)
}

func isBelow(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
