package serve

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

// pullsInterval is how often counts of pulls are written to the index. A server that is killed loses those since then.
const pullsInterval = time.Minute

// pulls counts what clients pull, until the index remembers it.
type pulls struct {
	index index.Store
	log   logrus.FieldLogger

	hits, misses, bytes atomic.Int64
}

// observe counts an event. A request costs two additions.
func (p *pulls) observe(e event.Event) {
	switch {
	case !e.Fetched():
	case e.Hit:
		p.hits.Add(1)
		p.bytes.Add(e.Request.Sent)
	default:
		p.misses.Add(1)
	}
}

// write has the index remember what was counted since the last time, in the hour of now. What cannot be written counts
// the next time. Without keep it is dropped.
func (p *pulls) write(ctx context.Context, keep bool) {
	n := index.Pulls{Hits: p.hits.Swap(0), Misses: p.misses.Swap(0), Bytes: p.bytes.Swap(0)}
	if !keep || n == (index.Pulls{}) {
		return
	}
	if err := p.index.NotePulls(ctx, n); err != nil {
		p.hits.Add(n.Hits)
		p.misses.Add(n.Misses)
		p.bytes.Add(n.Bytes)
		p.log.WithError(err).Debug("cannot remember pulls")
	}
}

// writePulls writes what was counted, if anything is to be remembered.
func (s *Server) writePulls(ctx context.Context) { s.pulls.write(ctx, s.policy().GoneFor > 0) }
