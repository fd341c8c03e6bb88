// Package fsck finds what is wrong with a store (Check) and mends what can be mended (Repair).
//
// A check compares the files of the tree with each other and with the index, and changes nothing. A repair removes only
// names: it moves a blob with wrong bytes to the quarantine, and never deletes one. Each of its steps is one
// transaction of the index that looks at the files once more, so that what a client mended by a push stays.
package fsck

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

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Flaw is a way in which a store can be wrong.
type Flaw string

// The flaws, from the bytes up to the names.
const (
	// Unreadable is a file that the system does not let dcs read.
	Unreadable Flaw = "unreadable"
	// WrongDigest is a blob whose bytes do not match its digest. A check that is not deep reads only blobs of another
	// size than expected.
	WrongDigest Flaw = "wrong digest"
	// Missing is a manifest whose blob, or a part of it, is missing.
	Missing Flaw = "missing blob"
	// WrongSize is a manifest that states another size than a part has: some clients cannot pull it.
	WrongSize Flaw = "wrong size"
	// Partial is an image index of which a part is missing, and another part can be pulled.
	Partial Flaw = "partial index"
	// Unparsable is a manifest that cannot be parsed, and so cannot be pulled.
	Unparsable Flaw = "unparsable manifest"
	// Dangling is a link whose blob is missing, or that holds another digest than its name.
	Dangling Flaw = "dangling link"
	// Nowhere is a tag whose manifest is not in its repository.
	Nowhere Flaw = "tag to nowhere"
	// Stale is a row that differs from the disk, which is right.
	Stale Flaw = "stale row"
	// Orphan is a file without a row: it would never expire.
	Orphan Flaw = "orphan file"
	// Refused is a symbolic link that cannot be followed safely: nothing expires.
	Refused Flaw = "refused link"
	// Unknown is a file that no registry writes.
	Unknown Flaw = "unknown file"
)

// Problem is one flaw of one object. An object may have several.
type Problem struct {
	Flaw   Flaw
	Key    layout.Key // zero for a file that no key names
	File   string     // of an unknown or unreadable file, below the data directory
	Detail string     // what is wrong, for people
}

// Object names the object: by its file below the data directory, or by its key.
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

// CheckOptions say how thoroughly to check.
type CheckOptions struct {
	Deep bool // read every blob and compare its bytes with its digest
	// OnSeen is called, often, with the number of objects looked at and of bytes read. Nil: nothing is called.
	OnSeen func(objects, bytes int64)
}

// Checked is what a check looked at.
type Checked struct {
	Tags, Manifests, Layers, Blobs int64
	Bytes                          int64 // of blobs, read by a deep check
	// Indexed is false where the index was not compared with the disk, since it is not whole.
	Indexed bool
}

// A problem counts when every one of so many looks finds it, so far apart: a push or a run in progress looks like a
// problem for the length of one transaction.
const (
	looks    = 5
	lookPace = 200 * time.Millisecond
)

// batch is how many objects a check looks at in one view of the index, which keeps the WAL from shrinking.
const batch = 250

// Check compares the disk with itself and with the index. The problems come in the order of the paths, those of rows
// without a file last.
func Check(ctx context.Context, st *store.Store, o CheckOptions) ([]Problem, Checked, error) {
	c := checker{ctx: ctx, dir: st.Dir, index: st.Index, onSeen: o.OnSeen}
	c.files = lookAt(ctx, st.Dir)
	c.first = c.files
	if o.Deep {
		c.first.read = c.readBytes
	}
	if err := c.check(); err != nil {
		return c.problems, c.seen, fmt.Errorf("check %s: %w", st.Dir, err)
	}
	return c.problems, c.seen, nil
}

type checker struct {
	ctx    context.Context
	dir    tree.Dir
	index  index.Store
	first  files // of the first look, which reads blobs in a deep check
	files  files // of later looks
	onSeen func(objects, bytes int64)

	seen     Checked
	objects  int64
	pending  []layout.Key // found by the walk, not yet looked at
	problems []Problem
}

func (c *checker) check() (err error) {
	if c.seen.Indexed, err = c.index.GateOpen(c.ctx); err != nil {
		return err
	}
	for _, step := range []func() error{c.walk, c.flush, c.rows, c.again} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// walk looks at every file of the tree.
func (c *checker) walk() error {
	w, err := c.dir.Walk()
	if err == nil {
		err = w.Files(c.ctx, c.file)
	}
	if err != nil {
		return err
	}
	for _, u := range w.Unread() {
		c.found(Problem{Flaw: Unreadable, File: c.relative(u.Path), Detail: reason(u.Err)})
	}
	var refused *tree.SymlinksError
	if errors.As(w.Refused(), &refused) {
		for _, s := range refused.Refused {
			c.found(Problem{Flaw: Refused, File: c.relative(s.Path), Detail: s.Why + ": " + s.Remedy})
		}
	}
	return nil
}

// relative is the path of a file below the data directory.
func (c *checker) relative(path string) string {
	return strings.TrimPrefix(path, string(c.dir)+string(filepath.Separator))
}

func (c *checker) file(path string, regular bool) error {
	p, ok := layout.Parse("/" + filepath.ToSlash(c.relative(path)))
	k, named := p.Key()
	switch {
	case !ok || !regular || !(named || promisesNothing(p.Kind)):
		c.found(Problem{Flaw: Unknown, File: c.relative(path), Detail: "a registry writes no file of this name"})
		return nil
	case !named:
		return nil
	}
	c.tally(k.Kind)
	c.pending = append(c.pending, k)
	if len(c.pending) < batch {
		return nil
	}
	return c.flush()
}

// promisesNothing is true for the files of unfinished uploads and for the history of a tag.
func promisesNothing(k layout.PathKind) bool {
	return slices.Contains([]layout.PathKind{
		layout.TagIndexLink, layout.UploadData, layout.UploadStartedAt, layout.UploadHashState,
	}, k)
}

func (c *checker) tally(k layout.Kind) {
	switch k {
	case layout.Blob:
		c.seen.Blobs++
	case layout.Layer:
		c.seen.Layers++
	case layout.Manifest:
		c.seen.Manifests++
	case layout.Tag:
		c.seen.Tags++
	}
}

// flush looks at the objects that the walk found, in one short view of the index.
func (c *checker) flush() error {
	defer func() { c.pending = c.pending[:0] }()
	return c.index.View(c.ctx, func(ix index.Reader) error {
		for _, k := range c.pending {
			found, err := c.look(ix, k, c.first)
			if err != nil {
				return err
			}
			c.found(found...)
			c.objects++
			c.tell()
		}
		return nil
	})
}

func (c *checker) readBytes(n int) {
	c.seen.Bytes += int64(n)
	c.tell()
}

func (c *checker) tell() {
	if c.onSeen != nil {
		c.onSeen(c.objects, c.seen.Bytes)
	}
}

func (c *checker) found(p ...Problem) { c.problems = append(c.problems, p...) }

// look returns everything that is wrong with an object.
func (c *checker) look(ix index.Reader, k layout.Key, f files) ([]Problem, error) {
	row, err := ix.Row(k)
	if err != nil {
		return nil, err
	}
	var size int64
	if row != nil {
		size = row.Size
	}
	now, err := f.look(k, size)
	if errors.As(err, new(*fs.PathError)) {
		return []Problem{{Flaw: Unreadable, Key: k, File: c.relative(c.dir.File(k.Path())), Detail: reason(err)}}, nil
	}
	if err != nil {
		return nil, err
	}
	if !c.seen.Indexed {
		return now.problems, nil
	}
	return append(compare(k, row, now), now.problems...), nil
}

// compare compares the row of an object with what is on disk.
func compare(k layout.Key, row *index.Row, now onDisk) []Problem {
	placed := row != nil && row.Placed
	problem := func(f Flaw, detail string, args ...any) []Problem {
		return []Problem{{Flaw: f, Key: k, Detail: fmt.Sprintf(detail, args...)}}
	}
	switch {
	case !now.exists && !placed:
		return nil // a claim without a file, or an object that was removed
	case !now.exists:
		return problem(Stale, "this %s is in the index and no longer on disk", k.Kind)
	case k.Kind == layout.Tag && now.target == "", k.Kind == layout.Blob && len(now.problems) > 0:
		return nil // that is a problem of its own
	case !placed:
		return problem(Orphan, "this %s is on disk and not in the index", k.Kind)
	case k.Kind == layout.Tag && row.Digest != now.target:
		return problem(Stale, "the index has %s, the disk %s", row.Digest, now.target)
	case k.Kind == layout.Blob && row.Size != now.size:
		return problem(Stale, "the index has %d bytes, the disk %d", row.Size, now.size)
	}
	return nil
}

// rows finds the rows whose file is missing.
func (c *checker) rows() error {
	if !c.seen.Indexed {
		return nil
	}
	return c.index.View(c.ctx, func(ix index.Reader) error {
		for _, kind := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
			if err := ix.Each(kind, c.row); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *checker) row(row index.Row) error {
	c.objects++
	c.tell()
	if !row.Placed {
		return c.ctx.Err()
	}
	exists, err := c.dir.Has(row.Key)
	if err == nil && !exists { // a file that cannot be read was found by the walk
		c.found(compare(row.Key, &row, onDisk{})...)
	}
	return c.ctx.Err()
}

// again drops the problems that a push or a run in progress made.
func (c *checker) again() error {
	for n := 1; n < looks && len(c.problems) > 0; n++ {
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(lookPace):
		}
		var err error
		if c.problems, err = c.remaining(c.problems); err != nil {
			return err
		}
	}
	return nil
}

// remaining returns those of the problems, which are in the order of their objects, that another look finds. Blobs are
// not read again: wrong bytes stay wrong.
func (c *checker) remaining(problems []Problem) (remain []Problem, err error) {
	err = c.index.View(c.ctx, func(ix index.Reader) error {
		var now []Problem
		var of layout.Key
		for _, p := range problems {
			if p.Key == (layout.Key{}) || p.Flaw == WrongDigest {
				if exists, err := c.fileExists(p); err != nil || exists {
					remain = append(remain, p)
				}
				continue
			}
			if p.Key != of {
				if now, err = c.look(ix, p.Key, c.files); err != nil {
					return err
				}
				of = p.Key
			}
			if slices.Contains(now, p) {
				remain = append(remain, p)
			}
		}
		return nil
	})
	return remain, err
}

// fileExists says whether the file of a problem still exists.
func (c *checker) fileExists(p Problem) (bool, error) {
	if p.Key != (layout.Key{}) {
		return c.dir.Has(p.Key)
	}
	_, err := os.Lstat(filepath.Join(string(c.dir), p.File))
	return !tree.Missing(err), nil
}

// reason is an error of the system without its path, which the problem names.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}
