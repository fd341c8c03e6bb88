package gc

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// later sums up what keeps its bytes only until its grace is over: blobs that nothing holds but links which no
// living manifest names. What the plan removes itself is not in it.
func (x *planner) later() error {
	links, err := x.waitingLinks()
	if err != nil {
		return err
	}
	blobs := map[digest.Digest]bool{}
	for _, list := range [][]index.Row{x.Manifests, x.Layers} {
		for _, r := range list {
			blobs[r.Digest] = true
		}
	}
	for k := range links {
		blobs[k.Digest] = true
	}
	err = x.Loose(layout.Blob, everything, func(r index.Row) error {
		blobs[r.Digest] = true
		return x.ctx.Err()
	})
	for d := range blobs {
		if err == nil {
			err = x.laterBlob(d, links)
		}
	}
	return err
}

// everything is cutoffs that nothing is too young for.
var everything = index.Cutoffs{Names: time.UnixMilli(1 << 52), Content: time.UnixMilli(1 << 52)}

// waitingLinks are the links that this run leaves though no living manifest names them, with their last use.
func (x *planner) waitingLinks() (map[layout.Key]time.Time, error) {
	var queue []layout.Key
	for _, m := range x.Manifests {
		children, err := x.References(m.Key.Digest)
		if err != nil {
			return nil, err
		}
		for _, d := range children {
			queue = append(queue, layout.LayerKey(m.Key.Repository, d))
		}
	}
	err := x.Loose(layout.Layer, everything, func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	waiting := map[layout.Key]time.Time{}
	for _, k := range distinct(queue) {
		if x.dead[k] {
			continue
		}
		r, err := x.Row(k)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		parents, err := x.Parents(k.Repository, k.Digest, len(x.Manifests)+1) // one more than can be dead
		if err != nil {
			return nil, err
		}
		if !x.anyAlive(parents) {
			waiting[k] = r.AccessedAt
		}
	}
	return waiting, nil
}

func (x *planner) laterBlob(d digest.Digest, links map[layout.Key]time.Time) error {
	k := layout.BlobKey(d)
	if x.dead[k] {
		return nil
	}
	b, err := x.Row(k)
	if err != nil || b == nil || !b.Placed {
		return err
	}
	holders, err := x.Holders(d, max(len(x.Manifests), len(x.Layers)+len(links))+1) // one more than can be dead or waiting
	if err != nil {
		return err
	}
	last := b.AccessedAt
	used := slices.ContainsFunc(holders, func(r index.Row) bool {
		at, waits := links[r.Key]
		if at.After(last) {
			last = at
		}
		return !waits && !x.dead[r.Key]
	})
	if used {
		return nil
	}
	x.Later += b.Size
	if due := x.Index.Due(last, x.lease); due.After(x.Due) {
		x.Due = due
	}
	return nil
}
