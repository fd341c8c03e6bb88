package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// Emptier removes for good what a Change moves to the trash, in a goroutine of its own: the change is made under a lock
// that others wait for, and freeing bytes is not. What it does not come to, or cannot remove, stays in the trash for
// EmptyTrash. It is used by the goroutine of the change.
type Emptier struct {
	next    []thrown      // that the goroutine does not know of yet
	work    chan []thrown // nil: it does not run
	working sync.WaitGroup
}

// thrown is a path in the trash, and a file that is the only thing in it, most likely; empty: nothing is known of it.
type thrown struct{ path, file string }

const (
	// handedOver is how many paths the goroutine gets at once: to wake it costs as much as to remove one.
	handedOver = 256
	// maxHandedOver is how often at most before it is done with the first; what is more stays in the trash.
	maxHandedOver = 256
)

// take has a path removed soon. It never waits.
func (e *Emptier) take(t thrown) {
	if e.next = append(e.next, t); len(e.next) < handedOver {
		return
	}
	if e.work == nil {
		e.work = make(chan []thrown, maxHandedOver)
		e.working.Go(func() { removeThrown(e.work) })
	}
	select {
	case e.work <- e.next:
	default:
	}
	e.next = nil
}

// Wait helps to remove what was taken, and returns when all of it is gone. The change may go on then.
func (e *Emptier) Wait() {
	if e.work != nil {
		close(e.work)
		removeThrown(e.work)
		e.working.Wait()
	}
	removeAll(e.next)
	e.next, e.work = nil, nil
}

func removeThrown(work <-chan []thrown) {
	for some := range work {
		removeAll(some)
	}
}

func removeAll(some []thrown) {
	for _, t := range some {
		t.remove()
	}
}

func (t thrown) remove() {
	failpoint.Step()
	if t.file == "" {
		_ = os.RemoveAll(t.path)
		return
	}
	err := syscall.Unlink(filepath.Join(t.path, t.file))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		failpoint.Step()
		_ = syscall.Rmdir(t.path)
	}
}
