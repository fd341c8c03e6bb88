// Package reconcile brings the index in line with the tree, beside all traffic.
//
// The tree is right about what exists. A rebuild walks all of it, adopts the files that the index does not know, and
// marks the rows whose files are missing. Each change of a row looks at the file again, inside of the transaction that
// makes it. A rebuild removes no file.
//
// A rebuild closes the gate, so that no process retires anything: a manifest that was not read yet cannot protect its
// blobs. The caller opens the gate afterwards. Three things keep the gate from opening as before:
//
//   - A symbolic link that cannot be followed bars it, until an operator mends it.
//   - Repositories with files that cannot be read are named in the Result. The gate opens without them: nothing of
//     theirs is retired, nor any blob, since their manifests may need it.
//   - More unreadable files than that fail the rebuild, and the gate stays closed.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Options say what to rebuild, and how.
type Options struct {
	Dir   tree.Dir
	Index index.Store
	Log   logrus.FieldLogger
	// NameAge gives the last use of tags and manifests that the index does not know. Nil: they count as used now. Blobs
	// and links count as used now in any case.
	NameAge adopt.Age
	// Hold is how long nothing is retired after a tag or manifest was adopted with a NameAge: an index that is lost may
	// have promised it a moment ago, however old it looks.
	Hold time.Duration
	// Prune removes the directory of a key that has no file, and its parents, if they are empty: a crash left them.
	// Nil: they stay.
	Prune func(layout.Key)
	// PruneUploads removes the list of uploads of a repository, if it is empty. Nil: it stays.
	PruneUploads func(repo string)
	// OnSeen is called for each object with the number of objects seen so far. Nil: nothing is called.
	OnSeen func(objects int)
}

// Result says what a rebuild found.
type Result struct {
	Seen    int // objects in the tree
	Adopted int // of those, unknown to the index or with another size or digest
	Missing int // rows without a file
	Hollow  int // directories of objects that have no file, or not a whole one
	Token   string
	Unread  []tree.Unread // what could not be read
	// Followed are the symbolic links of the tree, with where they lead.
	Followed map[string]string
}

// Repositories are those of which something could not be read, as index.Store.OpenGate takes them.
func (r Result) Repositories() (names []string) {
	for _, u := range r.Unread {
		if u.Repositories != "" && !slices.Contains(names, u.Repositories) {
			names = append(names, u.Repositories)
		}
	}
	return names
}

// Told says whether the index knows all of the tree, and every directory of an object has its file. Then a change of
// the tree shows in its Imprint.
func (r Result) Told() bool {
	return r.Missing == 0 && r.Hollow == 0 && len(r.Unread) == 0 && len(r.Followed) == 0
}

const (
	// batch is how many objects one transaction of the index looks at. It takes some twenty milliseconds, for which the
	// lease of a request may have to wait. Smaller batches would write the same pages of the index more often.
	batch = 250
	// progressEvery is how often a long rebuild logs how far it is.
	progressEvery = 10 * time.Second
	// maxUnread is how many unreadable paths are a matter of single repositories. More are taken for a broken disk.
	maxUnread = 256
)

// Rebuild closes the gate and brings the index in line with the tree. The caller opens the gate, with the token and
// the unread repositories of the result. *tree.SymlinksError: the gate is barred.
func Rebuild(ctx context.Context, o Options) (Result, error) {
	if o.NameAge == nil {
		o.NameAge, o.Hold = adopt.Now, 0
	}
	r := rebuild{Options: o, ctx: ctx, disk: adopt.On(o.Dir), logged: time.Now()}
	var err error
	if r.res.Token, err = o.Index.CloseGate(ctx); err != nil {
		return r.res, fmt.Errorf("close the gate: %w", err)
	}
	if err := r.run(); err != nil {
		return r.res, r.bar(fmt.Errorf("rebuild the index of %s: %w", o.Dir, err))
	}
	return r.res, nil
}

type rebuild struct {
	Options
	res    Result
	ctx    context.Context
	walk   *tree.Walk
	disk   *adopt.Disk
	blank  bool // the index had no rows: there is no need to read it
	held   bool // the index was told to hold
	logged time.Time
	keys   []layout.Key // seen in the tree and not yet compared with their rows

	unmeasured []string // directories that were seen and are not measured yet
}

// run has repositories before blobs, and manifests before links: what refers to a row is known when the row is
// written, and so it is written once.
func (r *rebuild) run() (err error) {
	if r.blank, err = r.isBlank(); err != nil {
		return err
	}
	if r.walk, err = r.Dir.Walk(); err != nil {
		return err
	}
	for _, step := range []func() error{r.repositories, r.blobs, r.flush, r.directories, r.walk.Refused, r.missing,
		r.unread} {
		if err := step(); err != nil {
			return err
		}
	}
	r.res.Followed = r.walk.Followed()
	return nil
}

func (r *rebuild) isBlank() (blank bool, err error) {
	err = r.Index.View(r.ctx, func(ix index.Reader) error {
		totals, err := ix.Totals()
		blank = totals == index.Totals{}
		return err
	})
	return blank, err
}

func (r *rebuild) repositories() error {
	return r.walk.Repositories(r.ctx, func(name string) error {
		if err := r.walk.Uploads(r.ctx, name, nil); err != nil { // only their links matter
			return err
		}
		if r.PruneUploads != nil {
			r.PruneUploads(name)
		}
		manifest := func(d digest.Digest) error { return r.saw(layout.ManifestKey(name, d)) }
		if err := r.walk.Links(r.ctx, layout.Manifest, name, manifest); err != nil {
			return err
		}
		layer := func(d digest.Digest) error { return r.saw(layout.LayerKey(name, d)) }
		if err := r.walk.Links(r.ctx, layout.Layer, name, layer); err != nil {
			return err
		}
		tag := func(tag string) error { return r.saw(layout.TagKey(name, tag)) }
		if err := r.walk.Tags(r.ctx, name, tag); err != nil {
			return err
		}
		return r.measure(name)
	})
}

func (r *rebuild) blobs() error {
	return r.walk.Blobs(r.ctx, func(d digest.Digest) error { return r.saw(layout.BlobKey(d)) })
}

// saw takes an object of the tree, and compares a batch of them.
func (r *rebuild) saw(k layout.Key) error {
	r.keys = append(r.keys, k)
	r.res.Seen++
	if r.OnSeen != nil {
		r.OnSeen(r.res.Seen)
	}
	if time.Since(r.logged) > progressEvery {
		r.logged = time.Now()
		r.Log.WithField("objects", r.res.Seen).WithField("adopted",
			r.res.Adopted).Info("rebuilding the index from disk")
	}
	if len(r.keys) < batch {
		return nil
	}
	return r.flush()
}

// unread fails for more unreadable paths than a few.
func (r *rebuild) unread() error {
	r.res.Unread = r.walk.Unread()
	if len(r.res.Unread) > maxUnread {
		return fmt.Errorf("more than %d paths cannot be read, such as: %w", maxUnread, r.res.Unread[0].Err)
	}
	return nil
}

// bar records in the index why the gate stays closed, where an operator has to mend that.
func (r *rebuild) bar(err error) error {
	var refused *tree.SymlinksError
	if !errors.As(err, &refused) {
		return err
	}
	bar := index.Bar{Why: refused.Error(), Hint: refused.Refused[0].Remedy}
	return errors.Join(err, r.Index.BarGate(r.ctx, r.res.Token, bar))
}
