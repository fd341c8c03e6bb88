package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/image"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Why an image goes.
const (
	ReasonTTL      = "ttl"      // the tag, and what it points to, was not used for the ttl
	ReasonUntagged = "untagged" // so was the manifest, and nothing names it
)

// Image is a tag that goes, or an untagged top-level manifest.
type Image struct {
	Repository  string
	Tag         string // empty: untagged
	Digest      digest.Digest
	LastAccess  time.Time
	Reason      string
	UniqueBytes int64 // bytes that no other image holds

	key layout.Key
}

// Plan is what a run would remove, each list in the order of removal.
type Plan struct {
	Cutoffs   index.Cutoffs
	Tags      []index.Row
	Manifests []index.Row
	Layers    []index.Row
	Blobs     []index.Row
	Uploads   []layout.Path
	Images    []Image // oldest first
	// Later is the bytes that no image uses any more, of blobs whose grace is not over, and Due when the last
	// of them may go. A push may claim them until then.
	Later int64
	Due   time.Time

	dir          tree.Dir
	uploadCutoff time.Time // files know the wall clock only
	lease        time.Duration
	uploading    map[string]time.Time // repository -> when its oldest upload under way began
	depth        map[layout.Key]int   // of manifests: how many are above it that go as well
	unread       index.Unseen         // repositories of which nothing goes, nor any blob
	failed       error                // what could not be looked at, and is passed over
}

// Result is what Execute would return if nobody used anything meanwhile.
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
			r.FreedBytes += b.Size
			if fi, err := os.Lstat(p.dir.File(b.Key.Path())); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
				r.elsewhere += b.Size
			}
		}
	}
	r.FreedBytes -= r.elsewhere
	return r
}

func (p *Plan) imagesOf(gone map[layout.Key]bool) (images []Image) {
	for _, i := range p.Images {
		if gone[i.key] {
			images = append(images, i)
		}
	}
	return images
}

// NewPlan decides what to remove under a policy. It changes nothing. Its cost follows what it lists.
func (c *Collector) NewPlan(ctx context.Context, p index.Policy) (*Plan, error) {
	x := planner{Collector: c, ctx: ctx, Plan: &Plan{dir: c.Dir, uploading: map[string]time.Time{}, depth: map[layout.Key]int{}}, asked: map[string]bool{}, dead: map[layout.Key]bool{}, above: map[layout.Key][]layout.Key{}}
	x.Cutoffs = c.cutoffs(p)
	x.lease = p.Grace + p.Resolution
	x.uploadCutoff = time.Now().Add(-p.Grace)
	walk, err := c.Dir.Walk()
	if err != nil {
		return nil, fmt.Errorf("plan an expiry: %w", err)
	}
	x.walk = walk
	err = c.Index.View(ctx, func(r index.Reader) (err error) {
		x.Reader = r
		if x.unread, err = r.Unread(); err != nil {
			return err
		}
		for _, step := range []func() error{x.tags, x.manifests, x.layers, x.blobs, x.later} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = x.images()
	}
	if err == nil {
		err = x.uploads()
	}
	if err != nil {
		return nil, fmt.Errorf("plan an expiry: %w", err)
	}
	if len(x.unread) > 0 {
		x.failed = &UnreadError{x.unread}
	}
	for _, u := range walk.Unread() {
		x.failed = errors.Join(x.failed, u.Err)
	}
	return x.Plan, nil
}

// UnreadError names the repositories that could not be read when the index was compared with the disk.
type UnreadError struct{ Repositories index.Unseen }

func (e *UnreadError) Error() string {
	s := "repository " + strings.TrimSuffix(e.Repositories[0], "/")
	if n := len(e.Repositories) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s + " could not be read as a whole: nothing of it is removed, and no blob, since it may need that"
}

// cutoffs are those of the policy, but none is later than the beginning of the run.
func (c *Collector) cutoffs(p index.Policy) index.Cutoffs {
	cut := policy.Cutoffs(p, c.Index.Back)
	if !c.Began.IsZero() {
		for _, t := range []*time.Time{&cut.Names, &cut.Content} {
			if t.After(c.Began) {
				*t = c.Began
			}
		}
	}
	return cut
}

type planner struct {
	*Collector
	index.Reader
	*Plan
	ctx  context.Context
	walk *tree.Walk
	dead map[layout.Key]bool
	// above are the keepers of each manifest that was looked at.
	above map[layout.Key][]layout.Key
	// measured are the manifests of images.
	measured map[layout.Key]measure
	// asked are the repositories whose uploads were looked at.
	asked map[string]bool
}

func (x *planner) die(r index.Row, list *[]index.Row) bool {
	if x.dead[r.Key] || x.unread.Spares(r.Key) {
		return false
	}
	x.dead[r.Key] = true
	*list = append(*list, r)
	x.tell(Progress{Phase: Planning, Done: int64(len(x.dead))})
	return true
}

func (x *planner) tags() error {
	return x.IdleTags(x.Cutoffs.Names, func(r index.Row) error {
		x.die(r, &x.Plan.Tags)
		return x.ctx.Err()
	})
}

// manifests looks at what dead tags pointed to, and at what nothing names; then at what those name.
func (x *planner) manifests() error {
	var queue []layout.Key
	for _, t := range x.Plan.Tags {
		queue = append(queue, layout.ManifestKey(t.Key.Repository, t.Digest))
	}
	err := x.Loose(layout.Manifest, x.Cutoffs, func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	for len(queue) > 0 {
		k := queue[0]
		queue = queue[1:]
		if x.dead[k] {
			continue
		}
		group, err := x.deadGroup(k)
		if err != nil {
			return err
		}
		for _, m := range group {
			if !x.die(m, &x.Manifests) {
				continue
			}
			x.findDepth(m.Key)
			kept, err := x.keptBy(m)
			if err != nil {
				return err
			}
			queue = append(queue, kept...)
		}
	}
	slices.SortStableFunc(x.Manifests, func(a, b index.Row) int { return x.depth[a.Key] - x.depth[b.Key] })
	return nil
}

// findDepth puts a manifest below those that keep it and go too, so that their names are gone for good
// before its own goes.
func (x *planner) findDepth(m layout.Key) {
	for _, k := range x.above[m] {
		if x.dead[k] && x.depth[k] >= x.depth[m] {
			x.depth[m] = x.depth[k] + 1
		}
	}
}

// deadGroup returns a manifest with all that keeps it and is not planned yet, if none of it is wanted.
func (x *planner) deadGroup(k layout.Key) (group []index.Row, err error) {
	if x.unread.Spares(k) {
		return nil, nil
	}
	seen := map[layout.Key]bool{k: true}
	for queue := []layout.Key{k}; len(queue) > 0; queue = queue[1:] {
		m, err := x.Row(queue[0])
		if err != nil {
			return nil, err
		}
		if m == nil || x.dead[m.Key] {
			continue
		}
		if !policy.Dead(*m, x.Cutoffs) {
			return nil, nil
		}
		tags, err := x.Reader.Tags(m.Key.Repository, m.Key.Digest)
		if err != nil || slices.ContainsFunc(tags, func(t index.Row) bool { return !x.dead[t.Key] }) {
			return nil, err
		}
		group = append(group, *m)
		keepers, err := x.keepers(*m)
		if err != nil {
			return nil, err
		}
		x.above[m.Key] = keepers
		for _, p := range keepers {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	slices.Reverse(group) // parents first
	return group, nil
}

// keepers are the manifests that keep a manifest: those that name it, and its subject.
func (x *planner) keepers(m index.Row) ([]layout.Key, error) {
	parents, err := x.Parents(m.Key.Repository, m.Key.Digest, 0)
	if err != nil {
		return nil, err
	}
	var keys []layout.Key
	for _, p := range parents {
		keys = append(keys, p.Key)
	}
	if m.Subject != "" {
		keys = append(keys, layout.ManifestKey(m.Key.Repository, m.Subject))
	}
	return keys, nil
}

// keptBy are the manifests that a manifest keeps: its children and its referrers.
func (x *planner) keptBy(m index.Row) (keys []layout.Key, err error) {
	children, err := x.References(m.Key.Digest)
	if err != nil {
		return nil, err
	}
	for _, d := range children {
		keys = append(keys, layout.ManifestKey(m.Key.Repository, d))
	}
	referrers, err := x.Referrers(m.Key.Repository, m.Key.Digest)
	for _, r := range referrers {
		keys = append(keys, r.Key)
	}
	return keys, err
}

func (x *planner) layers() error {
	var queue []layout.Key
	for _, m := range x.Manifests {
		children, err := x.References(m.Key.Digest)
		if err != nil {
			return err
		}
		for _, d := range children {
			queue = append(queue, layout.LayerKey(m.Key.Repository, d))
		}
	}
	err := x.Loose(layout.Layer, x.Cutoffs, func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, k := range distinct(queue) {
		if err := x.layer(k); err != nil {
			return err
		}
	}
	x.Layers = byDigest(x.Layers)
	return nil
}

// distinct keeps the first of each key: thousands of manifests may name one layer.
func distinct(keys []layout.Key) []layout.Key {
	seen := make(map[layout.Key]bool, len(keys))
	return slices.DeleteFunc(keys, func(k layout.Key) bool {
		known := seen[k]
		seen[k] = true
		return known
	})
}

func (x *planner) layer(k layout.Key) error {
	r, err := x.Row(k)
	if err != nil || r == nil || !policy.Dead(*r, x.Cutoffs) {
		return err
	}
	parents, err := x.Parents(k.Repository, k.Digest, len(x.Manifests)+1) // one more than can be dead
	if err != nil || x.anyAlive(parents) {
		return err
	}
	if err := x.findUploads(k.Repository); err != nil {
		return err
	}
	if !x.waitsForUpload(*r) && !x.hidden(k.Repository) {
		x.die(*r, &x.Layers)
	}
	return nil
}

// hidden says whether not all uploads of a repository could be looked at.
func (x *planner) hidden(repo string) bool {
	return slices.ContainsFunc(x.walk.Unread(), func(u tree.Unread) bool { return index.Unseen{u.Repositories}.Has(repo) })
}

// findUploads looks once at what is being uploaded into a repository.
func (x *planner) findUploads(repo string) error {
	if x.asked[repo] {
		return nil
	}
	x.asked[repo] = true
	oldest, ok, err := x.oldestUpload(repo)
	if ok {
		x.uploading[repo] = oldest
	}
	return err
}

func (x *planner) anyAlive(rows []index.Row) bool {
	return slices.ContainsFunc(rows, func(r index.Row) bool { return !x.dead[r.Key] })
}

func (x *planner) blobs() error {
	if len(x.unread) > 0 {
		return nil
	}
	var queue []layout.Key
	for _, list := range [][]index.Row{x.Manifests, x.Layers} {
		for _, r := range list {
			queue = append(queue, layout.BlobKey(r.Key.Digest))
		}
	}
	err := x.Loose(layout.Blob, x.Cutoffs, func(r index.Row) error {
		queue = append(queue, r.Key)
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, k := range distinct(queue) {
		r, err := x.Row(k)
		if err != nil {
			return err
		}
		if r == nil || !policy.Dead(*r, x.Cutoffs) {
			continue
		}
		holders, err := x.Holders(k.Digest, max(len(x.Manifests), len(x.Layers))+1) // one more than can be dead
		if err != nil {
			return err
		}
		if !x.anyAlive(holders) {
			x.die(*r, &x.Blobs)
		}
	}
	x.Blobs = byDigest(x.Blobs)
	return nil
}

// byDigest puts neighbours in the index and on disk next to each other, which share a write.
func byDigest(rows []index.Row) []index.Row {
	slices.SortFunc(rows, func(a, b index.Row) int { return cmp.Compare(a.Digest, b.Digest) })
	return rows
}

// uploads finds those to which nothing was written for the grace.
func (x *planner) uploads() error {
	err := x.walk.Repositories(x.ctx, func(repo string) error {
		return x.walk.Uploads(x.ctx, repo, func(id string) error {
			u := layout.Path{Kind: layout.UploadDir, Repository: repo, Upload: id}
			over, err := abandoned(x.Dir.File(u), x.uploadCutoff)
			if err != nil {
				return x.walk.Pass(repo, err)
			}
			if over {
				x.Uploads = append(x.Uploads, u)
			}
			return nil
		})
	})
	if tree.OfOnePath(err) {
		return nil // it is among those of the walk
	}
	return err
}

// images says which of what goes people know: tags, and top-level manifests that have none.
func (x *planner) images() error {
	tagged := map[layout.Key]bool{}
	x.measured = map[layout.Key]measure{}
	for _, t := range x.Plan.Tags {
		m := layout.ManifestKey(t.Key.Repository, t.Digest)
		tagged[m] = true
		if err := x.image(t, m, ReasonTTL); err != nil {
			return err
		}
	}
	for _, m := range x.Manifests {
		if tagged[m.Key] || !m.Placed {
			continue
		}
		if slices.ContainsFunc(x.above[m.Key], func(k layout.Key) bool { return x.dead[k] }) {
			continue // part of another image
		}
		if err := x.image(m, m.Key, ReasonUntagged); err != nil {
			return err
		}
	}
	slices.SortStableFunc(x.Images, func(a, b Image) int { return a.LastAccess.Compare(b.LastAccess) })
	return nil
}

func (x *planner) image(r index.Row, manifest layout.Key, reason string) error {
	i := Image{Repository: manifest.Repository, Tag: r.Key.Tag, Digest: manifest.Digest, LastAccess: r.AccessedAt, Reason: reason, key: r.Key}
	m, err := x.measure(manifest)
	if m.used.After(i.LastAccess) {
		i.LastAccess = m.used
	}
	i.UniqueBytes = m.bytes
	x.Images = append(x.Images, i)
	return err
}

// measure is what a manifest says of an image.
type measure struct {
	used  time.Time // zero: there is none
	bytes int64     // that no other image holds
}

// measure asks about a manifest once, whatever the number of its tags, and in a state of its own: as long as one
// is read, the index's WAL grows.
func (x *planner) measure(manifest layout.Key) (m measure, err error) {
	m, known := x.measured[manifest]
	if known {
		return m, nil
	}
	err = x.Index.View(x.ctx, func(r index.Reader) error {
		row, err := r.Row(manifest)
		if err != nil {
			return err
		}
		if row != nil {
			m.used = row.AccessedAt
		}
		m.bytes, err = image.UniqueBytes(r, manifest)
		return err
	})
	x.measured[manifest] = m
	return m, err
}
