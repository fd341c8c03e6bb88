package inspect

import (
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// judge finds the verdicts on rows by point queries. It remembers those that differ from what a row would have without
// rules.
type judge struct {
	expiry
	finder *verdict.Finder
	asked  map[layout.Key]bool // by key
}

// judge returns a judge of one state of the index; nil: there are no rules.
func (x expiry) judge(r index.Reader) *judge {
	if len(x.policy.Rules) == 0 {
		return nil
	}
	return &judge{x, verdict.New(r, x.policy, x.store.Due), map[layout.Key]bool{}}
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
		j.ruled[r.Key] = ruled{due, v.Rule != rule.Default && due > plain}
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
	for _, kind := range []layout.Kind{layout.Tag, layout.Manifest} {
		var rows []index.Row
		err := r.Each(kind, func(row index.Row) error {
			rows = append(rows, row)
			return nil
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := j.row(row); err != nil {
				return err
			}
		}
	}
	return nil
}
