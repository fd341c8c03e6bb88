package serve

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// budget is how many bytes the store may take on disk; 0: any number.
func budget(*config.Config) int64 { return 0 }

// patience is how long an upload waits for room: less than the time after which its client would count as one that
// sends nothing.
func patience(cfg *config.Config) time.Duration {
	if stall := cfg.Limits.StallTimeout; stall > 0 {
		return min(room.Patience, stall/2)
	}
	return room.Patience
}

// used counts the bytes that the store takes on disk, as du does.
func (s *Server) used(ctx context.Context) (total int64, err error) {
	err = filepath.WalkDir(string(s.store.Dir), func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				total += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // it went in the meantime
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
	return total, err
}
