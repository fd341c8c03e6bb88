package sqlite

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// An index that was copied and put back later knows nothing of what was used and promised since, and would have it
// removed. So the time of each heartbeat is noted beside the file as well. The note is not sure: where it is lost, or
// older than the index, the index counts.

// maxBehind is how much older than the note an index may be: a power loss takes back what was not written out, which
// systems do after half a minute.
const maxBehind = 2 * time.Minute

func (s *Store) beatFile() string { return s.path + ".beat" }

// noteBeat notes a heartbeat. It may fail, and does not sync.
func (s *Store) noteBeat(at time.Time) {
	f, err := disk.OpenFile(s.beatFile(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, _ = f.WriteString(at.Format(time.RFC3339Nano))
	_ = f.Close()
}

// checkLatest refuses an older copy, as something that cannot be read.
func (s *Store) checkLatest(ctx context.Context, f *file) error {
	data, err := disk.ReadFile(s.beatFile())
	if err != nil {
		return nil //nolint:nilerr // the index counts
	}
	noted, err := time.Parse(time.RFC3339Nano, string(data))
	if err != nil {
		return nil //nolint:nilerr // the index counts
	}
	return f.read.view(ctx, func(q querier) error {
		var last *index.Heartbeat
		if ok, err := q.setting("heartbeat", &last); err != nil || !ok {
			return err // it is new
		}
		if last.Time.Add(maxBehind).Before(noted) {
			return fmt.Errorf("%w: it is an older copy, of %s", index.ErrCorrupt, last.Time.Format(time.RFC3339))
		}
		return nil
	})
}
