package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// BeginSync begins to bring a part of a file to the disk, so that a Sync later has less to wait for. It
// promises nothing. Where the system has no such call, or allows none, it does nothing.
func BeginSync(f *os.File, offset, length int64) error {
	err := unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
