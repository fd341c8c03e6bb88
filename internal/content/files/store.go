// Package files stores and reads what clients bring, as rows of an index and local files, and keeps the two in step.
//
// It is the client's side of the protocol between clients and expiry. A writer claims a row, stages and syncs the
// bytes beside their place, looks again at what they refer to and renames them into place under the index's write
// lock, then syncs the names. A reader leases the row, then looks at the disk, never the reverse. Nothing here
// removes bytes: a client deletes names, and internal/gc retires the rest.
//
// It knows nothing of HTTP. Its methods may be called concurrently.
package files

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Options say what a store works on.
type Options struct {
	Tree  *tree.Tree
	Index index.Store
	Log   logrus.FieldLogger

	// Met learns of the symbolic links on the ways to files that are used. Nil: the index is never compared with the
	// tree.
	Met *tree.Met

	// Resolution is for how long leases stay in memory: a row may be this much older than the last use. Cutoffs of an
	// expiry leave room for it.
	Resolution time.Duration
}

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
}

// New makes a store. It starts nothing.
func New(opts Options) *Store {
	manifests, _ := lru.New[digest.Digest, cached](cachedManifests) // fails for sizes below 1 only
	return &Store{
		tree: opts.Tree, disk: adopt.On(opts.Tree.Dir), index: opts.Index, log: opts.Log, met: opts.Met,
		leases: newLeases(opts), manifests: manifests, large: make(chan struct{}, largeReaders), uploads: newSessions(),
	}
}
