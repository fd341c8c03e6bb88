//go:build !linux

package disk

import (
	"os"
	"syscall"
)

// mountOf is the file system of a path; see Linux.
func mountOf(path string) (uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return uint64(fi.Sys().(*syscall.Stat_t).Dev), nil
}
