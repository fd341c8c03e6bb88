// Package reconcile brings the index in line with the disk.
//
// The disk is right about what exists. Rebuild adopts what the index does not know and marks what is
// not there, beside all traffic: each change looks at the disk again inside the index transaction that
// makes it. While it runs the gate is closed, so nothing is retired by any process: a manifest that was
// not read yet cannot protect its blobs. It removes no content.
//
// What is served is seen: the walk follows symbolic links as serving does. Where it may not follow one, or where the
// system does not give out what a repository has, things may be needed of which it does not know. Then the gate
// stays shut, or does so for that repository and for all blobs.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Options say what to rebuild, and how.
type Options struct {
	Dir   tree.Dir
	Index index.Store
	Log   logrus.FieldLogger
	// NameAge says when names that the index did not know were last used. Nil: now. Content counts as
	// used now in any case.
	NameAge tree.Age
	// Hold is how long nothing is retired once a name was adopted with a NameAge: what looks old may have been
	// promised a moment ago, by an index that is lost.
	Hold time.Duration
	// Prune removes a directory, and its parents, if they are empty: a crash left it there. Nil: they stay.
	Prune func(dir string)
	// OnSeen is called with the number of objects seen so far, for each. Nil: nobody looks.
	OnSeen func(objects int)
}

// Result says what a rebuild found.
type Result struct {
	Seen    int // objects on disk
	Adopted int // of those, unknown to the index or known otherwise
	Missing int // known to the index and not on disk
	Token   string
	Unread  []tree.Unread // what the system did not give out
	// Followed are the symbolic links of the tree, with where they lead.
	Followed map[string]string
}

// Repositories are those of which something was not read, as the gate wants to know it.
func (r Result) Repositories() (names []string) {
	for _, u := range r.Unread {
		if u.Repositories != "" && !slices.Contains(names, u.Repositories) {
			names = append(names, u.Repositories)
		}
	}
	return names
}

// batch is how many objects one index transaction looks at: some twenty milliseconds, since a request's
// lease may have to wait for it. Fewer would write the same pages of the index more often.
const batch = 250

// progressEvery is how often a long rebuild says how far it is.
const progressEvery = 10 * time.Second

// maxUnread is how much may be unreadable before that is no matter of single repositories any more.
const maxUnread = 256

// Rebuild closes the gate and makes the index whole. The gate is opened by the caller, with the token and with the
// repositories that could not be read. A *tree.LinksError bars it.
func Rebuild(ctx context.Context, o Options) (Result, error) {
	if o.NameAge == nil {
		o.NameAge, o.Hold = tree.Now, 0
	}
	token, err := o.Index.CloseGate(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("close the gate: %w", err)
	}
	r := rebuild{Options: o, ctx: ctx, disk: tree.On(o.Dir), logged: time.Now()}
	r.Token = token
	err = o.Index.View(ctx, func(ix index.Reader) error {
		totals, err := ix.Totals()
		r.blank = totals == index.Totals{}
		return err
	})
	if err != nil {
		return r.Result, fmt.Errorf("rebuild the index of %s: %w", o.Dir, err)
	}
	if r.walk, err = o.Dir.Walk(); err != nil {
		return r.Result, fmt.Errorf("rebuild the index of %s: %w", o.Dir, err)
	}
	for _, step := range []func() error{r.repositories, r.blobs, r.flush, r.walk.Refused, r.missing, r.unread} {
		if err := step(); err != nil {
			return r.Result, r.bar(fmt.Errorf("rebuild the index of %s: %w", o.Dir, err))
		}
	}
	r.Followed = r.walk.Followed()
	return r.Result, nil
}

// bar says in the index why the gate stays shut, if that is for somebody to mend.
func (r *rebuild) bar(err error) error {
	var refused *tree.LinksError
	if !errors.As(err, &refused) {
		return err
	}
	return errors.Join(err, r.Index.BarGate(r.ctx, r.Token, index.Bar{Why: refused.Error(), Hint: refused.Links[0].Remedy}))
}

// unread is what was passed over, as long as that is little.
func (r *rebuild) unread() error {
	r.Unread = r.walk.Unread()
	if len(r.Unread) > maxUnread {
		return fmt.Errorf("more than %d paths cannot be read, such as: %w", maxUnread, r.Unread[0].Err)
	}
	return nil
}

type rebuild struct {
	Options
	Result
	ctx    context.Context
	walk   *tree.Walk
	disk   *tree.Disk
	blank  bool // the index knew nothing: no need to ask it first
	held   bool // Hold was asked for
	logged time.Time
	keys   []layout.Key // seen and not yet compared
}

func (r *rebuild) blobs() error {
	return r.walk.Blobs(r.ctx, func(d digest.Digest) error { return r.saw(layout.BlobKey(d)) })
}

// repositories come before the blobs, and manifests before layers: what holds a row is known when it is
// written, and is written once.
func (r *rebuild) repositories() error {
	return r.walk.Repositories(r.ctx, func(name string) error {
		manifest := func(d digest.Digest) error { return r.saw(layout.ManifestKey(name, d)) }
		if err := r.walk.Uploads(r.ctx, name, nil); err != nil {
			return err
		}
		if err := r.walk.Links(r.ctx, layout.RevisionsDir, name, manifest); err != nil {
			return err
		}
		layer := func(d digest.Digest) error { return r.saw(layout.LayerKey(name, d)) }
		if err := r.walk.Links(r.ctx, layout.LayersDir, name, layer); err != nil {
			return err
		}
		return r.walk.Tags(r.ctx, name, func(tag string) error { return r.saw(layout.TagKey(name, tag)) })
	})
}

func (r *rebuild) saw(k layout.Key) error {
	r.keys = append(r.keys, k)
	r.Seen++
	if r.OnSeen != nil {
		r.OnSeen(r.Seen)
	}
	if time.Since(r.logged) > progressEvery {
		r.logged = time.Now()
		r.Log.WithField("objects", r.Seen).WithField("adopted", r.Adopted).Info("rebuilding the index from disk")
	}
	if len(r.keys) < batch {
		return nil
	}
	return r.flush()
}

// found is a look, and what it saw when the index last took it.
type found struct {
	key    layout.Key
	looks  []index.Look // its own, and those at what it shows to be damaged
	there  bool
	unread error // of its own look: its row stays as it is
}

func (f *found) take() (index.Adoption, bool, error) {
	a, there, err := f.looks[0]()
	f.there, f.unread = there, err
	if err != nil {
		err = index.ErrSkip
	}
	return a, there, err
}

// orSkip leaves a row as it is while its file cannot be looked at. The walk tells of that file by itself.
func orSkip(look index.Look) index.Look {
	return func() (index.Adoption, bool, error) {
		a, there, err := look()
		if tree.OfOnePath(err) {
			err = index.ErrSkip
		}
		return a, there, err
	}
}

// flush adopts those of the keys that the index does not know as they are on disk.
func (r *rebuild) flush() error {
	differ, err := r.differing()
	r.keys = r.keys[:0]
	if err != nil || len(differ) == 0 {
		return err
	}
	if err := r.hold(differ); err != nil {
		return err
	}
	var looks []index.Look
	for i := range differ {
		looks = append(looks, differ[i].take)
		for _, damaged := range differ[i].looks[1:] {
			looks = append(looks, orSkip(damaged))
		}
	}
	if err := r.Index.Adopt(r.ctx, looks...); err != nil {
		return err
	}
	for _, f := range differ {
		if err := r.count(f); err != nil {
			return err
		}
	}
	return nil
}

// hold is made before the first name is adopted: whoever is killed in between must not find it as old as its file.
func (r *rebuild) hold(differ []found) error {
	named := slices.ContainsFunc(differ, func(f found) bool { return isName(f.key.Kind) })
	if r.Hold == 0 || r.held || !named {
		return nil
	}
	r.held = true
	return r.Index.Hold(r.ctx, r.Hold)
}

// isName says whether a kind of row has the age of its file.
func isName(k layout.Kind) bool { return k == layout.Tag || k == layout.Manifest }

// differing are those of the keys that have to be adopted.
func (r *rebuild) differing() (differ []found, err error) {
	var rows []*index.Row
	if r.blank {
		rows = make([]*index.Row, len(r.keys))
	} else if rows, err = r.rows(); err != nil {
		return nil, err
	}
	for i, k := range r.keys {
		looks, err := r.differs(k, rows[i])
		if err != nil {
			err = r.walk.Pass(k.Repository, err)
		}
		if err != nil {
			return nil, err
		}
		if looks != nil {
			differ = append(differ, found{key: k, looks: looks})
		}
	}
	return differ, nil
}

// differs is how to look at what has to be adopted; nil: its row is as the disk has it.
func (r *rebuild) differs(k layout.Key, row *index.Row) ([]index.Look, error) {
	same, err := r.same(row, tree.Look(r.Dir, k, r.age(k.Kind)))
	if same || err != nil {
		return nil, err
	}
	return r.looks(k, row)
}

func (r *rebuild) rows() (rows []*index.Row, err error) {
	err = r.Index.View(r.ctx, func(ix index.Reader) error {
		for _, k := range r.keys {
			row, err := ix.Row(k)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// looks reads what has to be read before the index is asked to wait.
func (r *rebuild) looks(k layout.Key, row *index.Row) (looks []index.Look, err error) {
	look := tree.Look(r.Dir, k, r.age(k.Kind))
	switch {
	case k.Kind == layout.Manifest:
		return r.disk.LookAtManifest(r.ctx, k, r.NameAge)
	case k.Kind == layout.Blob && row != nil:
		look, err = r.disk.LookAtBlob(r.ctx, k.Digest, row.Size, tree.Now)
	}
	return []index.Look{look}, err
}

// count tells what was adopted from a directory without its file.
func (r *rebuild) count(f found) error {
	if f.unread != nil {
		return r.walk.Pass(f.key.Repository, f.unread)
	}
	if f.there {
		r.Adopted++
		return nil
	}
	there, err := tree.Exists(r.Dir, f.key.Path()) // a manifest has two files
	if err == nil && !there && r.Prune != nil {
		r.Prune(filepath.Dir(r.Dir.File(f.key.Path())))
	}
	if err != nil {
		return r.walk.Pass(f.key.Repository, err)
	}
	return nil
}

// same says whether a row is as the disk has it. What a manifest refers to follows from its digest, so
// a placed row needs no second reading.
func (r *rebuild) same(row *index.Row, look index.Look) (bool, error) {
	if row == nil || !row.Placed {
		return false, nil
	}
	if row.Key.Kind == layout.Layer || row.Key.Kind == layout.Manifest {
		return true, nil
	}
	a, there, err := look()
	if err == nil && !there && row.Key.Kind == layout.Blob {
		there, err = tree.Exists(r.Dir, row.Key.Path()) // it is empty
	}
	if err != nil || !there {
		return !there, err // gone again: for the search for missing files
	}
	if row.Key.Kind == layout.Tag {
		return a.Digest == row.Digest, nil
	}
	return a.Size == row.Size, nil
}

func (r *rebuild) age(k layout.Kind) tree.Age {
	if isName(k) {
		return r.NameAge
	}
	return tree.Now
}

// missing finds the rows whose files are not there: all of them where a disk was not mounted.
func (r *rebuild) missing() error {
	for _, kind := range []layout.Kind{layout.Blob, layout.Layer, layout.Manifest, layout.Tag} {
		for more := true; more; {
			gone, err := r.findMissing(kind)
			if err != nil {
				return err
			}
			r.Missing += len(gone)
			more = len(gone) == maxMissing
			for part := range slices.Chunk(gone, batch) {
				var looks []index.Look
				for _, k := range part {
					f := found{key: k, looks: []index.Look{tree.Look(r.Dir, k, r.age(k.Kind))}}
					looks = append(looks, f.take) // what cannot be read now is found again
				}
				if err := r.Index.Adopt(r.ctx, looks...); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// maxMissing is how many keys are kept in memory. Those that were found are not found again: their rows say
// that there is no file.
const maxMissing = 50_000

var errEnough = errors.New("enough were found")

func (r *rebuild) findMissing(kind layout.Kind) (gone []layout.Key, err error) {
	err = r.Index.View(r.ctx, func(ix index.Reader) error {
		return ix.Each(kind, func(row index.Row) error {
			if !row.Placed {
				return r.ctx.Err()
			}
			there, err := tree.Exists(r.Dir, row.Key.Path())
			if err != nil && !tree.OfOnePath(err) {
				return err
			}
			if err == nil && !there { // what cannot be read may be there: the walk has told of that
				gone = append(gone, row.Key)
			}
			if len(gone) == maxMissing {
				return errEnough
			}
			return r.ctx.Err()
		})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return gone, err
}
