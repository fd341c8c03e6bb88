//go:build failpoints

// Package failpoint lets a test kill the process between any two steps that change the disk.
package failpoint

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

var (
	steps atomic.Int64
	last  = func() int64 {
		n, err := strconv.ParseInt(os.Getenv("DCS_FAILPOINT"), 10, 64)
		if err != nil {
			panic("DCS_FAILPOINT: " + err.Error()) // the test's own fault
		}
		return n
	}()
)

// Step kills the process when it is the step that the test asked for. It may be called concurrently.
func Step() {
	if steps.Add(1) == last {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal comes
	}
}
