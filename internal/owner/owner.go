// Package owner makes root's process work as the user to whom a data directory belongs.
//
// What is always true once Become has changed the process:
//   - What it opens, makes, changes and removes, it does with that user's rights. A link that the user put into
//     the directory leads nowhere that the user could not go.
//   - AsRoot alone gets root's rights back, on one thread, for one call: for what root named outside of the
//     directory, such as a key, and for a port that only root may have.
//   - The user can neither send the process a signal nor look into it: its real and saved ids stay root's.
//
// Only a program may call Become. A library never does, and its AsRoot is a plain call.
package owner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Become makes root's process work as the owner of dir, when that is somebody else. A root that may not change
// its user, as in a container without capabilities, goes on as it is, and so does everybody who is not root.
// A missing directory has no owner.
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

// AsRoot calls f with root's rights if Become took them away. f must not leave work to other goroutines.
func AsRoot(f func() error) error { return asRoot(f) }

// Outside is AsRoot for a path that the operator named, when the owner is not allowed what f does. Below dir
// root's rights are not for use.
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
