package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// privateMode is that of the directory that holds temp and trash, whatever the umask. Who can open an index
// only to read it can hold up all who write, by a lock on it.
const privateMode fs.FileMode = 0o700

// MkdirPrivate makes a directory that only its owner may enter, whatever the umask.
func MkdirPrivate(dir string) error {
	failpoint.Step()
	if err := os.Mkdir(dir, privateMode); err != nil {
		return err
	}
	return os.Chmod(dir, privateMode)
}

// CloseToOthers takes the rights of others on a directory away. What a link leads to is not ours.
func CloseToOthers(dir string) error {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	fi, err := d.Stat()
	if err != nil {
		return err
	}
	if fi.Mode().Perm()&^privateMode == 0 || int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return nil
	}
	return d.Chmod(fi.Mode() &^ 0o077)
}
