package disk

import "golang.org/x/sys/unix"

// Locks of an open file, which end with it and not with the next one that the process closes.
const (
	setLock = unix.F_OFD_SETLK
	getLock = unix.F_OFD_GETLK
)
