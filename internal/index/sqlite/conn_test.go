package sqlite

import (
	"errors"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// TestErrorsOfTheDiskHaveOneName: a caller does not go on with the next statement.
func TestErrorsOfTheDiskHaveOneName(t *testing.T) {
	for code, want := range map[sqlite.ResultCode]error{
		sqlite.ResultIOErrWrite:      index.ErrDisk, // also where a quota is exceeded
		sqlite.ResultIOErrFsync:      index.ErrDisk,
		sqlite.ResultReadOnlyDBMoved: index.ErrDisk,
		sqlite.ResultCantOpen:        index.ErrDisk,
		sqlite.ResultFull:            index.ErrFull,
		sqlite.ResultBusySnapshot:    index.ErrBusy,
	} {
		if err := wrap(code.ToError()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
	}
}
