package files

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// upload is an unfinished upload in the hands of one request: a content.Upload.
type upload struct {
	repo, id string
	size     int64 // of what is there
	over     bool  // it is finished or cancelled: there is nothing to go on with

	s       *Store
	dir     string
	began   time.Time
	file    *os.File
	session *session
	begun   int64 // up to here BeginSync was called
}

// Repository, ID, Size and Over are those of content.Upload.
func (u *upload) Repository() string { return u.repo }
func (u *upload) ID() string         { return u.id }
func (u *upload) Size() int64        { return u.size }
func (u *upload) Over() bool         { return u.over }

func (s *Store) uploadFile(kind layout.PathKind, repo, id string) string {
	return s.dir.File(layout.Path{Kind: kind, Repository: repo, Upload: id})
}

// Begin begins an upload, whose digest will be of the algorithm, if that is known; else of sha256. The
// caller ends with Close. What is written down here promises nothing, and is not synced.
func (s *Store) Begin(repo string, algorithm digest.Algorithm) (content.Upload, error) {
	if algorithm == "" {
		algorithm = digest.Canonical
	}
	id := uuid.NewString()
	u := &upload{repo: repo, id: id, s: s, dir: s.uploadFile(layout.UploadDir, repo, id), began: time.Now(),
		session: &session{algorithm: algorithm, hash: algorithm.Hash()}}
	note := []byte(u.began.UTC().Format(time.RFC3339Nano))
	err := s.tree.Scratch(u.path(layout.UploadStartedAt), note)
	if noSpace(err) && s.makeRoom() {
		err = s.tree.Scratch(u.path(layout.UploadStartedAt), note)
	}
	if err == nil {
		s.uploads.take(u.dir) // nobody else knows its name
		u.file, err = u.open()
		if err != nil {
			s.uploads.give(u.dir, nil)
		}
	}
	if err != nil {
		s.remove(u.dir)
		return nil, err
	}
	return u, nil
}

func (u *upload) path(kind layout.PathKind) string { return u.s.uploadFile(kind, u.repo, u.id) }

func (u *upload) open() (*os.File, error) {
	failpoint.Step()
	f, err := disk.OpenFile(u.path(layout.UploadData), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	if err := u.s.tree.Own(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// UploadSize is how much of an upload is there, without taking it. content.ErrUnknown.
func (s *Store) UploadSize(repo, id string) (int64, error) {
	if uuid.Validate(id) != nil {
		return 0, content.ErrUnknown
	}
	started := layout.Path{Kind: layout.UploadStartedAt, Repository: repo, Upload: id}
	if there, err := tree.Exists(s.dir, started); err != nil {
		return 0, err
	} else if !there {
		return 0, content.ErrUnknown
	}
	fi, err := os.Stat(s.uploadFile(layout.UploadData, repo, id))
	if tree.Missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Resume goes on with an upload, which keeps it alive before anything else is done to it. The caller
// ends with Close. content.ErrUnknown, content.ErrBusy.
func (s *Store) Resume(repo, id string) (_ content.Upload, err error) {
	if uuid.Validate(id) != nil {
		return nil, content.ErrUnknown
	}
	u := &upload{repo: repo, id: id, s: s, dir: s.uploadFile(layout.UploadDir, repo, id)}
	started := u.path(layout.UploadStartedAt)
	now := time.Now()
	if err := os.Chtimes(started, now, now); tree.Missing(err) {
		return nil, content.ErrUnknown
	} else if err != nil {
		return nil, err
	}
	var free bool
	if u.session, free = s.uploads.take(u.dir); !free {
		return nil, content.ErrBusy
	}
	defer func() {
		if errors.Is(err, content.ErrUnknown) {
			u.session = nil
		}
		if err != nil {
			s.uploads.give(u.dir, u.session)
		}
	}()
	data, err := disk.ReadFile(started)
	if tree.Missing(err) {
		return nil, content.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	if u.began, err = time.Parse(time.RFC3339Nano, string(data)); err != nil {
		u.began, err = now, nil // whoever wrote it: the bytes count
	}
	if u.file, err = u.open(); err != nil {
		if tree.Missing(err) {
			return nil, content.ErrUnknown
		}
		return nil, err
	}
	fi, err := u.file.Stat()
	if err != nil {
		return nil, errors.Join(err, u.file.Close())
	}
	u.size = fi.Size()
	if u.session != nil && u.session.hashed != u.size {
		u.session = nil // other bytes than those that were hashed: of an end that failed half-way, or by hand
	}
	return u, nil
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
	u.s.uploads.give(u.dir, u.session)
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
		err = disk.BeginSync(u.file, u.begun, u.size-u.begun)
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
	// Where the blob is there already its bytes count, and these need not be synced.
	there, err := u.s.isWhole(d, u.size)
	if err == nil && there {
		err = u.s.putLayer(ctx, u, d, false)
	}
	if err == nil && !there || errors.Is(err, errGone) {
		failpoint.Step()
		if err := u.file.Sync(); err != nil {
			return &content.WriteError{Err: err}
		}
		err = u.s.putLayer(ctx, u, d, true)
	}
	if err == nil {
		u.Cancel()
	}
	return err
}

// Cancel removes the upload. Nobody can go on with it.
func (u *upload) Cancel() {
	u.session, u.over = nil, true
	u.s.remove(u.dir)
}

// remove takes the directory of an upload away, whatever is in it.
func (s *Store) remove(dir string) {
	failpoint.Step()
	if err := os.RemoveAll(dir); err != nil {
		s.log.WithError(err).WithField("path", dir).Error("cannot remove an upload; it goes with the grace")
		return
	}
	s.prune(filepath.Dir(dir))
}

// HasUpload says whether an upload is there, or may be.
func (s *Store) HasUpload(repo, id string) bool {
	_, err := s.UploadSize(repo, id)
	return !errors.Is(err, content.ErrUnknown)
}
