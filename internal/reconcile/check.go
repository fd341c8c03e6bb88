package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Flaw is a way in which a store can be wrong.
type Flaw string

// The flaws, from the bytes up to the names.
const (
	Unreadable  Flaw = "unreadable"          // a file that the system does not give out
	WrongDigest Flaw = "wrong digest"        // content that is not what its name says; where the size is right deep checks find it only
	Missing     Flaw = "missing blob"        // a manifest whose blob, or anything it needs, is not there
	WrongSize   Flaw = "wrong size"          // a manifest that says another size of what it names than that has: some clients cannot pull it
	Partial     Flaw = "partial index"       // an index of which a part is not there, and another can be pulled
	Unparsable  Flaw = "unparsable manifest" // a manifest that cannot be understood, and so not be pulled
	Dangling    Flaw = "dangling link"       // a link whose blob is not there, or that says something else than its name
	Nowhere     Flaw = "tag to nowhere"      // a tag whose manifest is not in its repository
	Stale       Flaw = "stale row"           // the index knows it, or knows it otherwise, and the disk is right
	Orphan      Flaw = "orphan file"         // the disk has it and the index does not: it would never expire
	Refused     Flaw = "refused link"        // a symbolic link that cannot be followed safely: nothing expires
	Unknown     Flaw = "unknown file"        // nothing that a registry writes
)

// Problem is one flaw of one thing. A thing may have several.
type Problem struct {
	Flaw   Flaw
	Key    layout.Key // zero for an unknown file
	File   string     // of an unknown file; of an unreadable one
	Detail string     // what is wrong, for people
}

// Object names the thing: a file below the data directory, or what Key says.
func (p Problem) Object() string {
	if p.Key == (layout.Key{}) {
		return p.File
	}
	switch p.Key.Kind {
	case layout.Blob:
		return p.Key.Digest.String()
	case layout.Tag:
		return p.Key.Repository + ":" + p.Key.Tag
	}
	return p.Key.Repository + "@" + p.Key.Digest.String()
}

func (p Problem) same(q Problem) bool {
	return p.Flaw == q.Flaw && p.Key == q.Key && p.File == q.File && p.Detail == q.Detail
}

// CheckOptions say what to check, and how thoroughly.
type CheckOptions struct {
	Dir   tree.Dir
	Index index.Store
	Deep  bool // read every blob and hold it against its digest
	// OnSeen is called, often, with the number of things looked at and the bytes read. Nil: nobody looks.
	OnSeen func(things, bytes int64)
}

// Checked is what a check looked at.
type Checked struct {
	Tags, Manifests, Layers, Blobs int64
	Bytes                          int64 // of blobs, read by a deep check
	// Indexed is false when the index is being rebuilt, so that it was not held against the disk.
	Indexed bool
}

// A thing is looked at again before it counts as a problem: what a push or an expiry is just bringing
// or taking is whole, or gone, within one transaction. So many looks, so far apart.
const (
	looks    = 5
	lookPace = 200 * time.Millisecond
)

// Check holds the disk against itself and against the index, and changes nothing. Problems come in the
// order of the paths, those of the index last.
func Check(ctx context.Context, o CheckOptions) ([]Problem, Checked, error) {
	c := checker{CheckOptions: o, ctx: ctx, disk: tree.On(o.Dir)}
	err := c.check()
	return c.problems, c.Checked, err
}

type checker struct {
	CheckOptions
	Checked
	ctx      context.Context
	disk     *tree.Disk
	things   int64
	pending  []layout.Key // of the tree, not yet looked at
	problems []Problem
}

func (c *checker) check() (err error) {
	if c.Indexed, err = c.Index.GateOpen(c.ctx); err != nil {
		return err
	}
	for _, step := range []func() error{c.tree, c.flush, c.rows, c.again} {
		if err := step(); err != nil {
			return fmt.Errorf("check %s: %w", c.Dir, err)
		}
	}
	return nil
}

// tree looks at every file below distribution's tree.
func (c *checker) tree() error {
	w, err := c.Dir.Walk()
	if err == nil {
		err = w.Files(c.ctx, c.file)
	}
	if err != nil {
		return err
	}
	for _, u := range w.Unread() {
		c.found(Problem{Flaw: Unreadable, File: c.relative(u.Path), Detail: reason(u.Err)})
	}
	var refused *tree.LinksError
	if errors.As(w.Refused(), &refused) {
		for _, l := range refused.Links {
			c.found(Problem{Flaw: Refused, File: c.relative(l.Link), Detail: l.Why + ": " + l.Remedy})
		}
	}
	return nil
}

// relative is how a file is called below the data directory.
func (c *checker) relative(path string) string {
	return strings.TrimPrefix(path, string(c.Dir)+string(filepath.Separator))
}

func (c *checker) file(path string, regular bool) error {
	p, ok := layout.Parse("/" + filepath.ToSlash(c.relative(path)))
	k, known := keyOf(p)
	switch {
	case !ok || !regular || !(known || bookkeeping(p.Kind)):
		c.found(Problem{Flaw: Unknown, File: c.relative(path), Detail: "a registry writes no such file"})
		return nil
	case !known:
		return nil
	}
	c.tally(k.Kind)
	c.pending = append(c.pending, k)
	if len(c.pending) < batch {
		return nil
	}
	return c.flush()
}

// keyOf is the thing whose file a path is.
func keyOf(p layout.Path) (layout.Key, bool) {
	switch p.Kind {
	case layout.BlobData:
		return layout.BlobKey(p.Digest), true
	case layout.LayerLink:
		return layout.LayerKey(p.Repository, p.Digest), true
	case layout.RevisionLink:
		return layout.ManifestKey(p.Repository, p.Digest), true
	case layout.TagLink:
		return layout.TagKey(p.Repository, p.Tag), true
	}
	return layout.Key{}, false
}

// bookkeeping is for files that promise nothing: uploads that are under way, the history of a tag.
func bookkeeping(k layout.PathKind) bool {
	return slices.Contains([]layout.PathKind{layout.TagIndexLink, layout.UploadData, layout.UploadStartedAt, layout.UploadHashState}, k)
}

func (c *checker) tally(k layout.Kind) {
	*map[layout.Kind]*int64{layout.Blob: &c.Blobs, layout.Layer: &c.Layers, layout.Manifest: &c.Manifests, layout.Tag: &c.Tags}[k]++
}

// flush looks at the things that the walk found, in one short view of the index.
func (c *checker) flush() error {
	defer func() { c.pending = c.pending[:0] }()
	return c.Index.View(c.ctx, func(ix index.Reader) error {
		for _, k := range c.pending {
			found, err := c.look(ix, k, c.Deep)
			if err != nil {
				return err
			}
			c.found(found...)
			c.things++
			c.tell()
		}
		return nil
	})
}

func (c *checker) tell() {
	if c.OnSeen != nil {
		c.OnSeen(c.things, c.Bytes)
	}
}

func (c *checker) found(p ...Problem) { c.problems = append(c.problems, p...) }

// look says everything that is wrong with a thing.
func (c *checker) look(ix index.Reader, k layout.Key, deep bool) (found []Problem, err error) {
	row, err := ix.Row(k)
	if err != nil {
		return nil, err
	}
	seen, there, err := c.onDisk(k, row, deep)
	if errors.As(err, new(*fs.PathError)) {
		return []Problem{{Flaw: Unreadable, Key: k, File: c.relative(c.Dir.File(k.Path())), Detail: reason(err)}}, nil
	}
	if err != nil {
		return nil, err
	}
	if c.Indexed {
		found = c.compare(k, row, seen, there)
	}
	return append(found, seen.problems...), nil
}

// sight is a thing as it is on disk.
type sight struct {
	size     int64         // blobs
	target   digest.Digest // tags
	problems []Problem
}

func (s *sight) add(f Flaw, k layout.Key, detail string, args ...any) {
	s.problems = append(s.problems, Problem{Flaw: f, Key: k, Detail: fmt.Sprintf(detail, args...)})
}

func (c *checker) onDisk(k layout.Key, row *index.Row, deep bool) (s sight, there bool, err error) {
	if k.Kind == layout.Blob {
		return c.blob(k, row, deep)
	}
	to, err := tree.Link(c.Dir, k.Path())
	if tree.Missing(err) {
		return s, false, nil
	}
	if errors.As(err, new(*fs.PathError)) {
		return s, true, err
	}
	switch {
	case k.Kind == layout.Tag && err != nil:
		s.add(Nowhere, k, "its link says no digest")
	case k.Kind == layout.Tag:
		s.target = to
		return s, true, c.tag(&s, k, to)
	case err != nil || to != k.Digest:
		s.add(Dangling, k, "its link says something else than its name")
	case k.Kind == layout.Layer:
		return s, true, c.layer(&s, k)
	default:
		return s, true, c.manifest(&s, k)
	}
	return s, true, nil
}

func (c *checker) blob(k layout.Key, row *index.Row, deep bool) (s sight, there bool, err error) {
	fi, err := os.Stat(c.Dir.File(k.Path()))
	if tree.Missing(err) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	s.size = fi.Size()
	var right bool
	if deep {
		right, _, err = tree.Verify(c.ctx, c.Dir, k.Digest, func(n int) { c.Bytes += int64(n); c.tell() })
	} else {
		var said int64
		if row != nil {
			said = row.Size
		}
		right, err = c.disk.Whole(c.ctx, k.Digest, s.size, said)
	}
	if tree.Missing(err) {
		return s, false, nil
	}
	if err == nil && !right {
		s.add(WrongDigest, k, "its %d bytes have another digest", s.size)
	}
	return s, true, err
}

// Broken says whether a thing that is on disk is wrong there and cannot be pulled at all, whatever the index says. It
// does not read blobs.
func Broken(dir tree.Dir, k layout.Key) (bool, error) {
	c := checker{CheckOptions: CheckOptions{Dir: dir}, ctx: context.Background(), disk: tree.On(dir)}
	seen, there, err := c.onDisk(k, nil, false)
	wrong := func(p Problem) bool { return p.Flaw != Partial && p.Flaw != WrongSize } // which most clients never notice
	return there && slices.ContainsFunc(seen.problems, wrong), err
}

func (c *checker) exists(kind layout.PathKind, repo string, d digest.Digest) (bool, error) {
	return tree.Exists(c.Dir, layout.Path{Kind: kind, Repository: repo, Digest: d})
}

func (c *checker) layer(s *sight, k layout.Key) error {
	there, err := c.exists(layout.BlobData, "", k.Digest)
	if err == nil && !there {
		s.add(Dangling, k, "its blob is not there")
	}
	return err
}

func (c *checker) tag(s *sight, k layout.Key, to digest.Digest) error {
	there, err := c.exists(layout.RevisionLink, k.Repository, to)
	if err == nil && !there {
		s.add(Nowhere, k, "manifest %s is not in its repository", to)
	}
	return err
}

func (c *checker) manifest(s *sight, k layout.Key) error {
	data, err := tree.Content(c.Dir, k.Digest)
	if tree.Missing(err) {
		s.add(Missing, k, "its own blob is not there")
		return nil
	}
	if err != nil {
		return err
	}
	content, err := manifest.Parse(data)
	if err != nil {
		s.add(Unparsable, k, "%v", err)
		return nil
	}
	if err := c.parts(s, k, content); err != nil {
		return err
	}
	return c.partial(s, k, content)
}

// parts says what a manifest misses of what it names.
func (c *checker) parts(s *sight, k layout.Key, content *manifest.Manifest) error {
	for _, p := range content.Parts {
		if p.Foreign {
			continue
		}
		if err := c.part(s, k, p); err != nil {
			return err
		}
	}
	return nil
}

// partial says so of what an index misses of which another part can be pulled.
func (c *checker) partial(s *sight, k layout.Key, content *manifest.Manifest) error {
	if !s.misses() || !content.IsIndex() {
		return nil
	}
	usable, err := c.anyUsable(k.Repository, content, map[digest.Digest]bool{k.Digest: true})
	for i := range s.problems {
		if p := &s.problems[i]; usable && p.Flaw == Missing {
			p.Flaw, p.Detail = Partial, p.Detail+"; other parts of it can be pulled"
		}
	}
	return err
}

func (s *sight) misses() bool {
	return slices.ContainsFunc(s.problems, func(p Problem) bool { return p.Flaw == Missing })
}

// Usable says whether somebody can pull a manifest: all of an image, or at least one that an index lists.
func Usable(dir tree.Dir, k layout.Key) (bool, error) {
	c := checker{CheckOptions: CheckOptions{Dir: dir}, ctx: context.Background(), disk: tree.On(dir)}
	return c.usable(k, map[digest.Digest]bool{})
}

func (c *checker) usable(k layout.Key, seen map[digest.Digest]bool) (bool, error) {
	if seen[k.Digest] {
		return false, nil
	}
	seen[k.Digest] = true
	if there, err := c.exists(layout.RevisionLink, k.Repository, k.Digest); err != nil || !there {
		return false, err
	}
	data, err := tree.Content(c.Dir, k.Digest)
	if tree.Missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	content, err := manifest.Parse(data)
	if err != nil {
		return false, nil // it is unparsable
	}
	if content.IsIndex() {
		if usable, err := c.anyUsable(k.Repository, content, seen); usable || err != nil {
			return usable, err
		}
	}
	var s sight
	err = c.parts(&s, k, content)
	return !s.misses(), err
}

func (c *checker) anyUsable(repo string, content *manifest.Manifest, seen map[digest.Digest]bool) (bool, error) {
	for _, d := range content.References {
		if usable, err := c.usable(layout.ManifestKey(repo, d), seen); usable || err != nil {
			return usable, err
		}
	}
	return false, nil
}

// part says what a manifest misses of something that it names.
func (c *checker) part(s *sight, k layout.Key, p manifest.Part) error {
	fi, err := os.Stat(c.Dir.File(layout.BlobKey(p.Digest).Path()))
	if tree.Missing(err) {
		s.add(Missing, k, "%s is not there", p.Digest)
		return nil
	}
	if err != nil {
		return err
	}
	whole, err := c.disk.Whole(c.ctx, p.Digest, fi.Size(), p.Size)
	if err != nil {
		return err
	}
	switch {
	case !whole:
		s.add(Missing, k, "%s is damaged: it has %d bytes", p.Digest, fi.Size())
	case !p.Fits(fi.Size()):
		s.add(WrongSize, k, "%s has %d bytes, which is not what the manifest says", p.Digest, fi.Size())
	}
	layer, err := c.exists(layout.LayerLink, k.Repository, p.Digest)
	if err != nil {
		return err
	}
	manifest, err := c.exists(layout.RevisionLink, k.Repository, p.Digest)
	switch {
	case err != nil:
		return err
	case !layer && !manifest:
		s.add(Missing, k, "%s is not in its repository", p.Digest)
	case p.Blob && !layer:
		s.add(Missing, k, "%s is not in its repository as a blob", p.Digest)
	case p.Manifest && !manifest:
		s.add(Missing, k, "%s is not in its repository as a manifest", p.Digest)
	}
	return nil
}

// compare holds a thing on disk against its row.
func (c *checker) compare(k layout.Key, row *index.Row, seen sight, there bool) []Problem {
	switch {
	case !there && (row == nil || !row.Placed):
		return nil // a claim whose file never came, or nothing any more
	case !there:
		return []Problem{{Flaw: Stale, Key: k, Detail: fmt.Sprintf("the index knows this %s, the disk does not", k.Kind)}}
	case k.Kind == layout.Tag && seen.target == "", k.Kind == layout.Blob && len(seen.problems) > 0:
		return nil // reported as it is
	case row == nil || !row.Placed:
		return []Problem{{Flaw: Orphan, Key: k, Detail: fmt.Sprintf("the index does not know this %s", k.Kind)}}
	case k.Kind == layout.Tag && row.Digest != seen.target:
		return []Problem{{Flaw: Stale, Key: k, Detail: fmt.Sprintf("the index says %s, the disk %s", row.Digest, seen.target)}}
	case k.Kind == layout.Blob && row.Size != seen.size:
		return []Problem{{Flaw: Stale, Key: k, Detail: fmt.Sprintf("the index says %d bytes, the disk %d", row.Size, seen.size)}}
	}
	return nil
}

// rows finds what the index knows and the disk does not have.
func (c *checker) rows() error {
	if !c.Indexed {
		return nil
	}
	return c.Index.View(c.ctx, func(ix index.Reader) error {
		for _, kind := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
			err := ix.Each(kind, func(row index.Row) error {
				c.things++
				c.tell()
				there := true
				if row.Placed {
					var err error
					if there, err = tree.Exists(c.Dir, row.Key.Path()); err != nil {
						there = true // unreadable: the walk has said so
					}
				}
				if !there {
					c.found(c.compare(row.Key, &row, sight{}, false)...)
				}
				return c.ctx.Err()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// again drops the problems that were only coming or going.
func (c *checker) again() error {
	for n := 1; n < looks && len(c.problems) > 0; n++ {
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(lookPace):
		}
		var err error
		if c.problems, err = c.still(c.problems); err != nil {
			return err
		}
	}
	return nil
}

// still are those of the problems that are there at another look, of which wrong bytes are certain.
func (c *checker) still(problems []Problem) (stay []Problem, err error) {
	err = c.Index.View(c.ctx, func(ix index.Reader) error {
		now, of := []Problem(nil), layout.Key{}
		for _, p := range problems {
			if p.Key == (layout.Key{}) || p.Flaw == WrongDigest {
				if there, err := c.stays(p); err != nil || there {
					stay = append(stay, p)
				}
				continue
			}
			if p.Key != of {
				if now, err = c.look(ix, p.Key, false); err != nil {
					return err
				}
				of = p.Key
			}
			if slices.ContainsFunc(now, p.same) {
				stay = append(stay, p)
			}
		}
		return nil
	})
	return stay, err
}

// stays says whether the file of a problem is there any more.
func (c *checker) stays(p Problem) (bool, error) {
	if p.Key != (layout.Key{}) {
		return tree.Exists(c.Dir, p.Key.Path())
	}
	_, err := os.Lstat(filepath.Join(string(c.Dir), p.File))
	return !tree.Missing(err), nil
}

// reason is an error of the system without the path, which is said elsewhere.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}
