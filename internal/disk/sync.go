package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
)

// SyncDir makes the names in dir durable. A directory that does not exist has none, which is no error. Callers that
// arrive during a sync share one further sync that starts after it.
func SyncDir(dir string) error { return turns.take(dir, syncDir) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	failpoint.Step()
	if err := count(d.Sync()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// failures are the syncs that failed and may have been of directories.
var failures atomic.Int64

// Failures says how many syncs failed in this process that were of directories, among others. The kernel tells what the
// disk refused of a directory to those that had it open. A caller that opens it later is told only if no other was, so
// it has to ask here, too.
func Failures() int64 { return failures.Load() }

// SyncFile makes the bytes of an open file durable. An ext4 without a journal also writes new directories above it.
func SyncFile(f *os.File) error {
	failpoint.Step()
	return count(f.Sync())
}

func count(err error) error {
	if err != nil {
		failures.Add(1)
	}
	return err
}

// turns are the syncs of this process. That they are shared by all trees costs nothing: paths differ.
var turns = queue{dirs: map[string]*queued{}}

type queue struct {
	mu   sync.Mutex // guards the rest; held over no I/O
	dirs map[string]*queued
}

// queued is a directory that is being synced, or waits for a sync.
type queued struct {
	users   int
	running sync.Mutex // held during a sync; taken before queue.mu
	next    *turn      // nil: no caller waits
}

// turn is one sync, for all callers that asked before it began.
type turn struct {
	done chan struct{}
	err  error
}

func (q *queue) take(dir string, work func(string) error) error {
	d, t, first := q.join(dir)
	defer q.leave(dir, d)
	if !first {
		<-t.done
		return t.err
	}
	d.running.Lock()
	defer d.running.Unlock()
	q.mu.Lock()
	d.next = nil // a caller that arrives from now on needs another sync
	q.mu.Unlock()
	defer close(t.done)
	t.err = work(dir)
	return t.err
}

func (q *queue) join(dir string) (d *queued, t *turn, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d = q.dirs[dir]; d == nil {
		d = &queued{}
		q.dirs[dir] = d
	}
	d.users++
	if first = d.next == nil; first {
		d.next = &turn{done: make(chan struct{})}
	}
	return d, d.next, first
}

func (q *queue) leave(dir string, d *queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d.users--; d.users == 0 {
		delete(q.dirs, dir)
	}
}
