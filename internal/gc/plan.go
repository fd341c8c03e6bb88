package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// Why an image is removed.
const (
	ReasonTTL      = index.ReasonTTL      // the tag, and the manifest that it points to, were not used for the ttl
	ReasonUntagged = index.ReasonUntagged // nor was the manifest, and nothing refers to it
	ReasonRule     = index.ReasonRule     // nor was either for the time that a rule gives it
	ReasonSize     = index.ReasonSize     // there is no room for it, and what stays was used later
)

// Image is a tag that is removed, or an untagged top-level manifest.
type Image struct {
	Repository  string
	Tag         string // empty: untagged
	Digest      digest.Digest
	LastAccess  time.Time
	Reason      string
	Rule        int   // the number of the rule that gives the time, or rule.Default
	UniqueBytes int64 // bytes that no other image refers to

	key layout.Key
}

// Plan is what a run would remove. Each list is in the order of removal.
type Plan struct {
	Cutoffs   policy.Cutoffs
	Tags      []index.Row
	Manifests []index.Row
	Layers    []index.Row
	Blobs     []index.Row
	Uploads   []layout.Upload
	Images    []Image // oldest first
	// WaitingBytes is how many bytes no image refers to any more, of blobs whose grace is not over, and WaitingUntil
	// when the last of them may be removed. A push may claim them until then.
	WaitingBytes int64
	WaitingUntil time.Time
	Eviction     Eviction

	pushes    pushes
	rules     rule.Rules
	goneFor   time.Duration                 // for which history is kept; 0: none is
	life      rule.Life                     // of what has no verdict
	verdicts  map[layout.Key]policy.Verdict // on tags and manifests, if there are rules
	depth     map[layout.Key]int            // of manifests: how many above it are removed, too
	ranks     map[layout.Key]int            // of what goes for a budget only, from 1: see NewPlan
	elsewhere map[layout.Key]bool           // of Blobs those that are symbolic links, whose removal frees nothing
	failed    error                         // what could not be looked at, and is left out
}

// Result is what Execute would return if no client used or pushed anything in between.
func (p *Plan) Result() Result {
	r := Result{Removed: Counts{Tags: int64(len(p.Tags)), Uploads: int64(len(p.Uploads))}, Images: p.Images}
	for _, m := range p.Manifests {
		if m.Placed {
			r.Removed.Manifests++
		}
	}
	for _, b := range p.Blobs {
		if b.Placed {
			r.Removed.Blobs++
			if p.elsewhere[b.Key] {
				r.elsewhere += b.Size
			} else {
				r.FreedBytes += b.Size
			}
		}
	}
	return r
}

// levels are the lists of rows in the order of their removal. Manifests are cut by depth, since each is removed after
// its owners. So no row of a level refers to another one of it.
func (p *Plan) levels() (levels [][]index.Row) {
	for _, rows := range [][]index.Row{p.Tags, p.Manifests, p.Layers, p.Blobs} {
		for len(rows) > 0 {
			depth := p.depth[rows[0].Key]
			n := slices.IndexFunc(rows, func(r index.Row) bool { return p.depth[r.Key] != depth })
			if n < 0 {
				n = len(rows)
			}
			levels, rows = append(levels, rows[:n]), rows[n:]
		}
	}
	return levels
}

// Victims returns what the index is asked to retire rows by.
func (p *Plan) Victims(rows []index.Row) []index.Victim {
	vs := make([]index.Victim, len(rows))
	for i, r := range rows {
		vs[i] = p.Cutoffs.Victim(r, p.lifeOf(r.Key))
		if p.ranks[r.Key] > 0 && (r.Key.Kind == layout.Tag || r.Key.Kind == layout.Manifest && r.Placed) {
			vs[i].UnusedSince = p.unusedSince(r)
		}
	}
	return vs
}

// lifeOf is the life of a tag or a manifest of the plan.
func (p *Plan) lifeOf(k layout.Key) rule.Life {
	if v, known := p.verdicts[k]; known {
		return v.Life
	}
	return p.life
}

func (p *Plan) imagesOf(gone map[layout.Key]bool) (images []Image) {
	for _, i := range p.Images {
		if gone[i.key] {
			images = append(images, i)
		}
	}
	return images
}

// newPlan makes a plan for which it looks at so many images that may go for a budget, and at most as many again. False:
// they are too few.
func (c *Collector) newPlan(ctx context.Context, p index.Policy, e Eviction, images int) (*Plan, bool,
	error) {
	unfinished, err := c.Files.Uploads()
	if err != nil {
		return nil, false, fmt.Errorf("plan a clean-up: %w", err)
	}
	x := planner{gc: c, ctx: ctx, unfinished: unfinished, policy: p,
		plan: &Plan{Cutoffs: policy.NewCutoffs(p, c.Index.Back, c.Began), rules: p.Rules, goneFor: p.GoneFor,
			life: policy.Life(p), verdicts: map[layout.Key]policy.Verdict{}, pushes: newPushes(p),
			depth: map[layout.Key]int{},
			ranks: map[layout.Key]int{}, elsewhere: map[layout.Key]bool{}},
		evict:   eviction{ranks: map[layout.Key]int{}},
		planned: map[layout.Key]bool{}, candidates: map[layout.Key]*candidate{},
		children: map[layout.Key][]digest.Digest{}, staying: map[uint64]bool{}, asked: map[string]bool{}}
	enough := true
	err = c.Index.View(ctx, func(r index.Reader) (err error) {
		x.index = r
		if x.unread, err = r.Unread(); err != nil {
			return err
		}
		if x.pins, err = verdict.ReadPins(r, c.Index.Due, c.Index.Now()); err != nil {
			return err
		}
		list := func() error { return x.listImages(images) }
		for _, step := range []func() error{list, x.planTags, x.evictTags, x.planManifests, x.planLayers, x.planBlobs} {
			if err := step(); err != nil {
				return err
			}
		}
		if enough = x.cut(e, c.AtMost); !enough {
			return nil
		}
		return x.sumWaiting()
	})
	if err == nil && !enough {
		return nil, false, nil
	}
	if err == nil {
		err = x.planImages()
	}
	if err == nil {
		err = x.planUploads()
	}
	if err != nil {
		return nil, false, fmt.Errorf("plan a clean-up: %w", err)
	}
	if len(x.unread) > 0 {
		x.plan.failed = &UnreadError{x.unread}
	}
	x.plan.failed = errors.Join(x.plan.failed, unfinished.Unread())
	return x.plan, true, nil
}

// UnreadError names the repositories that could not be read as a whole when the index was compared with the disk.
type UnreadError struct{ Repositories index.Unread }

func (e *UnreadError) Error() string {
	s := "repository " + strings.TrimSuffix(e.Repositories[0], "/")
	if n := len(e.Repositories) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s + " could not be read as a whole: nothing of it is removed, and no blob, since it may need that"
}

// planner makes a plan from one state of the index.
type planner struct {
	gc         *Collector
	ctx        context.Context
	unfinished Uploads
	policy     index.Policy
	index      index.Reader
	unread     index.Unread // repositories of which nothing is removed, nor any blob
	pins       verdict.Pins
	plan       *Plan
	evict      eviction

	planned    map[layout.Key]bool            // the rows in the lists of the plan
	candidates map[layout.Key]*candidate      // the manifests that were looked at; nil: one stays
	children   map[layout.Key][]digest.Digest // what the manifests of the plan name
	staying    map[uint64]bool                // what tags point to that their own lives keep, see beginning
	asked      map[string]bool                // the repositories whose uploads were looked at
}

// addVictim puts a row into a list of the plan, unless it is in the plan or has to stay. The rank is 0 if it goes
// without a budget.
func (x *planner) addVictim(r index.Row, list *[]index.Row, rank int) bool {
	if x.planned[r.Key] || x.unread.Spares(r.Key) {
		return false
	}
	x.planned[r.Key] = true
	if rank > 0 {
		x.plan.ranks[r.Key] = rank
	}
	*list = append(*list, r)
	x.gc.tell(Progress{Phase: Planning, Done: int64(len(x.planned))})
	return true
}

// planManifests looks at what the removed tags point to, and at what nothing refers to; then at what those keep.
func (x *planner) planManifests() error {
	var queue []layout.Key
	for _, t := range x.plan.Tags {
		queue = append(queue, layout.ManifestKey(t.Key.Repository, t.Digest))
	}
	add := func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	}
	err := x.index.Unreferenced(layout.Manifest, x.plan.Cutoffs.Latest, func(r index.Row) error {
		if !x.isUnused(r, policy.Untagged(x.policy, r.Key.Repository)) {
			return nil
		}
		return add(r)
	})
	if err != nil {
		return err
	}
	if err := x.index.Claims(x.plan.Cutoffs.Content, add); err != nil {
		return err
	}
	for _, m := range x.evict.images {
		queue = append(queue, m.Key)
	}
	for len(queue) > 0 {
		if err := x.lookAt(queue); err != nil {
			return err
		}
		var next []layout.Key
		for _, k := range queue {
			parts, err := x.planManifest(k)
			if err != nil {
				return err
			}
			next = append(next, parts...)
		}
		queue = next
	}
	slices.SortStableFunc(x.plan.Manifests, func(a, b index.Row) int {
		return x.plan.depth[a.Key] - x.plan.depth[b.Key]
	})
	return nil
}

// candidate is a manifest that is unused and has no tag that stays.
type candidate struct {
	row    index.Row
	tags   []index.Row // all of the plan
	owners []index.Row // the manifests that own it
	next   int         // of the owners, the first that may not be in the plan
}

// lookAt finds the candidates among manifests, of those that were not looked at.
func (x *planner) lookAt(ks []layout.Key) error {
	var fresh []layout.Key
	for _, k := range ks {
		if _, known := x.candidates[k]; !known {
			x.candidates[k] = nil
			fresh = append(fresh, k)
		}
	}
	var unused []index.Row
	named := map[layout.Key]bool{}
	err := x.index.Rows(fresh, 1, func(m index.Row, owners int) error {
		latest := x.plan.Cutoffs.Latest
		if len(x.evict.images) > 0 {
			latest = x.plan.inGrace()
		}
		if !m.Placed {
			latest = x.plan.Cutoffs.Content
		}
		if m.AccessedAt.Before(latest) {
			unused, named[m.Key] = append(unused, m), owners > 0
		}
		return x.ctx.Err()
	})
	for _, m := range unused {
		if err == nil {
			x.candidates[m.Key], err = x.newCandidate(m, named[m.Key])
		}
	}
	return err
}

// planManifest puts a manifest into the plan, if it is a candidate, all its owners are in the plan, and no pin keeps
// it. Then it returns what the manifest kept. A manifest is planned once for each of its owners in the plan: the last
// one frees it.
func (x *planner) planManifest(k layout.Key) (parts []layout.Key, err error) {
	c := x.candidates[k]
	if c == nil || x.planned[k] || x.pins.Keep(c.row) {
		return nil, nil
	}
	for c.next < len(c.owners) && x.planned[c.owners[c.next].Key] {
		c.next++
	}
	if c.next < len(c.owners) {
		return nil, nil
	}
	if rank, goes := x.rankOf(c); !goes || !x.addVictim(c.row, &x.plan.Manifests, rank) {
		return nil, nil
	}
	for _, o := range c.owners { // after its owners, whose removal is synced first
		x.plan.depth[k] = max(x.plan.depth[k], x.plan.depth[o.Key]+1)
	}
	return x.partsOf(c.row)
}

// newCandidate looks at the tags and owners of a manifest. It returns nil if the manifest stays whatever becomes of
// its owners.
func (x *planner) newCandidate(m index.Row, named bool) (*candidate, error) {
	tags, err := x.index.Tags(m.Key.Repository, m.Key.Digest)
	if err != nil || x.anyStays(tags) {
		return nil, err
	}
	owners, err := verdict.Owners(x.index, m, named)
	return &candidate{row: m, tags: tags, owners: owners}, err
}

// partsOf returns what a manifest may keep: its children and its referrers.
func (x *planner) partsOf(m index.Row) (keys []layout.Key, err error) {
	children, err := x.index.References(m.Key.Repository, m.Key.Digest)
	if err != nil {
		return nil, err
	}
	x.children[m.Key] = children
	for _, d := range children {
		keys = append(keys, layout.ManifestKey(m.Key.Repository, d))
	}
	referrers, err := x.index.Referrers(m.Key.Repository, m.Key.Digest)
	for _, r := range referrers {
		keys = append(keys, r.Key)
	}
	return keys, err
}

// planLayers looks at the links that the removed manifests name, and at those that nothing refers to.
func (x *planner) planLayers() error {
	var q queue
	for _, m := range x.plan.Manifests {
		for _, d := range x.children[m.Key] {
			q.add(layout.LayerKey(m.Key.Repository, d), 1, x.plan.ranks[m.Key])
		}
	}
	err := x.index.Unreferenced(layout.Layer, x.plan.Cutoffs.Content, func(r index.Row) error {
		q.add(r.Key, 0, 0)
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	links, err := x.freed(q)
	for _, r := range links {
		if err == nil {
			err = x.planLayer(r, q.ranks[r.Key])
		}
	}
	x.plan.Layers = byDigest(x.plan.Layers)
	return err
}

// queue are distinct keys that a plan may free.
type queue struct {
	keys   []layout.Key
	owners map[layout.Key]int // how many rows of the plan refer to a key
	ranks  map[layout.Key]int // the highest of these rows
	most   int                // of owners
}

// add adds owners of a rank to a key: thousands of manifests may name one layer.
func (q *queue) add(k layout.Key, owners, rank int) {
	if q.owners == nil {
		q.owners, q.ranks = map[layout.Key]int{}, map[layout.Key]int{}
	}
	n, known := q.owners[k]
	if !known {
		q.keys = append(q.keys, k)
	}
	q.owners[k], q.ranks[k] = n+owners, max(q.ranks[k], rank)
	q.most = max(q.most, n+owners)
}

// freed returns the rows that were not used since their cutoff, and to which no row refers that stays.
func (x *planner) freed(q queue) (rows []index.Row, err error) {
	err = x.index.Rows(q.keys, q.most+1, func(r index.Row, owners int) error { // one more than can be in the plan
		if owners <= q.owners[r.Key] && x.isUnused(r, x.plan.life) {
			rows = append(rows, r)
		}
		return x.ctx.Err()
	})
	return rows, err
}

// distinct keeps the first of equal keys.
func distinct(keys []layout.Key) []layout.Key {
	seen := make(map[layout.Key]bool, len(keys))
	return slices.DeleteFunc(keys, func(k layout.Key) bool {
		known := seen[k]
		seen[k] = true
		return known
	})
}

// planLayer puts a link into the plan, unless it may be part of a push under way.
func (x *planner) planLayer(r index.Row, rank int) error {
	if err := x.findUploads(r.Key.Repository); err != nil {
		return err
	}
	if !x.plan.pushes.waitsForUpload(r) && !x.unfinished.Hidden(r.Key.Repository) {
		x.addVictim(r, &x.plan.Layers, rank)
	}
	return nil
}

// isUnused says whether a row was last used before its cutoff, which of a tag or a placed manifest is that of its life.
func (x *planner) isUnused(r index.Row, l rule.Life) bool { return x.plan.Cutoffs.Unused(r, l) }

// anyStays says whether any of the rows is not in the plan.
func (x *planner) anyStays(rows []index.Row) bool {
	return slices.ContainsFunc(rows, func(r index.Row) bool { return !x.planned[r.Key] })
}

// planBlobs looks at the blobs of removed manifests and links, and at those that nothing refers to. While a repository
// is unread no blob is removed: the repository may need it.
func (x *planner) planBlobs() error {
	if len(x.unread) > 0 {
		return nil
	}
	var q queue
	for _, list := range [][]index.Row{x.plan.Manifests, x.plan.Layers} {
		for _, r := range list {
			q.add(layout.BlobKey(r.Key.Digest), 1, x.plan.ranks[r.Key])
		}
	}
	err := x.index.Unreferenced(layout.Blob, x.plan.Cutoffs.Content, func(r index.Row) error {
		q.add(r.Key, 0, 0)
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	blobs, err := x.freed(q)
	if err != nil {
		return err
	}
	for _, r := range blobs {
		x.addVictim(r, &x.plan.Blobs, q.ranks[r.Key])
	}
	x.plan.Blobs = byDigest(x.plan.Blobs)
	for _, b := range x.plan.Blobs {
		if b.Placed && x.gc.Files.Elsewhere(b.Key) {
			x.plan.elsewhere[b.Key] = true
		}
	}
	return nil
}

// byDigest sorts rows so that neighbours in the index and on disk share a write.
func byDigest(rows []index.Row) []index.Row {
	slices.SortFunc(rows, func(a, b index.Row) int { return cmp.Compare(a.Digest, b.Digest) })
	return rows
}

// planImages lists what people know of what is removed: tags, and top-level manifests that have none.
func (x *planner) planImages() error {
	tagged := map[layout.Key]bool{}
	for _, t := range x.plan.Tags {
		m := layout.ManifestKey(t.Key.Repository, t.Digest)
		tagged[m] = true
		x.addImage(t, m, ReasonTTL)
	}
	for _, m := range x.plan.Manifests {
		if tagged[m.Key] || !m.Placed {
			continue
		}
		if len(x.candidates[m.Key].owners) > 0 {
			continue // part of another image
		}
		x.addImage(m, m.Key, ReasonUntagged)
	}
	if err := x.measureImages(); err != nil {
		return err
	}
	slices.SortStableFunc(x.plan.Images, func(a, b Image) int { return a.LastAccess.Compare(b.LastAccess) })
	return nil
}

func (x *planner) addImage(r index.Row, manifest layout.Key, reason string) {
	by := x.plan.lifeOf(r.Key).Rule
	switch {
	case x.plan.ranks[r.Key] > 0:
		reason, by = ReasonSize, rule.Default
	case by != rule.Default:
		reason = ReasonRule
	}
	x.plan.Images = append(x.plan.Images, Image{Repository: manifest.Repository, Tag: r.Key.Tag,
		Digest: manifest.Digest, LastAccess: r.AccessedAt, Reason: reason, Rule: by, key: r.Key})
}

// measure is what is reported of an image, by its manifest.
type measure struct {
	used  time.Time // zero: the manifest has no row
	bytes int64     // that no other image refers to
}

const (
	// measuredAtOnce is how many images are measured in one View: the index's WAL grows for as long as one is open.
	measuredAtOnce = 64
	measurers      = 2 // at a time
)

// measureImages measures each manifest once, whatever the number of its tags.
func (x *planner) measureImages() error {
	var manifests []layout.Key
	for _, i := range x.plan.Images {
		manifests = append(manifests, layout.ManifestKey(i.Repository, i.Digest))
	}
	manifests = distinct(manifests)
	measured := make([]measure, len(manifests))
	var working errgroup.Group
	working.SetLimit(measurers)
	for from := 0; from < len(manifests); from += measuredAtOnce {
		to := min(from+measuredAtOnce, len(manifests))
		working.Go(func() error {
			return x.gc.Index.View(x.ctx, func(r index.Reader) (err error) {
				for n := from; n < to && err == nil; n++ {
					measured[n], err = measureImage(r, manifests[n])
				}
				return err
			})
		})
	}
	if err := working.Wait(); err != nil {
		return err
	}
	of := make(map[layout.Key]measure, len(manifests))
	for n, k := range manifests {
		of[k] = measured[n]
	}
	for n := range x.plan.Images {
		i := &x.plan.Images[n]
		m := of[layout.ManifestKey(i.Repository, i.Digest)]
		if m.used.After(i.LastAccess) {
			i.LastAccess = m.used
		}
		i.UniqueBytes = m.bytes
	}
	return nil
}

func measureImage(r index.Reader, manifest layout.Key) (m measure, err error) {
	row, err := r.Row(manifest)
	if err != nil {
		return m, err
	}
	if row != nil {
		m.used = row.AccessedAt
	}
	m.bytes, err = image.UniqueBytes(r, manifest)
	return m, err
}
