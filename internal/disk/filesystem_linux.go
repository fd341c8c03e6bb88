package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// syncAll is syncfs.
func syncAll(f *os.File) error {
	for {
		if err := unix.Syncfs(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// canSyncAll says whether syncfs makes bytes and names durable, and reports what the disk refused. overlayfs, FUSE and
// NFS say success when bytes were refused, or never hear of it. An ext4 without a journal flushes the disk's cache
// before it writes its directories. Kernels before 5.8 report nothing.
func canSyncAll(dir *os.File) (bool, error) {
	kind, err := kindOf(dir.Name())
	if err != nil {
		return false, err
	}
	switch kind {
	case unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return reportsErrors()
	case unix.EXT4_SUPER_MAGIC:
		if journal, err := hasJournal(dir); err != nil || !journal {
			return false, err
		}
		return reportsErrors()
	}
	return false, nil
}

// reportsErrors says whether syncfs of this kernel reports errors of files.
func reportsErrors() (bool, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false, err
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 8), nil
}

// hasJournal says whether the ext4 of a directory has a journal of its own: the kernel lists those by their devices.
// What it does not tell is no journal.
func hasJournal(dir *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return false, nil
	}
	journals, err := os.ReadDir("/proc/fs/jbd2")
	if err != nil {
		return false, nil
	}
	for _, j := range journals { // DEVICE-INODE
		if i := strings.LastIndexByte(j.Name(), '-'); i > 0 && j.Name()[:i] == filepath.Base(device) {
			return true, nil
		}
	}
	return false, nil
}
