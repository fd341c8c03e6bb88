package tree

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxBallast is more than any run writes to its index before the first byte is free again.
const maxBallast = 16 << 20

// KeepBallast makes a file that reserves a hundredth of the disk, at most 16 MiB. On a disk that is full to the last
// byte nothing can be removed, since the index cannot record it; DropBallast makes room for that. If little is free
// there is no ballast, and no error.
func (t *Tree) KeepBallast() error {
	path := t.Ballast()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	free, whole, err := t.Space()
	if err != nil {
		return err
	}
	size := min(maxBallast, whole/100)
	if size == 0 || free < 4*size {
		return nil
	}
	err = t.writeBallast(path, size)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return os.Remove(path) // another writer took the room
	}
	return err
}

func (t *Tree) writeBallast(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), t.Own(path)) }()
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil { // a file system that compresses would give nothing for zeros
		return err
	}
	for left := size; left > 0; left -= int64(len(block)) {
		if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
			return err
		}
	}
	return nil
}

// DropBallast gives the reserved room back. False: there was none.
func (t *Tree) DropBallast() bool { return os.Remove(t.Ballast()) == nil }
