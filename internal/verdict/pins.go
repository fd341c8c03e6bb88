package verdict

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Pins are the tags and manifests that are pinned, each with the time at which its pin ends; zero: never.
type Pins map[layout.Key]time.Time

// ReadPins returns the pins of one state of the index that have not ended.
func ReadPins(r index.Reader, due policy.Due, now time.Time) (Pins, error) {
	all, err := r.Pins()
	if len(all) == 0 {
		return nil, err
	}
	ps := Pins{}
	for _, p := range all {
		if end := p.End(due); end.IsZero() || end.After(now) {
			ps[p.Key] = end
		}
	}
	return ps, err
}

// Keep says whether a pin keeps a row. A claim is not kept, since it has nothing to keep.
func (ps Pins) Keep(r index.Row) bool {
	_, pinned := ps[r.Key]
	return pinned && r.Placed
}

// apply is the verdict on a row, given the one that it has without a pin.
func (ps Pins) apply(r index.Row, v policy.Verdict) policy.Verdict {
	end := ps[r.Key]
	switch {
	case !ps.Keep(r):
	case end.IsZero():
		v.Life, v.Due, v.Rule = rule.Life{Rule: rule.Pinned}, end, rule.Pinned
	case !v.Due.IsZero() && end.After(v.Due):
		v.Due, v.Rule = end, rule.Pinned
	}
	return v
}
