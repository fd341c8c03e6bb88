//go:build !linux

package disk

import (
	"os"
	"syscall"
)

// Mount is where renames are possible; see Linux.
type Mount uint64

// MountOf is the file system of a path; see Linux.
func MountOf(path string) (Mount, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return Mount(fi.Sys().(*syscall.Stat_t).Dev), nil
}

// MountPoints does nothing here; see Linux.
func MountPoints() ([]string, error) { return nil, nil }
