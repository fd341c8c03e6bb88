package gc

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Eviction is what a plan or a run does for a budget.
type Eviction struct {
	Budget rule.Budget
	Disk   policy.Disk // before
	Demand policy.Demand

	Met  bool // all that is demanded goes
	Fits bool // all that is demanded for MaxSize goes
	More bool // the plan was cut short: the next one goes on
	// Vain says that nothing goes for MinFree, since all that may go is less than what lacks.
	Vain     bool
	Freeable int64 // bytes that may go, as far as the plan looked
}

// Usage says how much of the disk a store takes, in bytes. Several goroutines may ask at a time.
type Usage interface {
	// Used is what all of it takes.
	Used(context.Context) (int64, error)
	// Takes is what a row and its file take: Used is less by it when they are gone.
	Takes(index.Row) int64
}

// demand returns what a budget demands now.
func (c *Collector) demand(ctx context.Context, b rule.Budget) (e Eviction, err error) {
	e.Budget = b
	if c.Usage == nil || b == (rule.Budget{}) {
		return e, nil
	}
	if e.Disk.Used, err = c.Usage.Used(ctx); err != nil {
		return e, err
	}
	if e.Disk.Free, e.Disk.Size, err = c.Space(); err != nil {
		return e, err
	}
	if c.Coming != nil {
		e.Disk.Coming = c.Coming()
	}
	e.Demand = policy.Demanded(b, e.Disk)
	return e, nil
}

// hopeless says that MinFree lacks more than all that is stored, so that no image has to be looked at.
func (e Eviction) hopeless() bool { return e.Demand.Size == 0 && e.Demand.Reach > e.Disk.Used }

// over says whether more is used than a budget allows.
func (e Eviction) over() bool {
	most := e.Budget.MaxSize.Of(e.Disk.Size)
	return most > 0 && e.Disk.Used > most
}

// logEviction says what goes for a budget, and why, before it does.
func (c *Collector) logEviction(p *Plan) {
	images, bytes := 0, int64(0)
	for _, i := range p.Images {
		if i.Reason == ReasonSize {
			images++
		}
	}
	if images == 0 {
		return
	}
	for _, b := range p.Blobs {
		if p.ranks[b.Key] > 0 && b.Placed && !p.elsewhere[b.Key] {
			bytes += b.Size
		}
	}
	fields := p.Eviction.fields()
	fields["images"], fields["frees"] = images, bytes
	c.log(fields, "too little room: the images that were used least recently go")
}

// fields are what a log line says of the disk, in bytes.
func (e Eviction) fields() logrus.Fields {
	return logrus.Fields{"used": e.Disk.Used, "max_size": e.Budget.MaxSize.Of(e.Disk.Size), "free": e.Disk.Free,
		"min_free": e.Budget.MinFree.Of(e.Disk.Size)}
}
