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
	return writeBack(f, offset, length, unix.SYNC_FILE_RANGE_WRITE)
}

// AwaitSync waits until a part of a file was written to the disk, so that no more than what came after it has to be. It
// promises nothing either.
func AwaitSync(f *os.File, offset, length int64) error {
	return writeBack(f, offset, length,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}

func writeBack(f *os.File, offset, length int64, how int) error {
	err := unix.SyncFileRange(int(f.Fd()), offset, length, how)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
