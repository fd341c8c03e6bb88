package files

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
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
	begun   int64 // up to here BeginSync was called
}

// Repository, ID, Size and Over are those of content.Upload.
func (u *upload) Repository() string { return u.name.Repository }
func (u *upload) ID() string         { return u.name.ID }
func (u *upload) Size() int64        { return u.size }
func (u *upload) Over() bool         { return u.over }

// Begin begins an upload. Its digest will be of the algorithm: sha256 if that is empty, since it is not known yet. The
// caller closes the upload. What is written here promises nothing, and is not synced.
func (s *Store) Begin(repo string, algorithm digest.Algorithm) (content.Upload, error) {
	if algorithm == "" {
		algorithm = digest.Canonical
	}
	u := &upload{name: layout.Upload{Repository: repo, ID: uuid.NewString()}, s: s, began: time.Now(),
		session: &session{algorithm: algorithm, hash: algorithm.Hash()}}
	err := s.tree.BeginUpload(u.name, u.began)
	if noSpace(err) && s.makeRoom() {
		err = s.tree.BeginUpload(u.name, u.began)
	}
	if err == nil {
		u.file, err = s.tree.OpenUpload(u.name)
	}
	if err != nil {
		s.remove(u.name)
		return nil, err
	}
	s.uploads.take(u.name) // no other request knows its name yet
	return u, nil
}

// UploadSize is how many bytes of an upload are there. It does not take the upload. content.ErrUnknown.
func (s *Store) UploadSize(repo, id string) (int64, error) {
	if uuid.Validate(id) != nil {
		return 0, content.ErrUnknown
	}
	size, err := s.tree.UploadSize(layout.Upload{Repository: repo, ID: id})
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
	u := &upload{name: layout.Upload{Repository: repo, ID: id}, s: s}
	now := time.Now()
	if err := s.tree.TouchUpload(u.name, now); tree.Missing(err) {
		return nil, content.ErrUnknown
	} else if err != nil {
		return nil, err
	}
	var free bool
	if u.session, free = s.uploads.take(u.name); !free {
		return nil, content.ErrBusy
	}
	err := u.open(now)
	if tree.Missing(err) {
		s.uploads.give(u.name, nil)
		return nil, content.ErrUnknown
	}
	if err != nil {
		s.uploads.give(u.name, u.session)
		return nil, err
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
		u.session = nil // other bytes than those that were hashed: an end that failed half-way, or an operator changed them
	}
	return nil
}

// Expect says of which algorithm the digest will be, before anything was received.
func (u *upload) Expect(alg digest.Algorithm) {
	if u.size == 0 {
		u.session = &session{algorithm: alg, hash: alg.Hash()}
	}
}

// Close lets others have the upload.
func (u *upload) Close() {
	_ = u.file.Close() // of what counts Finish reported the errors
	u.s.uploads.give(u.name, u.session)
}

// piece is in how large steps an upload is hashed and written, and how much of it is lost with a server that
// dies. It is no power of two: for 128 or 256 KiB Linux takes as large a block of memory, which may have been
// free for long, so that a virtual machine has to get it back from its host. That costs more than the hash.
const piece = 160 << 10

// pieces are the buffers for that. So many uploads have one at a time, and the others one of the shorter: clients that
// are slow keep theirs, and there may be any number of them.
var (
	pieces    = sync.Pool{New: func() any { b := make([]byte, piece); return &b }}
	shorter   = sync.Pool{New: func() any { b := make([]byte, piece/10); return &b }}
	receiving = make(chan struct{}, 128)
)

// Receive appends what a client sends, of which it announced so many bytes; negative: it does not say. On
// an error what came so far stays. *content.WriteError.
func (u *upload) Receive(r io.Reader, announced int64) error {
	err := u.receive(r, announced)
	if u.session != nil {
		u.session.brokenOff = err != nil
	}
	return err
}

func (u *upload) receive(r io.Reader, announced int64) error {
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

// receiveMany hashes and writes a piece once it is full, or after a while. Bytes have the place in their
// buffer that they get in a piece of the file: what lies alike in its pages is copied several times as fast.
//
// One goroutine does it all. Two that hand pieces to each other cost more, since each turn wakes a thread,
// and on two cores, where the client may be, too, they are no sooner done.
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
	if err == nil && u.size-u.begun >= syncAhead {
		err = u.file.BeginSync(u.begun, u.size-u.begun)
		u.begun = u.size
	}
	if err != nil {
		return &content.WriteError{Err: err}
	}
	return nil
}

// syncAhead is how much is left to the kernel before the disk begins to work, which then goes on while more
// comes, and not all of it at the end while the client waits.
const syncAhead = 8 << 20

// digest is that of all bytes. They are read again only when they were not hashed as they came: another
// algorithm was meant, or the server began anew.
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

// onlyReader hides that a file can write itself, which it does in smaller pieces.
type onlyReader struct{ io.Reader }

// Finish makes the upload a layer of its repository. Of an upload whose bytes are not what d says nothing
// stays. *content.DigestError.
func (u *upload) Finish(ctx context.Context, d digest.Digest) error {
	got, err := u.digest(d.Algorithm())
	if err != nil {
		return err
	}
	if got != d {
		u.Cancel()
		return &content.DigestError{Want: d, Got: got}
	}
	layer := pushed{u.name.Repository, d, u.size, u.began}
	there, err := u.s.hasSize(d, u.size)
	if err == nil && there { // its bytes count, and those of the upload need not be synced
		err = u.s.linkPushed(ctx, layer)
	}
	if err == nil && !there || errors.Is(err, errGone) {
		blob, serr := u.file.Stage()
		if serr != nil {
			return &content.WriteError{Err: serr}
		}
		err = u.s.placePushed(ctx, layer, blob)
	}
	if err == nil {
		u.Cancel()
	}
	return err
}

// Cancel removes the upload. Nobody can go on with it.
func (u *upload) Cancel() {
	u.session, u.over = nil, true
	u.s.remove(u.name)
}

// remove removes an upload, whatever is in its directory.
func (s *Store) remove(u layout.Upload) {
	if err := s.tree.RemoveUpload(u); err != nil {
		s.log.WithError(err).WithField("repository", u.Repository).WithField("upload", u.ID).
			Error("cannot remove an upload; an expiry does once its grace is over")
	}
}
