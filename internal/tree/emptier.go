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

// thrown is a path in the trash, and the files that are all there is in it, most likely. None: nothing is known of it.
type thrown struct {
	path  string
	files []string
}

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

// remove opens and lists no directory of which all is known.
func (t thrown) remove() {
	failpoint.Step()
	if !t.removeKnown() {
		_ = os.RemoveAll(t.path)
	}
}

// removeKnown removes the files that are known, and the directories that are empty then. False: something is left.
func (t thrown) removeKnown() bool {
	for _, file := range t.files {
		if !t.removeFile(file) {
			return false
		}
	}
	return len(t.files) > 0 && isGone(syscall.Rmdir(t.path))
}

// removeFile removes a file, and then the directories on the way to it, as long as they are empty. It goes through no
// symbolic link: what that leads to stays.
func (t thrown) removeFile(file string) bool {
	for dir := filepath.Dir(file); dir != "."; dir = filepath.Dir(dir) {
		if fi, err := os.Lstat(filepath.Join(t.path, dir)); err != nil || !fi.IsDir() {
			return false
		}
	}
	if !isGone(syscall.Unlink(filepath.Join(t.path, file))) {
		return false
	}
	failpoint.Step()
	for dir := filepath.Dir(file); dir != "."; dir = filepath.Dir(dir) {
		if syscall.Rmdir(filepath.Join(t.path, dir)) != nil {
			break
		}
	}
	return true
}

func isGone(err error) bool { return err == nil || errors.Is(err, fs.ErrNotExist) }
