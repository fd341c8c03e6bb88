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
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Options say where a store is.
type Options struct {
	Dir   tree.Dir
	Tree  *tree.Tree
	Index index.Store
	Log   logrus.FieldLogger

	// Met learns of the links on the ways to what is used. Nil: nobody compares the index with the tree.
	Met *tree.Met

	// Resolution is how much older than the last use a row may be: the time for which leases stay in
	// memory. The sweeper's cutoffs leave room for it.
	Resolution time.Duration
}

// Store is a data directory with its index.
type Store struct {
	dir       tree.Dir
	tree      *tree.Tree
	disk      *tree.Disk
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
	s := &Store{dir: opts.Dir, tree: opts.Tree, disk: tree.On(opts.Dir), index: opts.Index, log: opts.Log, met: opts.Met, leases: newLeases(opts)}
	s.manifests, _ = lru.New[digest.Digest, cached](cachedManifests) // fails for sizes below 1 only
	s.uploads = newSessions()
	s.large = make(chan struct{}, largeReaders)
	return s
}

// look is one request's way to the disk.
type look struct {
	*Store
	ctx    context.Context
	use    content.Use
	failed bool // a lease could not be written; once is enough: each try waits for the index
}

// sight is what is on disk of something: whether it is there with its blob, and how long that is. Said is how
// long it should be, as far as the index knows.
type sight func(said int64) (size int64, there bool, err error)

// see leases a row, and then looks whether its thing is there. Where the index knows it otherwise it learns
// what is there, in a transaction that looks again. What has no file needs no lease: that it is not there is
// no promise.
func (l *look) see(k layout.Key, onDisk sight) (bool, error) {
	st, recorded := l.leases.fresh(k)
	if !recorded && l.use != content.Maintenance && !l.failed {
		uses, err := l.together(k)
		if err != nil {
			return false, err
		}
		if uses == nil {
			return false, l.missed(k)
		}
		if err = l.meet(l.ctx, uses...); err == nil {
			st, err = l.leases.take(l.ctx, uses...)
		}
		if err == nil {
			recorded = true
		} else if err := l.unrecorded(k, err); err != nil {
			return false, err
		}
	}
	size, there, err := onDisk(st.size)
	if err != nil || !recorded || there == st.placed && (!there || size == st.size) {
		return there, err
	}
	now := l.index.Now()
	adopted, err := l.adopt(l.ctx, k)
	if err != nil {
		return there, l.unrecorded(k, err)
	}
	if there = there && adopted; there {
		st.size = size
	}
	l.leases.learn(k, now, state{there, st.size})
	return there, nil
}

// meet looks for links on the way to what is about to be used. One that nobody has judged shuts the gate until the
// index was compared with the tree again: nothing is removed under another name meanwhile.
func (s *Store) meet(ctx context.Context, ks ...layout.Key) error {
	if s.met == nil {
		return nil
	}
	for _, k := range ks {
		if link := s.met.Meet(k.Path()); link != "" {
			s.log.WithField("link", link).Warn("a symbolic link is new, or leads elsewhere: nothing is removed until the index was compared with the disk again")
			_, err := s.index.CloseGate(ctx)
			return err
		}
	}
	return nil
}

// missed is for what has no file. Where the index takes it for placed it learns better.
func (l *look) missed(k layout.Key) error {
	known, err := l.leases.known(l.ctx, k)
	if err == nil && known[0].placed {
		_, err = l.adopt(l.ctx, k)
	}
	if err != nil && l.ctx.Err() == nil {
		l.log.WithError(err).WithField("object", k.String()).Error("cannot correct the index")
	}
	return l.ctx.Err()
}

// together are the uses that are recorded with that of k, or nothing when it has no file: whoever asks for a
// tag gets what it points to. That is read again when the use is recorded, and leased by itself if it is
// something else then.
func (l *look) together(k layout.Key) ([]layout.Key, error) {
	if k.Kind != layout.Tag {
		there, err := tree.Exists(l.dir, k.Path())
		if err != nil || !there {
			return nil, err
		}
		return []layout.Key{k}, nil
	}
	to, err := l.link(k.Path())
	if err != nil || to == "" {
		return nil, err
	}
	m := layout.ManifestKey(k.Repository, to)
	if _, fresh := l.leases.fresh(m); fresh {
		return []layout.Key{k}, nil
	}
	return []layout.Key{k, m}, nil
}

// unrecorded is for a use that cannot be written down. Bytes that are in hand are served all the same.
func (l *look) unrecorded(k layout.Key, err error) error {
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	l.log.WithError(err).WithField("object", k.String()).Error("cannot record a use in the index")
	if l.use == content.Promise {
		return &content.LeaseError{Err: err}
	}
	l.failed = true
	return nil
}

// Blob finds a layer of a repository, and returns its size. content.ErrUnknown, *content.LeaseError.
func (s *Store) Blob(ctx context.Context, repo string, d digest.Digest, use content.Use) (size int64, err error) {
	return s.layer(ctx, repo, d, use, func(d digest.Digest, said int64) (int64, bool, error) { return s.disk.Blob(ctx, d, said) })
}

// Open opens a layer of a repository for a reader. content.ErrUnknown.
func (s *Store) Open(ctx context.Context, repo string, d digest.Digest) (content.Body, error) {
	var f *disk.File
	_, err := s.layer(ctx, repo, d, content.Read, func(d digest.Digest, said int64) (size int64, whole bool, err error) {
		f, err = disk.Open(s.dir.File(layout.BlobKey(d).Path()))
		if tree.Missing(err) {
			return 0, false, nil
		}
		if err == nil {
			size = f.Size()
			whole, err = s.disk.Whole(ctx, d, size, said)
		}
		return size, whole, err
	})
	if err != nil {
		if f != nil {
			_ = f.Close() // was only to be read
		}
		return nil, err
	}
	return f, nil
}

// measure says how long a blob is, and whether it is whole. Said is how long it should be, as far as anybody
// knows; nothing or less: nobody does.
type measure func(d digest.Digest, said int64) (size int64, whole bool, err error)

// layer leases a layer and looks at its link, then at its blob. A stock registry stores what was pushed
// by sha512 under its sha256, and notes that in the link; the blob lives by the link of the sha256.
func (s *Store) layer(ctx context.Context, repo string, d digest.Digest, use content.Use, blob measure) (size int64, err error) {
	l := &look{Store: s, ctx: ctx, use: use}
	k := layout.LayerKey(repo, d)
	there, err := l.see(k, func(said int64) (int64, bool, error) {
		link := k.Path()
		if there, err := tree.Exists(s.dir, link); err != nil || !there {
			return 0, false, err
		}
		var there bool
		if size, there, err = blob(d, said); there || err != nil {
			return size, there, err
		}
		to, err := s.link(link)
		if err != nil || to == "" || to == d {
			return 0, false, err
		}
		of := layout.LayerKey(repo, to)
		there, err = l.see(of, func(said int64) (int64, bool, error) {
			if there, err := tree.Exists(s.dir, of.Path()); err != nil || !there {
				return 0, false, err
			}
			size, there, err = blob(to, said)
			return size, there, err
		})
		return size, there, err
	})
	if err == nil && !there {
		err = content.ErrUnknown
	}
	return size, err
}

// link reads a link. Empty: it is not there, or is damaged and counts for nothing.
func (s *Store) link(p layout.Path) (digest.Digest, error) {
	to, err := tree.Link(s.dir, p)
	switch {
	case err == nil:
		return to, nil
	case tree.Missing(err):
		return "", nil
	case errors.As(err, new(*fs.PathError)):
		return "", err
	}
	s.log.WithError(err).Error("a link on disk is damaged, and counts for nothing")
	return "", nil
}

// tagged finds what a tag points at. content.ErrUnknown.
func (l *look) tagged(repo, tag string) (to digest.Digest, err error) {
	k := layout.TagKey(repo, tag)
	there, err := l.see(k, func(int64) (int64, bool, error) {
		to, err = l.link(k.Path())
		return 0, to != "", err
	})
	if err == nil && !there {
		err = content.ErrUnknown
	}
	return to, err
}

// Manifest finds a manifest of a repository by tag or by digest. A longer one than most is not read. content.ErrUnknown,
// content.ErrUnreadable, *content.LargeError.
func (s *Store) Manifest(ctx context.Context, repo, reference string, use content.Use, most int64) (*content.Manifest, error) {
	l := &look{Store: s, ctx: ctx, use: use}
	d := digest.Digest(reference)
	if !strings.Contains(reference, ":") {
		var err error
		if d, err = l.tagged(repo, reference); err != nil {
			return nil, err
		}
	}
	return l.manifest(repo, d, most)
}

func (l *look) manifest(repo string, d digest.Digest, most int64) (m *content.Manifest, err error) {
	k := layout.ManifestKey(repo, d)
	there, err := l.see(k, func(int64) (int64, bool, error) {
		if there, err := tree.Exists(l.dir, k.Path()); err != nil || !there {
			return 0, false, err
		}
		m, err = l.read(d, most)
		if tree.Missing(err) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		return int64(len(m.Data)), true, nil
	})
	if err == nil && !there {
		err = content.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// cachedManifests is how many manifests are kept in memory, each of content.MaxCached at most: 32 MiB in all.
// largeReaders is how many longer ones are read at a time, since that takes several times their length.
const (
	cachedManifests = 1024
	largeReaders    = 2
)

// cached is a manifest in memory, with the file that it was read from.
type cached struct {
	*content.Manifest
	file disk.Version
}

// read reads a manifest that is no longer than most, once as long as its file stays the same. Its bytes are what its
// digest says.
func (s *Store) read(d digest.Digest, most int64) (*content.Manifest, error) {
	now, err := disk.VersionOf(s.dir.File(layout.Path{Kind: layout.BlobData, Digest: d}))
	if err != nil {
		return nil, err
	}
	if c, ok := s.manifests.Get(d); ok && c.file == now {
		return c.Manifest, nil
	}
	if now.Size() > most {
		return nil, &content.LargeError{Size: now.Size()}
	}
	if now.Size() > content.MaxCached {
		s.large <- struct{}{}
		defer func() { <-s.large }()
	}
	data, err := tree.Content(s.dir, d)
	if err != nil {
		return nil, err
	}
	m := &content.Manifest{Digest: d, Data: data}
	if d.Algorithm().FromBytes(data) != d {
		err = fmt.Errorf("its content is that of %s", d.Algorithm().FromBytes(data))
	} else if m.Manifest, err = manifest.Parse(data); err == nil && m.MediaType == manifest.SchemaOne {
		err = errors.New("it is of schema 1")
	}
	if err != nil {
		s.log.WithError(err).WithField("digest", d).Error("a manifest cannot be read; dcs inspect --check says why")
		return nil, content.ErrUnreadable
	}
	if len(data) <= content.MaxCached {
		s.manifests.Add(d, cached{m, now})
	}
	return m, nil
}
