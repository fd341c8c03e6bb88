package files

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/adopt"
	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Every read goes the same way: lease the key, look at the disk, and correct the index where it knew otherwise. What
// has no file needs no lease: that it does not exist is no promise.

// lookup is the state of one request's reads.
type lookup struct {
	*Store
	ctx      context.Context
	use      content.Use // how strictly uses must be recorded
	open     bool        // blobs are opened, not only measured
	noLeases bool        // one failed, and no other is tried: each try waits for the index
}

// leased is what the index knew of a key when its use was recorded.
type leased struct {
	state
	recorded bool // false: the use could not be recorded, or is no use
}

// lease records the use of a key, unless that was done within the resolution. content.ErrUnknown: it has no file.
func (l *lookup) lease(k layout.Key) (leased, error) {
	read := l.open && k.Kind == layout.Layer
	known, fresh := l.leases.fresh(k)
	if read {
		known, fresh = l.leases.freshBytes(k)
	}
	if l.use == content.Maintenance || l.noLeases {
		return leased{known, fresh}, nil
	}
	if fresh {
		l.leases.count.fresh.Add(1)
		return leased{known, true}, nil
	}
	keys, err := l.leaseKeys(k)
	if err != nil {
		return leased{}, err
	}
	if keys == nil {
		return leased{}, l.correctMiss(k)
	}
	err = l.meetSymlinks(l.ctx, keys...)
	switch {
	case err != nil:
	case read:
		known, err = l.leases.takeBytes(l.ctx, k, l.meetSymlinks)
	default:
		known, err = l.leases.take(l.ctx, keys...)
	}
	if err != nil {
		return leased{}, l.leaseFailed(k, err)
	}
	l.leases.count.written.Add(1)
	return leased{known, true}, nil
}

// leaseKeys returns the keys to lease for k: k itself and, for a tag, the manifest it points to. It returns nil if k
// has no file. If the tag moves before the lease is written, the new manifest gets its own lease.
func (l *lookup) leaseKeys(k layout.Key) ([]layout.Key, error) {
	if k.Kind != layout.Tag {
		there, err := l.tree.Has(k)
		if err != nil || !there {
			return nil, err
		}
		return []layout.Key{k}, nil
	}
	to, err := l.readLink(k)
	if err != nil || to == "" {
		return nil, err
	}
	m := layout.ManifestKey(k.Repository, to)
	if _, fresh := l.leases.fresh(m); fresh {
		return []layout.Key{k}, nil
	}
	return []layout.Key{k, m}, nil
}

// meetSymlinks looks for symbolic links on the way to files that are about to be used. One that no comparison has
// judged closes the gate until the index was compared with the tree again: until then, nothing is removed under another
// name.
func (s *Store) meetSymlinks(ctx context.Context, ks ...layout.Key) error {
	if s.met == nil {
		return nil
	}
	first, found := s.met.Meet(ks...)
	if !found {
		return nil
	}
	for _, symlink := range first {
		s.log.WithField("link", symlink).Warn("a symbolic link is new, or leads elsewhere: " +
			"nothing is removed until the index was compared with the disk again")
	}
	_, err := s.index.CloseGate(ctx)
	return err
}

// correctMiss corrects the index where it takes a key without a file for placed. It returns content.ErrUnknown.
func (l *lookup) correctMiss(k layout.Key) error {
	known, err := l.leases.known(l.ctx, k)
	if err == nil && known[0].placed {
		_, err = l.adopt(l.ctx, k)
	}
	switch {
	case l.ctx.Err() != nil:
		return l.ctx.Err()
	case err != nil:
		l.log.WithError(err).WithField("object", k.String()).Error("cannot correct the index")
	}
	return content.ErrUnknown
}

// leaseFailed handles a lease that could not be written: a read is answered all the same, a promise fails with a
// *content.LeaseError.
func (l *lookup) leaseFailed(k layout.Key, err error) error {
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	l.leases.count.failed.Add(1)
	l.log.WithError(err).WithField("object", k.String()).Error("cannot record a use in the index")
	if l.use == content.Promise {
		return &content.LeaseError{Err: err}
	}
	l.noLeases = true
	return nil
}

// correct lets the index learn what was found on disk, if it knew otherwise, in a transaction that looks again.
// content.ErrUnknown: it does not exist, or no longer.
func (l *lookup) correct(k layout.Key, was leased, there bool, size int64) error {
	if was.recorded && (there != was.placed || there && size != was.size) {
		now := l.index.Now()
		adopted, err := l.adopt(l.ctx, k)
		if err != nil {
			if err := l.leaseFailed(k, err); err != nil {
				return err
			}
		} else {
			if there = there && adopted; there {
				was.size = size
			}
			l.leases.learn(k, now, state{there, was.size})
		}
	}
	if !there {
		return content.ErrUnknown
	}
	return nil
}

// blob is the file of a blob as it is on disk.
type blob struct {
	size  int64      // in bytes
	whole bool       // it exists with all its bytes
	file  *disk.File // nil unless it was to be opened
}

func (b blob) close() {
	if b.file != nil {
		_ = b.file.Close() // it was only to be read
	}
}

// Blob finds a layer of a repository, and returns its size. content.ErrUnknown, *content.LeaseError.
func (s *Store) Blob(ctx context.Context, repo string, d digest.Digest, use content.Use) (size int64, err error) {
	l := &lookup{Store: s, ctx: ctx, use: use}
	b, err := l.layer(layout.LayerKey(repo, d))
	return b.size, describeFailure("find", layout.LayerKey(repo, d), err)
}

// Open opens a layer of a repository to be read. content.ErrUnknown.
func (s *Store) Open(ctx context.Context, repo string, d digest.Digest) (content.Body, error) {
	l := &lookup{Store: s, ctx: ctx, use: content.Read, open: true}
	b, err := l.layer(layout.LayerKey(repo, d))
	if err != nil {
		b.close()
		return nil, describeFailure("open", layout.LayerKey(repo, d), err)
	}
	return b.file, nil
}

// layer finds the blob of a layer link. What waits for its name is asked first: it leaves by getting one.
// content.ErrUnknown.
func (l *lookup) layer(k layout.Key) (blob, error) {
	if b, err := l.waits(k); b.whole || err != nil {
		return b, err
	}
	was, err := l.lease(k)
	if err != nil {
		return blob{}, err
	}
	linked, err := l.tree.Has(k)
	if err != nil {
		return blob{}, err
	}
	var b blob
	if linked {
		if b, err = l.followLink(k, was.size); err != nil {
			return b, err
		}
	}
	return b, l.correct(k, was, b.whole, b.size)
}

// waits finds the blob of a layer that waits for its name. Bytes that wait need no lease: no run knows them, and to get
// their name is a use. A layer that was mounted is read as its blob, which may have its name.
func (l *lookup) waits(k layout.Key) (b blob, err error) {
	h := l.pending.layer(k)
	if h == nil {
		return blob{}, nil
	}
	if h = l.pending.bytes(k.Digest); h != nil {
		if b = (blob{size: h.Size, whole: true}); l.open {
			b.file, err = h.File.Open()
		}
		if !tree.Missing(err) {
			return b, err
		}
		b = blob{} // it has its name by now
	}
	was, err := l.lease(layout.BlobKey(k.Digest))
	if err == nil {
		b, err = l.blob(k.Digest, was.size)
	}
	if err == content.ErrUnknown {
		err = nil
	}
	if !b.whole {
		b.close()
		b = blob{}
	}
	return b, err
}

// followLink finds the blob to which a link leads. A stock registry stores what was pushed by its sha512 under its
// sha256, and notes that in the link; such a blob is kept by the link of its sha256.
func (l *lookup) followLink(k layout.Key, size int64) (blob, error) {
	b, err := l.blob(k.Digest, size)
	if b.whole || err != nil {
		return b, err
	}
	b.close()
	to, err := l.readLink(k)
	if err != nil || to == "" || to == k.Digest {
		return blob{}, err
	}
	other := layout.LayerKey(k.Repository, to)
	was, err := l.lease(other)
	if err == content.ErrUnknown {
		return blob{}, nil
	}
	if err != nil {
		return blob{}, err
	}
	b = blob{}
	if linked, err := l.tree.Has(other); err != nil {
		return blob{}, err
	} else if linked {
		if b, err = l.blob(to, was.size); err != nil {
			return b, err
		}
	}
	err = l.correct(other, was, b.whole, b.size)
	if err == content.ErrUnknown {
		b.close()
		return blob{}, nil
	}
	return b, err
}

// blob looks at the file of a blob, which has so many bytes as far as the index knows.
func (l *lookup) blob(d digest.Digest, size int64) (b blob, err error) {
	if !l.open {
		b.size, b.whole, err = l.disk.Blob(l.ctx, d, size)
		return b, err
	}
	if b.file, err = l.tree.Open(layout.BlobKey(d)); tree.Missing(err) {
		return blob{}, nil
	}
	if err != nil {
		return blob{}, err
	}
	b.size = b.file.Size()
	b.whole, err = l.disk.Whole(l.ctx, d, b.size, size)
	return b, err
}

// measure says how long the file of a blob is, without reading it. A blob of another size than said is not whole. A
// negative size is not known.
func (s *Store) measure(d digest.Digest, said int64) (size int64, whole bool, err error) {
	fi, err := s.tree.Stat(layout.BlobKey(d))
	if tree.Missing(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	size = fi.Size()
	return size, size == said || said < 0 && (size > 0 || adopt.IsEmpty(d)), nil
}

// readLink reads a link. It is empty if it does not exist, or is damaged and counts for nothing.
func (s *Store) readLink(k layout.Key) (digest.Digest, error) {
	to, err := s.tree.Link(k)
	switch {
	case err == nil:
		return to, nil
	case tree.Missing(err):
		return "", nil
	case tree.Failed(err):
		return "", err
	}
	s.log.WithError(err).Error("a link on disk is damaged, and counts for nothing")
	return "", nil
}

// tag finds the manifest that a tag points to. content.ErrUnknown.
func (l *lookup) tag(k layout.Key) (digest.Digest, error) {
	was, err := l.lease(k)
	if err != nil {
		return "", err
	}
	to, err := l.readLink(k)
	if err != nil {
		return "", err
	}
	return to, l.correct(k, was, to != "", 0)
}

// describeFailure says what could not be done to what. A miss, which requests for what does not exist end with, stays
// as it is.
func describeFailure(operation string, k layout.Key, err error) error {
	if err == nil || err == content.ErrUnknown {
		return err
	}
	return fmt.Errorf("%s %s: %w", operation, k, err)
}
