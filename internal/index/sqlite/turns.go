package sqlite

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// turns tells writers of the index whether others wait, also those of other processes, which SQLite does not say: a
// writer that finds the database locked raises the flag of its directory until it has its turn.
type turns struct {
	flag atomic.Pointer[disk.Flag] // nil: the index is being opened, or was for looking
	here atomic.Int32              // how many wait for the connection of this store
}

// open opens the flag of an index, anew if it was open.
func (w *turns) open(index string) error {
	flag, err := disk.OpenFlag(filepath.Dir(index))
	if err != nil {
		return err
	}
	if old := w.flag.Swap(flag); old != nil {
		return old.Close()
	}
	return nil
}

// await says that the holder of the connection waits for another process, or does no more. What fails costs the others
// their turn, and no more.
func (w *turns) await(waits bool) {
	switch flag := w.flag.Load(); {
	case flag == nil: // the index is being opened
	case waits:
		_ = flag.Raise()
	default:
		_ = flag.Lower()
	}
}

// others says whether writers of other processes wait. It may not be possible to tell, as on systems without such
// locks: an error.
func (w *turns) others() (bool, error) {
	flag := w.flag.Load()
	if flag == nil {
		return false, nil
	}
	return flag.Raised()
}

// taken says whether any other writer waits, or may wait.
func (w *turns) taken() bool {
	others, err := w.others()
	return w.here.Load() > 0 || others || err != nil
}

// longestTurn bounds how long a run of gc lets others go first, of which some may wait at any time.
const longestTurn = 100 * time.Millisecond

// giveWay lets the writers of other processes go first that wait now. Where that cannot be told it leaves them one
// moment. Those of this process have an order.
func (w *turns) giveWay(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < longestTurn; {
		others, err := w.others()
		if !others && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(busyPoll):
		}
		if err != nil {
			return nil
		}
	}
	return nil
}
