// Package files stores and reads what clients bring, as rows of an index and local files, and keeps the two in step.
//
// It is the client's side of the protocol between clients and expiry. What a client brings is staged beside its place,
// and waits for the publisher, which serves all that wait: it claims the rows, syncs the bytes, looks again at what
// they refer to, renames all into place under the index's write lock, and syncs the names. A layer is answered before
// that, a manifest after it. A reader leases the row, then looks at the disk, never the reverse. Nothing here removes
// bytes: a client deletes names, and internal/gc retires the rest.
//
// It knows nothing of HTTP. Its methods may be called concurrently.
package files

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Options say what a store works on.
type Options struct {
	Tree  *tree.Tree
	Index index.Store
	Log   logrus.FieldLogger

	// Room is where room is reserved for what clients bring. Nil: the store has no budget.
	Room *room.Room

	// Met learns of the symbolic links on the ways to files that are used. Nil: the index is never compared with the
	// tree.
	Met *tree.Met

	// Resolution is for how long leases stay in memory: a row may be this much older than the last use. Cutoffs of an
	// expiry leave room for it.
	Resolution time.Duration

	// Linger is how long a layer that was answered waits for its name at most, and so what a power loss can take of it.
	// 0: a layer is answered when it is durable.
	Linger time.Duration
}

// Linger is that of a server: most images are pushed in less.
const Linger = time.Second

// Store is a data directory with its index.
type Store struct {
	tree      *tree.Tree
	disk      *adopt.Disk
	index     index.Store
	log       logrus.FieldLogger
	met       *tree.Met
	leases    *leases
	manifests *lru.Cache[digest.Digest, cached]
	large     chan struct{} // holds one for each manifest that is not small and is being read
	uploads   *sessions
	room      *room.Room
	waiting   *tree.PendingLog
	pending   *pending
	publisher *publisher
}

// New makes a store. It starts nothing; what a killed server left waiting is published by Start. The caller closes it.
func New(opts Options) (*Store, error) {
	fs, err := disk.OpenFileSystem(string(opts.Tree.Dir))
	if err != nil {
		return nil, err
	}
	if opts.Room == nil {
		opts.Room = room.New(nil, 0)
	}
	manifests, _ := lru.New[digest.Digest, cached](cachedManifests) // fails for sizes below 1 only
	s := &Store{
		tree: opts.Tree, disk: adopt.On(opts.Tree.Dir), index: opts.Index, log: opts.Log, met: opts.Met,
		leases: newLeases(opts), manifests: manifests, large: make(chan struct{}, largeReaders), uploads: newSessions(),
		room: opts.Room, waiting: opts.Tree.PendingLog(), pending: newPending(),
	}
	s.publisher = &publisher{Store: s, fs: fs, linger: opts.Linger, change: opts.Tree.Begin()}
	return s, nil
}

// Start makes durable what a killed server had named, on any file system: the names that it gave last may be ones that
// no sync covered, and all that is promised from here on builds on them. Then it publishes the layers that the server
// had answered, and forgets those that a power loss damaged. It reads nothing else. Only the holder of the server lock
// may call it, before any other method.
func (s *Store) Start(ctx context.Context) error {
	if err := s.tree.SyncAll(); err != nil {
		return fmt.Errorf("make durable what a killed server left: %w", err)
	}
	left, named, unread := s.waiting.Read()
	if unread != nil {
		s.log.WithError(unread).Error("layers that were pushed last cannot be read; the next start tries again")
	}
	if err := s.settle(ctx, named); err != nil {
		return err
	}
	if err := s.settleClaims(ctx); err != nil {
		s.log.WithError(err).Error("the rows of what was pushed last are left to the comparison with the disk")
	}
	if len(left) > 0 {
		s.log.WithField("layers", len(left)).Info("layers that were pushed last get their names")
	}
	for _, h := range left {
		if err := s.hold(ctx, h, 0); err != nil {
			s.logLost(h.Key(), err)
		}
	}
	return s.Flush(ctx)
}

// settle makes the names of layers durable that a killed server gave a moment before. A layer of which only the blob
// got its name is linked.
func (s *Store) settle(ctx context.Context, named []*tree.Held) error {
	if len(named) == 0 {
		return nil
	}
	change := s.tree.Begin()
	for _, h := range named {
		change.Settle(layout.BlobKey(h.Digest))
		change.Settle(h.Key())
	}
	if err := change.Commit(); err != nil {
		return err
	}
	for _, h := range named {
		if err := s.settleRow(ctx, h.Key()); err != nil {
			s.log.WithError(err).WithField("object", h.Key().String()).Error("cannot correct the index")
		}
		linked, err := s.tree.Has(h.Key())
		if err != nil || linked || h.Mounted() {
			continue // one that cannot be looked at delays no other
		}
		if whole, err := s.hasBlob(h.Digest, h.Size); err != nil || !whole {
			continue
		}
		if err := s.holdLink(ctx, h.Repository, h.Digest, h.Size, s.publisher.failures()); err != nil {
			s.logLost(h.Key(), err)
		}
	}
	return nil
}

// settleRow brings the row of a key in line with the disk, where a killed server may have given the name and not
// recorded it. An empty directory is removed, which the server had made for the name; a blob may have its name alone.
func (s *Store) settleRow(ctx context.Context, k layout.Key) error {
	there, err := s.adopt(ctx, k)
	if tree.OfOnePath(err) {
		return nil // the comparison with the tree reports it
	}
	if err != nil || there {
		return err
	}
	s.tree.Prune(k)
	if k.Digest != "" {
		s.tree.Prune(layout.BlobKey(k.Digest))
	}
	return s.measureAbove(ctx, k)
}

// settleClaims settles the rows of the manifests and tags that a killed server was about to name.
func (s *Store) settleClaims(ctx context.Context) error {
	var claims []layout.Key
	err := s.index.View(ctx, func(r index.Reader) (err error) {
		if claims, err = r.Naming(); err != nil {
			return err
		}
		return r.Claims(s.index.Now().Add(time.Minute), func(row index.Row) error {
			claims = append(claims, row.Key)
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, k := range claims {
		if err := s.settleRow(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) logLost(k layout.Key, err error) {
	s.log.WithError(err).WithField("object", k.String()).Error("a layer that was pushed is lost")
}
