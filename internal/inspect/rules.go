package inspect

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// judge finds the verdicts on rows by point queries. It remembers those that differ from what a row would have without
// rules and pins.
type judge struct {
	expiry
	finder *verdict.Finder
	pins   verdict.Pins
	asked  map[layout.Key]bool // by key
}

// judge returns a judge of one state of the index; nil: there are neither rules nor pins.
func (x expiry) judge(r index.Reader) (*judge, error) {
	pins, err := verdict.ReadPins(r, x.store.Due, time.UnixMilli(x.now))
	if err != nil || len(x.policy.Rules)+len(pins) == 0 {
		return nil, err
	}
	return &judge{x, verdict.New(r, x.policy, x.store.Due, pins), pins, map[layout.Key]bool{}}, nil
}

// row judges a tag or a manifest.
func (j *judge) row(r index.Row) error {
	if j == nil {
		return nil
	}
	find := j.finder.Manifest
	if r.Key.Kind == layout.Tag {
		find = j.finder.Tag
	}
	v, err := find(r)
	if err != nil {
		return err
	}
	due := int64(never)
	if !v.Due.IsZero() {
		due = max(v.Due.UnixMilli(), j.held)
	}
	plain := j.plainDue(r.AccessedAt.UnixMilli())
	if claim := r.Key.Kind == layout.Manifest && !r.Placed; claim || due != plain || v.Rule != rule.Default {
		j.ruled[r.Key] = ruled{due, v.Rule >= 0 && due > plain, v.Rule == rule.Pinned}
	}
	return nil
}

// key judges a manifest, if it has a row, once: thousands of blobs may have the same owners.
func (j *judge) key(r index.Reader, k layout.Key) error {
	if j == nil || j.asked[k] {
		return nil
	}
	j.asked[k] = true
	row, err := r.Row(k)
	if err != nil || row == nil {
		return err
	}
	return j.row(*row)
}

// all judges all tags and manifests, before a pass that must not ask about single rows.
func (j *judge) all(r index.Reader) error {
	if j == nil {
		return nil
	}
	clear(j.ruled) // of another state
	var kept keptByPins
	if len(j.policy.Rules) == 0 {
		kept = keptByPins{Reader: r, manifests: map[layout.Key]bool{}}
	}
	for _, kind := range []layout.Kind{layout.Tag, layout.Manifest} {
		var rows []index.Row
		err := r.Each(kind, func(row index.Row) error {
			if kept.mayDiffer(row, j.pins) {
				rows = append(rows, row)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := j.row(row); err != nil {
				return err
			}
			if _, differs := j.ruled[row.Key]; differs && kind == layout.Tag {
				if err := kept.follow(layout.ManifestKey(row.Key.Repository, row.Digest)); err != nil {
					return err
				}
			}
		}
		for k := range j.pins {
			if err := kept.follow(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptByPins are the manifests that live by pins, where there are no rules. The zero value is for where there are: any
// row may then have a verdict of its own.
type keptByPins struct {
	index.Reader
	manifests map[layout.Key]bool
}

// mayDiffer says whether a row may expire otherwise than without rules and pins. Of tags a pin keeps those that have
// one, and those that are about an image.
func (k keptByPins) mayDiffer(r index.Row, pins verdict.Pins) bool {
	switch {
	case k.manifests == nil:
		return true
	case r.Key.Kind == layout.Tag:
		return pins.Keep(r) || layout.About(r.Key.Tag) != ""
	}
	return k.manifests[r.Key] || !r.Placed
}

// follow notes a manifest, and what it keeps. Another key is none.
func (k keptByPins) follow(m layout.Key) error {
	if k.manifests == nil || m.Kind != layout.Manifest {
		return nil
	}
	for next := []layout.Key{m}; len(next) > 0; next = next[1:] {
		at := next[0]
		if k.manifests[at] {
			continue
		}
		k.manifests[at] = true
		children, err := k.References(at.Repository, at.Digest)
		if err != nil {
			return err
		}
		for _, d := range children {
			next = append(next, layout.ManifestKey(at.Repository, d))
		}
		referrers, err := k.Referrers(at.Repository, at.Digest)
		if err != nil {
			return err
		}
		for _, r := range referrers {
			next = append(next, r.Key)
		}
	}
	return nil
}
