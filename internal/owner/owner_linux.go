package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ids are the user and groups that the kernel compares with those of a file.
type ids struct {
	uid, gid int
	groups   []int
}

// became is the owner that the process works as. Nil: it did not change.
var became atomic.Pointer[ids]

func become(dir string, fi fs.FileInfo) error {
	st := fi.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || st.Uid == 0 {
		return nil
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return err
	}
	root, owner := ids{0, os.Getegid(), groups}, ids{int(st.Uid), int(st.Gid), []int{int(st.Gid)}}
	err = owner.take()
	if err == nil {
		err = reach(dir)
	}
	if err != nil { // root may not, its user namespace does not have the owner, or the owner cannot reach dir at all
		undone := root.take()
		if os.Geteuid() != 0 || os.Getegid() != root.gid || errors.Is(err, errCgo) {
			return fmt.Errorf("work as the owner of %s (uid %d): %w", dir, owner.uid, errors.Join(err, undone))
		}
		return nil
	}
	became.Store(&owner)
	if unix.Faccessat(unix.AT_FDCWD, os.TempDir(), unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		return os.Unsetenv("TMPDIR") // a directory that only root may use
	}
	return nil
}

// take makes these the effective ids of all threads. The real and the saved uid stay root's.
func (to ids) take() error {
	if to.uid == 0 { // first here and last otherwise, since only root may change the groups
		if err := syscall.Setresuid(-1, to.uid, -1); err != nil {
			return err
		}
	}
	if err := syscall.Setgroups(to.groups); err != nil {
		return err
	}
	if err := syscall.Setresgid(-1, to.gid, -1); err != nil {
		return err
	}
	return syscall.Setresuid(-1, to.uid, -1)
}

// reach is for a directory that its owner cannot reach, such as one that systemd made below /var/cache/private. The
// process may then read and search as root, but changes files as the owner.
func reach(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	rights, err := capabilities()
	if err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	rights[0].Effective = rights[0].Permitted & (1 << unix.CAP_DAC_READ_SEARCH)
	_, _, errno := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)),
		uintptr(unsafe.Pointer(&rights[0])), 0)
	switch errno {
	case 0:
	case syscall.ENOTSUP:
		return errCgo
	default:
		return errno
	}
	_, err = os.Stat(dir)
	return err
}

// errCgo says that this build cannot change capabilities: Go can do so for its own threads only, not for those of C.
var errCgo = errors.New("the owner cannot reach it, and this dcs was built with cgo; build it with CGO_ENABLED=0")

// AsRoot changes one thread only. While it is locked, no other goroutine runs on it, and Go starts new threads from one
// that is not locked, so none of them inherits root's rights.

func asRoot(f func() error) (err error) {
	owner := became.Load()
	if owner == nil {
		return f()
	}
	runtime.LockOSThread()
	before, err := capabilities()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if err := owner.lower(before); err != nil {
			panic(fmt.Sprintf("give up root's rights: %v", err)) // the process must not continue with them
		}
		runtime.UnlockOSThread()
	}()
	if err := raise(before); err != nil {
		return fmt.Errorf("act as root: %w", err)
	}
	return f()
}

// raise gives the thread root's rights: the capabilities, and the ids for files that only root may use.
func raise(rights [2]unix.CapUserData) error {
	for i := range rights {
		rights[i].Effective = rights[i].Permitted
	}
	return errors.Join(setCapabilities(rights), unix.Setfsgid(0), unix.Setfsuid(0))
}

// lower takes these rights away again: the ids of to, and the capabilities from before.
func (to ids) lower(rights [2]unix.CapUserData) error {
	errs := []error{unix.Setfsgid(to.gid), unix.Setfsuid(to.uid), setCapabilities(rights)}
	if now, err := unix.SetfsuidRetUid(-1); err != nil || now != to.uid { // Setfsuid reports no errors
		errs = append(errs, fmt.Errorf("the thread's uid for files is %d: %w", now, err))
	}
	return errors.Join(errs...)
}

func capabilities() (rights [2]unix.CapUserData, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err = unix.Capget(&header, &rights[0])
	return rights, err
}

func setCapabilities(rights [2]unix.CapUserData) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capset(&header, &rights[0])
}
