package serve

import (
	"bytes"
	"runtime"
)

// goroutine names the goroutine that calls it, for comparison only: "goroutine 18 [running]:" is how its stack begins.
// The runtime offers no other way to learn it. pkg/server promises that an observer may call Shutdown, which waits for
// the observers; so Shutdown has to know who calls it, or it would wait for its own caller.
// TestOnlyAnObserverIsCalling and pkg/server's TestAnObserverMayUseTheServer notice when a Go release changes the text.
func goroutine() string {
	buf := make([]byte, 64)
	name, _, _ := bytes.Cut(buf[:runtime.Stack(buf, false)], []byte(" ["))
	return string(name)
}
