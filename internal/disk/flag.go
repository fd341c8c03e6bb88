package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// Flag is a directory by which processes tell each other something: it is raised as long as one of them holds a shared
// lock on it. The lock of a process that is killed ends with it. It is one of an open directory, so flags that one
// process opened twice are two, and it is no lock of other programs. A Flag is for one goroutine at a time, but for
// Raised.
type Flag struct {
	dir *os.File
	own bool // it was raised here
}

// OpenFlag opens the flag of a directory.
func OpenFlag(dir string) (*Flag, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Flag{dir: f}, nil
}

// Raise raises the flag. It never waits.
func (f *Flag) Raise() error { return f.set(true, unix.F_RDLCK) }

// Lower lowers the flag, unless others hold it.
func (f *Flag) Lower() error { return f.set(false, unix.F_UNLCK) }

func (f *Flag) set(own bool, to int16) error {
	if f.own == own {
		return nil
	}
	err := f.lock(setLock, &unix.Flock_t{Type: to, Len: 1})
	f.own = own && err == nil
	return err
}

// Raised says whether another one holds the flag. It may be called while the flag is raised and lowered.
func (f *Flag) Raised() (bool, error) {
	want := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	err := f.lock(getLock, &want)
	return want.Type != unix.F_UNLCK, err
}

func (f *Flag) lock(command int, lock *unix.Flock_t) error {
	raw, err := f.dir.SyscallConn()
	if err != nil {
		return err
	}
	lerr := error(nil)
	err = raw.Control(func(fd uintptr) { lerr = unix.FcntlFlock(fd, command, lock) })
	if err != nil {
		return err
	}
	return os.NewSyscallError("fcntl", lerr)
}

// Close lowers the flag, and ends its use.
func (f *Flag) Close() error { return f.dir.Close() }
