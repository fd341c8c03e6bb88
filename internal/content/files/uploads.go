package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/room"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// upload is an unfinished upload in the hands of one request: a content.Upload.
type upload struct {
	name layout.Upload
	size int64 // of what is there
	over bool  // it is finished or cancelled: no request can go on with it

	s       *Store
	began   time.Time
	file    *tree.UploadFile
	session *session
	claim   room.Claim // ends with the request
	awaited int64      // up to here the disk has the bytes
	begun   int64      // up to here it has begun to write them
	faults  int        // syncs that had failed when the first of the bytes came
}

// Repository, ID, Size and Over are those of content.Upload.
func (u *upload) Repository() string { return u.name.Repository }
func (u *upload) ID() string         { return u.name.ID }
func (u *upload) Size() int64        { return u.size }
func (u *upload) Over() bool         { return u.over }

// Begin begins an upload. Its digest will be of the algorithm: sha256 if that is empty, since it is not known yet. The
// caller closes the upload. What is written here promises nothing, and is not synced. *content.FullError.
func (s *Store) Begin(ctx context.Context, repo string, algorithm digest.Algorithm) (content.Upload, error) {
	if algorithm == "" {
		algorithm = digest.Canonical
	}
	u := &upload{name: layout.Upload{Repository: repo, ID: uuid.NewString()}, s: s, began: time.Now(),
		claim: s.room.Claim(), faults: s.publisher.failures(),
		session: &session{algorithm: algorithm, hash: algorithm.Hash()}}
	u.session.faults = u.faults
	if err := s.reserve(ctx, &u.claim, 0); err != nil {
		return nil, fmt.Errorf("begin an upload into %s: %w", repo, err)
	}
	err := s.tree.BeginUpload(u.name, u.began)
	if noSpace(err) && s.makeRoom() {
		err = s.tree.BeginUpload(u.name, u.began)
	}
	if err == nil {
		s.uploads.add(u.name)
		u.file, err = s.tree.OpenUpload(u.name)
	}
	if err != nil {
		s.remove(u.name)
		u.claim.End()
		return nil, fmt.Errorf("begin an upload into %s: %w", repo, err)
	}
	s.uploads.take(u.name) // no other request knows its name yet
	return u, nil
}

// UploadSize is how many bytes of an upload are there. It does not take the upload. content.ErrUnknown.
func (s *Store) UploadSize(repo, id string) (int64, error) {
	u := layout.Upload{Repository: repo, ID: id}
	if uuid.Validate(id) != nil || s.pending.over(u) {
		return 0, content.ErrUnknown
	}
	size, err := s.tree.UploadSize(u)
	if tree.Missing(err) {
		return 0, content.ErrUnknown
	}
	return size, err
}

// HasUpload says whether an upload exists, or may exist.
func (s *Store) HasUpload(repo, id string) bool {
	_, err := s.UploadSize(repo, id)
	return !errors.Is(err, content.ErrUnknown)
}

// Resume goes on with an upload, which keeps it from expiry before anything else is done to it. The caller closes the
// upload. content.ErrUnknown, content.ErrBusy.
func (s *Store) Resume(repo, id string) (content.Upload, error) {
	if uuid.Validate(id) != nil {
		return nil, content.ErrUnknown
	}
	u := &upload{name: layout.Upload{Repository: repo, ID: id}, s: s, claim: s.room.Claim(),
		faults: s.publisher.failures()}
	if s.pending.over(u.name) {
		return nil, content.ErrUnknown
	}
	now := time.Now()
	if err := s.tree.TouchUpload(u.name, now); tree.Missing(err) {
		return nil, content.ErrUnknown
	} else if err != nil {
		return nil, fmt.Errorf("resume upload %s of %s: %w", id, repo, err)
	}
	var free bool
	if u.session, free = s.uploads.take(u.name); !free {
		return nil, content.ErrBusy
	}
	s.uploads.add(u.name)
	if u.session != nil {
		u.faults = u.session.faults
	}
	err := u.open(now)
	if tree.Missing(err) {
		s.uploads.give(u.name, nil)
		return nil, content.ErrUnknown
	}
	if err != nil {
		s.uploads.give(u.name, u.session)
		return nil, fmt.Errorf("resume upload %s of %s: %w", id, repo, err)
	}
	return u, nil
}

// open reads what is on disk of an upload. One that does not say when it began counts as begun now.
func (u *upload) open(now time.Time) error {
	began, says, err := u.s.tree.UploadBegan(u.name)
	if err != nil {
		return err
	}
	if u.began = began; !says {
		u.began = now
	}
	if u.file, err = u.s.tree.OpenUpload(u.name); err != nil {
		return err
	}
	if u.size, err = u.file.Size(); err != nil {
		return errors.Join(err, u.file.Close())
	}
	if u.session != nil && u.session.hashed != u.size {
		// other bytes than those that were hashed: an end that failed half-way, or an operator changed them
		u.session = nil
	}
	return nil
}

// Expect announces the algorithm of the digest. It has an effect only before the first byte.
func (u *upload) Expect(alg digest.Algorithm) {
	if u.size == 0 {
		u.session = &session{algorithm: alg, hash: alg.Hash(), faults: u.faults}
	}
}

// Close lets other requests go on with the upload, and gives back what was reserved for it and did not come.
func (u *upload) Close() {
	u.claim.End()
	_ = u.file.Close() // of what counts Finish reported the errors
	u.s.uploads.give(u.name, u.session)
}

// piece is how many bytes of an upload are hashed and written at a time. So many are lost when the server is killed. It
// is no power of two: for 128 or 256 KiB Linux takes one block of memory of that size, which may have been free for
// long, so that a virtual machine has to get it back from its host. That costs more than the hash.
const piece = 160 << 10

// pieces are the buffers for that. At most as many uploads as receiving holds have one at a time; the others take a
// shorter one, since any number of slow clients may each keep a buffer.
var (
	pieces    = sync.Pool{New: func() any { b := make([]byte, piece); return &b }}
	shorter   = sync.Pool{New: func() any { b := make([]byte, piece/10); return &b }}
	receiving = make(chan struct{}, 128)
)

// Receive appends what r gives until its end. announced is how many bytes that will be; negative if the client did not
// say. It reads nothing for which there is no room. On an error the bytes that came before it stay.
// *content.FullError, *content.WriteError.
func (u *upload) Receive(ctx context.Context, r io.Reader, announced int64) error {
	err := u.receive(ctx, r, announced)
	if u.session != nil {
		u.session.hungUp = err != nil
	}
	return err
}

func (u *upload) receive(ctx context.Context, r io.Reader, announced int64) error {
	if announced < 0 {
		r = &unannounced{Reader: r, ctx: ctx, u: u}
	} else if announced > 0 {
		if err := u.s.reserve(ctx, &u.claim, announced); err != nil {
			return err
		}
	}
	select {
	case receiving <- struct{}{}:
		defer func() { <-receiving }()
	default:
		return u.receiveMany(r, &shorter)
	}
	if announced >= 0 && announced <= piece {
		buf := pieces.Get().(*[]byte)
		defer pieces.Put(buf)
		n, err := io.ReadFull(r, (*buf)[:announced])
		return errors.Join(u.append((*buf)[:n]), err)
	}
	return u.receiveMany(r, &pieces)
}

// flushAfter is how long bytes wait in memory while more of them come.
const flushAfter = 100 * time.Millisecond

// receiveMany hashes and writes a piece once it is full, or after a while. Data sits in the buffer at the same page
// offset as in the file; aligned copies into the page cache are several times faster.
//
// One goroutine does all of it. Two that hand pieces to each other cost more, since each hand-over wakes a thread, and
// on two cores, of which the client may need one, they finish no sooner.
func (u *upload) receiveMany(r io.Reader, buffers *sync.Pool) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	size := len(*buf)
	n := int(u.size % int64(size))
	written, last := n, time.Now()
	for {
		more, err := r.Read((*buf)[n:])
		n += more
		if n == size || err != nil || time.Since(last) > flushAfter {
			if failure := u.append((*buf)[written:n]); failure != nil {
				return failure
			}
			n %= size
			written, last = n, time.Now()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// append writes and hashes bytes. Hashing goes on only where it had come to.
func (u *upload) append(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	failpoint.Step()
	n, err := u.file.Write(p)
	if noSpace(err) && u.s.makeRoom() {
		var more int
		more, err = u.file.Write(p[n:])
		n += more
	}
	if u.session != nil && u.session.hashed == u.size {
		u.session.hash.Write(p[:n]) // a hash never fails
		u.session.hashed += int64(n)
	}
	u.size += int64(n)
	u.claim.Wrote(int64(n))
	if err == nil && u.size-u.begun >= syncAhead {
		err = errors.Join(u.file.BeginSync(u.begun, u.size-u.begun), u.file.AwaitSync(u.awaited, u.begun-u.awaited))
		u.awaited, u.begun = u.begun, u.size
	}
	if err != nil {
		return &content.WriteError{Err: err}
	}
	return nil
}

// syncAhead is how many bytes are left to the kernel before the disk begins to write them. It writes while more of them
// come, and when as many have come again it must have written them. So a sync that others share finds twice as many at
// most, however long the upload is.
const syncAhead = 8 << 20

// digest is that of all bytes. They are read again only if they were not hashed as they came: the algorithm is another
// one, or the server was restarted.
func (u *upload) digest(alg digest.Algorithm) (digest.Digest, error) {
	if s := u.session; s != nil && s.algorithm == alg && s.hashed == u.size {
		return digest.NewDigest(alg, s.hash), nil
	}
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	buf := pieces.Get().(*[]byte)
	defer pieces.Put(buf)
	h := alg.Hash()
	if _, err := io.CopyBuffer(h, onlyReader{u.file}, *buf); err != nil {
		return "", err
	}
	return digest.NewDigest(alg, h), nil
}

// onlyReader hides the WriteTo of a file, which uses smaller pieces.
type onlyReader struct{ io.Reader }

// Finish makes the upload a layer of its repository. An upload whose bytes have another digest is removed:
// *content.DigestError.
func (u *upload) Finish(ctx context.Context, d digest.Digest) error {
	k := layout.LayerKey(u.name.Repository, d)
	got, err := u.digest(d.Algorithm())
	if err != nil {
		return describeFailure("store", k, err)
	}
	if got != d {
		u.end()
		return &content.DigestError{Want: d, Got: got}
	}
	if u.faults != u.s.publisher.failures() {
		u.end()
		return describeFailure("store", k, errFault)
	}
	if u.size > syncAhead { // a sync that others share should not wait for it
		if err := u.file.Sync(); err != nil {
			u.end()
			return describeFailure("store", k, &content.WriteError{Err: err})
		}
	}
	h := &tree.Held{ID: u.name.ID, Repository: k.Repository, Digest: d, Size: u.size, Began: u.began}
	if err := u.s.waiting.HoldUpload(h, u.name); err != nil {
		return describeFailure("store", k, &content.WriteError{Err: err})
	}
	u.session, u.over = nil, true
	return describeFailure("store", k, u.s.hold(ctx, h, u.faults))
}

// Cancel removes the upload, whose bytes are not wanted.
func (u *upload) Cancel() { u.end() }

// end removes the directory of the upload. No request can go on with it.
func (u *upload) end() {
	u.session, u.over = nil, true
	u.s.remove(u.name)
}

// remove removes an upload, whatever is in its directory.
func (s *Store) remove(u layout.Upload) {
	err := s.tree.RemoveUpload(u)
	if err == nil {
		s.uploads.gone(u)
	} else {
		s.log.WithError(err).WithField("repository", u.Repository).WithField("upload", u.ID).
			Error("cannot remove an upload; a clean-up does once its grace is over")
	}
}
