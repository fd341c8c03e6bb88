// Package store opens a data directory for a process, in the role that the process has there.
//
//   - A server serves it (Serve). It holds the server lock for as long as it lives, so there is one at most.
//   - A gc collects in it (Collect): beside the server, on the server's own index, or alone, when there is no server.
//   - A dry run rehearses (Rehearse), and an operator looks (Look). Neither changes a file of the data directory.
//
// Every role gets a Store: the files, the index, and the policy of a run. The gate belongs to the role, too.
// A server closes it, since nothing is known yet of the time in which no server watched. A gc beside a server waits
// until the server opens it; a gc alone compares the index with the tree, unless that is as the last one
// left it, and opens it.
//
// This is the only package that knows which engine the index has, and what it means that an index is missing,
// damaged, replaced, older than this version, or in a directory that cannot be written to.
package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Store is an open data directory. The caller closes it.
type Store struct {
	Dir   tree.Dir
	Tree  *tree.Tree // nil: the store was opened to be read
	Index index.Store
	// Policy is the one of a run that begins now: what the operator asked for, and no less than what servers
	// promised. Of a server it is the policy that it promised when it opened the store.
	Policy index.Policy
	// Server is the server that uses this index. Nil: there was none when the store was opened.
	Server *tree.Holder
	// Opened is when the index was opened, by its own clock, before it was compared with the tree.
	Opened time.Time
	// Imported says that the comparison adopted images with the dates of their files. The gate stays closed then
	// until OpenGate, so that a run does not remove images in the same breath in which it found them.
	Imported bool

	// Compared is why the index was compared with the tree, of a store that was opened for a gc without a server.
	// Empty: it was not.
	Compared string

	rebuilt reconcile.Result // its gate is not open yet
	pins    pinsSeen
	closing []func() error // in the order of opening
}

// Close gives back all that the opening took, the last first.
func (s *Store) Close() error {
	var errs []error
	for _, f := range slices.Backward(s.closing) {
		errs = append(errs, f())
	}
	s.closing = nil
	return errors.Join(errs...)
}

// touchIndex makes an empty file for the index, if there is none: SQLite gives its other files the owner and the mode
// of this one.
func touchIndex(d tree.Dir) error { return disk.Touch(d.Index(), 0o644) }

// onClose has f called by Close.
func (s *Store) onClose(f func() error) { s.closing = append(s.closing, f) }

// use takes an index that was opened, or the error of opening it.
func (s *Store) use(ix index.Store, err error) error {
	if err != nil {
		return err
	}
	s.Index, s.Opened = ix, ix.Now()
	s.onClose(ix.Close)
	if s.Tree != nil {
		s.Tree.OnPruned(s.pruned)
	}
	return nil
}

// pruned has the index forget directories that are removed. What it does not hear of counts as used until the next
// comparison with the tree.
func (s *Store) pruned(dirs []string) {
	_ = s.Index.Measure(context.Background(), s.Dir.Taken, dirs...)
}

// OpenGate opens the gate after a comparison, unless another process began a comparison since.
func (s *Store) OpenGate(ctx context.Context) error {
	_, err := s.Index.OpenGate(ctx, s.rebuilt.Token, s.rebuilt.Repositories()...)
	return err
}

// Opener says which data directory to open, and what the operator asked for.
type Opener struct {
	Dir tree.Dir
	Log logrus.FieldLogger
	// Asked is the policy that the operator asked for. A server ignores it: it promises a policy of its own.
	Asked policy.Request
	// NameAge is how old tags and manifests are that the index does not know. Nil: they count as used now.
	NameAge adopt.Age
	// OnWait is called each time the opening waits for another process. Nil: nothing is called.
	OnWait func(Wait)
	// OnSeen is called, often, with the number of objects that were compared with the index. Nil: nothing is called.
	OnSeen func(objects int)
	// Now is the wall clock. Nil: time.Now.
	Now func() time.Time
}

// Wait is what an opening waits for.
type Wait uint8

// What a gc waits for.
const (
	ForGC     Wait = iota // another gc on the same data directory
	ForServer             // a server that starts, or compares its index with the tree
)

func (o Opener) now() func() time.Time {
	if o.Now == nil {
		return time.Now
	}
	return o.Now
}

func (o Opener) wait(w Wait) {
	if o.OnWait != nil {
		o.OnWait(w)
	}
}

// rebuild brings the index in line with the tree. The gate is closed afterwards.
func (o Opener) rebuild(ctx context.Context, s *Store) (err error) {
	var hold time.Duration
	if o.Dir.Served() { // else no server promised anything
		hold = s.Policy.Grace + s.Policy.Resolution
	}
	options := reconcile.Options{Dir: o.Dir, Index: s.Index, Log: o.Log,
		NameAge: o.NameAge, Hold: hold, OnSeen: o.OnSeen}
	if s.Tree != nil {
		options.Prune, options.PruneUploads = s.Tree.Prune, s.Tree.PruneUploads
	}
	s.rebuilt, err = reconcile.Rebuild(ctx, options)
	return err
}
