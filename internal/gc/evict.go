package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// A budget adds images to a plan: those that were used least recently, until enough bytes go. The plan is made with
// more of them than may be needed, each row with its rank: how many of the images have to go before it can. So one plan
// tells for each number of images what is freed with them, and is cut at the first that is enough.

// firstImages is how many images a plan takes up at first. If these are not enough, it is made anew with four times as
// many.
const firstImages = 128

// eviction are the images of a plan that go for a budget.
type eviction struct {
	images []policy.Image // that may go, in their order; the first has the rank 1
	ranks  map[layout.Key]int
	all    bool // there are no others
}

// NewPlan decides what to remove under a policy. It changes nothing, and costs what it lists.
func (c *Collector) NewPlan(ctx context.Context, p index.Policy) (*Plan, error) {
	e, err := c.demand(ctx, p.Budget)
	if err != nil {
		return nil, fmt.Errorf("measure what is stored: %w", err)
	}
	// What an earlier server owes would be retired by no run. An index that cannot say it plans too much.
	if _, owed, _, err := c.Index.Promised(ctx); err == nil {
		p.Grace, p.Resolution = max(p.Grace, owed.Grace), max(p.Resolution, owed.Resolution)
	}
	images := 0
	if e.Demand.Any() && !e.hopeless() {
		images = firstImages
	}
	for ; ; images *= 4 {
		plan, enough, err := c.newPlan(ctx, p, e, images)
		if enough || err != nil {
			return plan, err
		}
	}
}

// listImages finds the images that may go for a budget, the first of them by last use. While a repository is unread no
// blob goes, so there are none: they would free nothing.
func (x *planner) listImages(most int) error {
	if most == 0 || len(x.unread) > 0 {
		x.evict.all = true
		return nil
	}
	l := lister{planner: x, finder: verdict.New(x.index, x.policy, x.gc.Index.Due, x.pins), seen: map[layout.Key]bool{}}
	if err := l.read(most); err != nil {
		return err
	}
	var found []policy.Image
	for _, k := range l.keys {
		m, err := l.image(k)
		if err != nil {
			return err
		}
		if m != nil {
			found = append(found, *m)
		}
	}
	x.evict.images, x.evict.all = policy.Order(found, x.gc.Index.Now()), l.end.IsZero()
	for i, m := range x.evict.images {
		x.evict.ranks[m.Key] = i + 1
	}
	return nil
}

// lister reads images in the order of their last use.
type lister struct {
	*planner
	finder *verdict.Finder
	keys   []layout.Key // of their manifests
	seen   map[layout.Key]bool
	end    time.Time // images that were used later are not all listed; zero: all are
}

var errEnough = errors.New("enough images were listed")

// read reads the manifests of the tags and those without an owner, so many of each.
func (l *lister) read(most int) error {
	list := func(read func(time.Time, func(index.Row) error) error) (keys []layout.Key, err error) {
		var last time.Time
		err = read(l.plan.inGrace(), func(r index.Row) error {
			if len(keys) == most {
				l.endAt(last)
				return errEnough
			}
			k := layout.ManifestKey(r.Key.Repository, r.Digest)
			if last = r.AccessedAt; r.Digest != "" && !l.seen[k] && !l.unread.Spares(k) {
				l.seen[k] = true
				keys = append(keys, k)
			}
			return l.ctx.Err()
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
		return keys, err
	}
	tagged, err := list(l.index.IdleTags)
	if err != nil {
		return err
	}
	untagged, err := list(func(before time.Time, f func(index.Row) error) error {
		return l.index.Unreferenced(layout.Manifest, before, f)
	})
	l.keys = append(tagged, untagged...)
	return err
}

func (l *lister) endAt(t time.Time) {
	if l.end.IsZero() || t.Before(l.end) {
		l.end = t
	}
}

// image returns an image, or nil if it is not known whether all were listed that were used before it.
func (l *lister) image(k layout.Key) (*policy.Image, error) {
	row, err := l.index.Row(k)
	if err != nil || row == nil || !row.Placed {
		return nil, err
	}
	tags, err := l.index.Tags(k.Repository, k.Digest)
	if err != nil {
		return nil, err
	}
	m := policy.Image{Key: k, Used: row.AccessedAt, Weight: 1}
	for _, t := range tags {
		if t.AccessedAt.After(m.Used) {
			m.Used = t.AccessedAt
		}
	}
	if !m.Used.Before(l.plan.inGrace()) || !l.end.IsZero() && m.Used.After(l.end) {
		return nil, nil
	}
	if m.Stays, err = l.stays(*row, tags); err != nil || m.Stays {
		return &m, err
	}
	m.After, err = l.after(*row, tags)
	return &m, err
}

// stays says whether something keeps an image whatever room there is: a pin, or a rule, that keeps it or one of its
// tags.
func (l *lister) stays(m index.Row, tags []index.Row) (bool, error) {
	if l.pins.Keep(m) {
		return true, nil
	}
	if len(tags) == 0 {
		return policy.Untagged(l.policy, m.Key.Repository).Kept, nil
	}
	for _, t := range tags {
		if stays, err := l.finder.Stays(t); stays || err != nil {
			return stays, err
		}
	}
	return false, nil
}

// after returns the images that one belongs to: those that its tags are about, and those that own it.
func (l *lister) after(m index.Row, tags []index.Row) (keys []layout.Key, err error) {
	above, err := verdict.Owners(l.index, m, true)
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		about, err := l.index.About(t.Key.Tag)
		if err != nil {
			return nil, err
		}
		above = append(above, about...)
	}
	seen := map[layout.Key]bool{m.Key: true}
	for len(above) > 0 {
		r := above[0]
		above = above[1:]
		if seen[r.Key] {
			continue
		}
		seen[r.Key] = true
		tags, err := l.index.Tags(r.Key.Repository, r.Digest)
		if err != nil {
			return nil, err
		}
		owners, err := verdict.Owners(l.index, r, true)
		if err != nil {
			return nil, err
		}
		if len(tags) > 0 || len(owners) == 0 {
			keys = append(keys, r.Key)
		} else {
			above = append(above, owners...)
		}
	}
	return keys, nil
}

// evictTags puts the tags of the images that may go into the plan.
func (x *planner) evictTags() error {
	for i, m := range x.evict.images {
		tags, err := x.index.Tags(m.Key.Repository, m.Key.Digest)
		if err != nil {
			return err
		}
		for _, t := range tags {
			x.addVictim(t, &x.plan.Tags, i+1)
		}
	}
	return nil
}

// rankOf says whether a manifest goes whose tags and owners are in the plan, and its rank. Without a budget that is by
// its life, with the rank 0.
func (x *planner) rankOf(c *candidate) (rank int, goes bool) {
	own := x.evict.ranks[c.row.Key]
	var used time.Time // of its owners and tags
	for _, list := range [][]index.Row{c.tags, c.owners} {
		for _, r := range list {
			rank = max(rank, x.plan.ranks[r.Key])
			if r.AccessedAt.After(used) {
				used = r.AccessedAt
			}
		}
	}
	switch {
	case rank == 0 && x.isUnused(c.row, x.lifeOf(c)):
		return 0, true
	case len(x.evict.images) == 0:
		return 0, false
	case !c.row.Placed:
		return rank, x.isUnused(c.row, x.plan.life)
	case own > 0:
		return max(rank, own), true
	case len(c.tags)+len(c.owners) == 0:
		return 0, false // an image that stays, or is not listed
	}
	// A part that was used by itself since is an image of its own, from its own last use on.
	alone := c.row.AccessedAt.After(used)
	if !c.row.AccessedAt.Before(x.plan.inGrace()) ||
		alone && policy.Untagged(x.policy, c.row.Key.Repository).Kept {
		return 0, false
	}
	return x.firstAfter(max(rank, 1), c.row.AccessedAt)
}

// firstAfter returns the first rank, from one on, that an image used at a time could have.
func (x *planner) firstAfter(rank int, used time.Time) (int, bool) {
	for ; rank <= len(x.evict.images); rank++ {
		if !x.evict.images[rank-1].Used.Before(used) {
			return rank, true
		}
	}
	return rank, x.evict.all
}

// cut leaves in the plan what goes with the fewest images that are enough for a demand. False: the plan has too few.
func (x *planner) cut(e Eviction, most int) bool {
	freed := make([]int64, len(x.evict.images)+2) // one more: parts that were used after all images
	for _, list := range [][]index.Row{x.plan.Tags, x.plan.Manifests, x.plan.Layers, x.plan.Blobs} {
		for _, r := range list {
			if e.Demand.Any() {
				freed[x.plan.ranks[r.Key]] += x.gc.Usage.Takes(r)
			}
		}
	}
	for n := 1; n < len(freed); n++ {
		freed[n] += freed[n-1]
	}
	n := 0
	if n, e.Met, e.Vain = e.Demand.Fewest(freed, x.evict.all); !e.Met && !x.evict.all {
		return false
	}
	e.Fits = freed[n] >= e.Demand.Size
	if e.Freeable = freed[len(freed)-1]; e.hopeless() {
		e.Freeable = e.Disk.Used
	}
	if most > 0 && n > most {
		n, e.More = most, true
	}
	x.plan.Eviction = e
	for _, list := range []*[]index.Row{&x.plan.Tags, &x.plan.Manifests, &x.plan.Layers, &x.plan.Blobs} {
		*list = slices.DeleteFunc(*list, func(r index.Row) bool {
			if x.plan.ranks[r.Key] <= n {
				return false
			}
			delete(x.planned, r.Key)
			delete(x.plan.ranks, r.Key)
			return true
		})
	}
	return true
}

// unusedSince is the time by which a row is retired that goes for a budget: any use since the plan keeps it.
func (p *Plan) unusedSince(r index.Row) time.Time {
	since := r.AccessedAt.Add(time.Millisecond)
	if since.After(p.inGrace()) {
		return p.inGrace()
	}
	return since
}

// inGrace is the time from which a use keeps an image in its grace, whatever room there is.
func (p *Plan) inGrace() time.Time { return p.Cutoffs.Content }
