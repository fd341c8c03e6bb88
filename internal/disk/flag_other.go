//go:build !linux

package disk

// Commands that no system has: a flag is an error.
const (
	setLock = -1
	getLock = -1
)
