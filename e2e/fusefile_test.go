//go:build e2e

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A file system of one file, which is mounted over a file: what the kernel asks of /dev/fuse when a loop device has
// that file. These are a few of the messages of include/uapi/linux/fuse.h, each a header and some words. Any other is
// answered by ENOSYS.

// fuseFile does the work. Read and write may be called at once, by several goroutines.
type fuseFile interface {
	read(to []byte, offset int64)
	write(data []byte, offset int64)
	flush()
}

const (
	fuseForget      = 2
	fuseGetattr     = 3
	fuseOpen        = 14
	fuseRead        = 15
	fuseWrite       = 16
	fuseRelease     = 18
	fuseFsync       = 20
	fuseFlush       = 25
	fuseInit        = 26
	fuseDestroy     = 38
	fuseBatchForget = 42

	fuseAsyncRead     = 1 << 0
	fuseBigWrites     = 1 << 5
	fuseAsyncDirectIO = 1 << 15

	fuseOpenDirectIO       = 1 << 0
	fuseOpenParallelWrites = 1 << 6

	fuseHeader   = 40        // bytes before what is asked
	fuseMaxWrite = 128 << 10 // as many as the kernel sends without more being agreed upon
)

var words = binary.NativeEndian

// mountFuse mounts a file at a path, for the process that will serve the connection.
func mountFuse(path string) (connection *os.File, err error) {
	connection, err = os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", connection.Fd(), unix.S_IFREG|0o600)
	if err := unix.Mount("recorded", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		connection.Close()
		return nil, fmt.Errorf("mount a fuse file at %s: %w", path, err)
	}
	return connection, nil
}

// serveFuse serves a file of so many bytes until it is unmounted.
func serveFuse(fd int, size int64, file fuseFile) error {
	var writes sync.WaitGroup
	defer writes.Wait()
	buf := make([]byte, fuseMaxWrite+4096)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.ENODEV): // it is unmounted
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return os.NewSyscallError("read /dev/fuse", err)
		}
		op, unique, in := words.Uint32(buf[4:]), words.Uint64(buf[8:]), buf[fuseHeader:n]
		switch op {
		case fuseForget, fuseBatchForget: // have no answer
		case fuseWrite: // others go on beside it, and it may end after them
			offset, data := int64(words.Uint64(in[8:])), append([]byte(nil), in[40:40+words.Uint32(in[16:])]...)
			writes.Go(func() {
				file.write(data, offset)
				answerFuse(fd, unique, 0, words.AppendUint64(nil, uint64(len(data))))
			})
		case fuseRead:
			out := make([]byte, min(int64(words.Uint32(in[16:])), max(0, size-int64(words.Uint64(in[8:])))))
			file.read(out, int64(words.Uint64(in[8:])))
			answerFuse(fd, unique, 0, out)
		case fuseFsync:
			file.flush()
			answerFuse(fd, unique, 0, nil)
		case fuseInit:
			answerFuse(fd, unique, 0, fuseInitOut())
		case fuseGetattr:
			answerFuse(fd, unique, 0, fuseAttr(size))
		case fuseOpen:
			out := make([]byte, 16)
			words.PutUint32(out[8:], fuseOpenDirectIO|fuseOpenParallelWrites)
			answerFuse(fd, unique, 0, out)
		case fuseRelease, fuseFlush, fuseDestroy:
			answerFuse(fd, unique, 0, nil)
		default:
			answerFuse(fd, unique, syscall.ENOSYS, nil)
		}
	}
}

// answerFuse may fail only when who asked has ended.
func answerFuse(fd int, unique uint64, errno syscall.Errno, out []byte) {
	answer := make([]byte, 16, 16+len(out))
	words.PutUint32(answer, uint32(16+len(out)))
	words.PutUint32(answer[4:], uint32(-int32(errno)))
	words.PutUint64(answer[8:], unique)
	_, _ = unix.Write(fd, append(answer, out...))
}

func fuseInitOut() []byte {
	out := make([]byte, 64)
	words.PutUint32(out, 7) // version 7.31
	words.PutUint32(out[4:], 31)
	words.PutUint32(out[8:], fuseMaxWrite) // that are read ahead
	words.PutUint32(out[12:], fuseAsyncRead|fuseBigWrites|fuseAsyncDirectIO)
	words.PutUint16(out[16:], 64) // requests in the background
	words.PutUint16(out[18:], 48)
	words.PutUint32(out[20:], fuseMaxWrite)
	words.PutUint32(out[24:], 1) // ns
	return out
}

// fuseAttr says that it is a regular file.
func fuseAttr(size int64) []byte {
	out := make([]byte, 104)
	words.PutUint64(out[16:], 1) // inode
	words.PutUint64(out[24:], uint64(size))
	words.PutUint64(out[32:], uint64(size)/512)
	words.PutUint32(out[76:], unix.S_IFREG|0o600)
	words.PutUint32(out[80:], 1) // link
	words.PutUint32(out[96:], 4096)
	return out
}
