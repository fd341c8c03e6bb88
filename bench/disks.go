package main

import (
	"os"
	"strings"

	"github.com/jc-lab/docker-cache-server/bench/journaled"
	"github.com/jc-lab/docker-cache-server/bench/report"
)

// journaled is a directory on an ext4 with a journal, which is there for one row. Where none can be made, it is one
// beside everything else, and the row says so.
func (b *bench) journaled(r *report.Row) (dir string, release func() error, err error) {
	d, err := journaled.Make(b.Dir)
	if err == nil {
		r.What += ", on ext4 with a journal"
		if !d.Direct {
			r.Notes = append(r.Notes, "the file of that ext4 has no direct I/O: its writes go through two page caches")
		}
		return d.Dir, d.Close, nil
	}
	r.What += ", in a plain directory"
	r.Notes = append(r.Notes, "no ext4 with a journal could be made: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	dir, err = os.MkdirTemp(b.Dir, "plain-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}
