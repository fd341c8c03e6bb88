package gc

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// sumWaiting sums up what keeps its bytes only until its grace is over: blobs without an owner but links which no
// living manifest names. What the plan removes itself is not in it.
func (x *planner) sumWaiting() error {
	links, err := x.waitingLinks()
	if err != nil {
		return err
	}
	blobs := map[digest.Digest]bool{}
	for _, list := range [][]index.Row{x.plan.Manifests, x.plan.Layers} {
		for _, r := range list {
			blobs[r.Digest] = true
		}
	}
	for k := range links {
		blobs[k.Digest] = true
	}
	err = x.index.Unreferenced(layout.Blob, endOfTime, func(r index.Row) error {
		blobs[r.Digest] = true
		return x.ctx.Err()
	})
	for d := range blobs {
		if err == nil {
			err = x.addWaitingBlob(d, links)
		}
	}
	return err
}

// endOfTime is later than any use.
var endOfTime = time.UnixMilli(1 << 52)

// waitingLinks are the links that this run leaves though no living manifest names them, with their last use.
func (x *planner) waitingLinks() (map[layout.Key]time.Time, error) {
	var queue []layout.Key
	for _, m := range x.plan.Manifests {
		for _, d := range x.children[m.Key] {
			queue = append(queue, layout.LayerKey(m.Key.Repository, d))
		}
	}
	err := x.index.Unreferenced(layout.Layer, endOfTime, func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	waiting := map[layout.Key]time.Time{}
	for _, k := range distinct(queue) {
		if x.planned[k] {
			continue
		}
		r, err := x.index.Row(k)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		parents, err := x.index.Parents(k.Repository, k.Digest, len(x.plan.Manifests)+1) // one more than can be dead
		if err != nil {
			return nil, err
		}
		if !x.anyStays(parents) {
			waiting[k] = r.AccessedAt
		}
	}
	return waiting, nil
}

// addWaitingBlob adds a blob to the sum if its owners are planned or waiting. It waits for the last of its grace and
// theirs.
func (x *planner) addWaitingBlob(d digest.Digest, links map[layout.Key]time.Time) error {
	k := layout.BlobKey(d)
	if x.planned[k] {
		return nil
	}
	b, err := x.index.Row(k)
	if err != nil || b == nil || !b.Placed {
		return err
	}
	// one more than can be dead or waiting
	owners, err := x.index.Owners(d, max(len(x.plan.Manifests), len(x.plan.Layers)+len(links))+1)
	if err != nil {
		return err
	}
	last := b.AccessedAt
	used := slices.ContainsFunc(owners, func(r index.Row) bool {
		at, waits := links[r.Key]
		if at.After(last) {
			last = at
		}
		return !waits && !x.planned[r.Key]
	})
	if used {
		return nil
	}
	x.plan.WaitingBytes += b.Size
	if due := x.gc.Index.Due(last, x.plan.pushes.lease); due.After(x.plan.WaitingUntil) {
		x.plan.WaitingUntil = due
	}
	return nil
}
