// Package sqlite keeps an index in one SQLite file, without cgo.
//
// Every change is one BEGIN IMMEDIATE transaction on one connection, so changes of this process and of
// others are ordered by the database. The file is in WAL mode: readers never wait and never hold up a
// writer. With synchronous=NORMAL a commit does not sync; what a power loss may take back is found by
// the reconcile that follows every start.
package sqlite

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"zombiezen.com/go/sqlite"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// schema is that of version 6, schema7 what 7 has beside it.
//
//go:embed schema.sql
var schema string

//go:embed schema7.sql
var schema7 string

// version is the schema's. An older one is migrated, a newer one refused.
const version = 7

// busyTimeout is how long a writer waits for another process. Transactions take milliseconds.
const busyTimeout = 10 * time.Second

// How long the WAL grows, in pages of 4 KiB, before SQLite copies it into the file. The WAL keeps that length, so it is
// SQLite's default of 4 MB: a small disk has other use for more. A rebuild changes pages at random; with 16 MB it
// writes each page to the file a quarter as often.
const (
	checkpointPages = 1000
	rebuildPages    = 4000
)

// Mode says how an index is opened.
type Mode int

const (
	// Serve creates a missing index. The caller holds the server lock, so no other process watches the store.
	Serve Mode = iota
	alone      // see OpenAlone
	// Beside is for a gc beside a server. A missing index is an error.
	Beside
	// Look reads. It works on a read-only file system, and does not even create a lock file there.
	Look
)

// Store is an index in a file.
type Store struct {
	path   string
	clock  *index.Clock
	served func() (bool, error) // nil: a server's

	file    atomic.Pointer[file]
	damaged atomic.Bool // a page of the file could not be read

	server atomic.Pointer[server] // what this process promised, nil: nothing

	write   chan *conn    // holds the only connection that writes, while it is unused
	closed  chan struct{} // closed with the store, or at once when it is opened for looking
	turns   turns
	leasing leasing
	once    sync.Once // closes
}

// file is an open database.
type file struct {
	id   string
	node fs.FileInfo // of the file when it was opened
	read *pool
}

// errClosed says that a store was closed, or, of a change, that it was opened for looking only.
var errClosed = errors.New("the index is not open")

var _ index.Store = (*Store)(nil)

// Open opens the index at path. wall is time.Now, but in tests.
func Open(ctx context.Context, path string, mode Mode, wall func() time.Time) (*Store, error) {
	return openIn(ctx, path, mode, wall, nil)
}

// OpenAlone opens the index at path for a gc without a server, and creates a missing one. served says whether a server
// works in the data directory by now. It is asked in the transaction that would migrate an older index: a server of the
// older version that started before it keeps its index, index.ErrOlder, and one that starts later finds a newer one.
func OpenAlone(ctx context.Context, path string, wall func() time.Time, served func() (bool, error)) (*Store, error) {
	return openIn(ctx, path, alone, wall, served)
}

func openIn(
	ctx context.Context, path string, mode Mode, wall func() time.Time, served func() (bool, error),
) (*Store, error) {
	if err := checkFile(path, mode); err != nil {
		return nil, err
	}
	s := &Store{path: path, served: served, write: make(chan *conn, 1), closed: make(chan struct{})}
	f, w, err := s.openFile(ctx, mode)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, s.explain(mode, err))
	}
	s.file.Store(f)
	if w == nil {
		close(s.closed)
	} else {
		s.write <- w
		err = s.turns.open(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open index %s: %w", path, err), s.Close())
	}
	if err := s.setClock(ctx, mode, wall); err != nil {
		return nil, errors.Join(fmt.Errorf("open index %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Damaged says that the file was found to be damaged while it was used.
func (s *Store) Damaged() bool { return s.damaged.Load() }

// Lost says whether the file is damaged, or is not the one at its path any more: it was deleted or replaced, so what is
// written to it cannot be found again.
func (s *Store) Lost() bool {
	if s.damaged.Load() {
		return true
	}
	now, err := os.Stat(s.path)
	return err != nil || !os.SameFile(now, s.file.Load().node)
}

// Reopen opens what is at the path now, or a new index. The caller closes the gate and rebuilds. A
// change that was under way went to the lost file, and counts for nothing.
func (s *Store) Reopen(ctx context.Context) error {
	old, err := s.take(ctx)
	if err != nil {
		return err
	}
	f, w, err := s.openFile(ctx, Serve)
	if err != nil {
		s.write <- old
		return fmt.Errorf("open index %s again: %w", s.path, s.explain(Serve, err))
	}
	lost := s.file.Swap(f)
	s.server.Store(nil) // the file that has its row is lost
	s.damaged.Store(false)
	_ = s.turns.open(s.path) // the old flag stays: what fails costs others their turn, and no more
	s.write <- w
	return errors.Join(old.Close(), lost.read.close())
}

// checkFile refuses what SQLite must not open: a directory, a pipe, or nothing, where this process may not make an
// index.
func checkFile(path string, mode Mode) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} { // SQLite would read a pipe, and wait
		if err := disk.CheckRegular(path + suffix); err != nil {
			return fmt.Errorf("open index %s: %w", path, err)
		}
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && mode != Beside && mode != Look:
		return nil
	case err != nil:
		return fmt.Errorf("open index: %w", err)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("open index %s: not a regular file", path)
	}
	return nil
}

// openFile opens the database, with its schema as this version has it. For looking there is no writer.
func (s *Store) openFile(ctx context.Context, mode Mode) (f *file, w *conn, err error) {
	path, flags := uri(s.path, nil), sqlite.OpenReadWrite // who only reads takes part in the WAL, too
	if mode == Look {
		path, flags = s.lookURI(), sqlite.OpenReadOnly
	} else if w, err = s.openWriter(mode); err != nil {
		return nil, nil, err
	}
	f = &file{read: newPool(func() (*conn, error) { return connect(path, flags, inMemory, "query_only = 1") })}
	err = f.read.view(ctx, func(q querier) error {
		if err := checkVersion(q); err != nil {
			return err
		}
		_, err := q.setting("id", &f.id)
		return err
	})
	if err == nil && (mode == Serve || mode == alone) {
		err = s.checkLatest(ctx, f)
	}
	if err == nil {
		f.node, err = os.Stat(s.path)
	}
	if err != nil {
		err = errors.Join(err, f.read.close())
		if w != nil {
			err = errors.Join(err, w.Close())
		}
		return nil, nil, err
	}
	return f, w, nil
}

const (
	inMemory    = "temp_store = memory"
	writerCache = "cache_size = -8000" // KiB; SQLite's 2 MB hold the pages that all changes share, and hardly more
)

// openWriter opens the one connection that writes, and brings the schema up to date. Beside a server the schema has to
// be right already.
func (s *Store) openWriter(mode Mode) (*conn, error) {
	flags := sqlite.OpenReadWrite
	if mode != Beside {
		flags |= sqlite.OpenCreate
	}
	w, err := connect(uri(s.path, nil), flags, inMemory, writerCache, "journal_mode = WAL", "synchronous = NORMAL",
		checkpointing(checkpointPages), fmt.Sprintf("journal_size_limit = %d", checkpointPages*4096))
	if err != nil {
		return nil, err
	}
	w.SetBusyTimeout(0) // see await
	if mode == Beside { // a server of an older version would not know its index again
		return w, nil
	}
	if err := s.change(w, s.migrate); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// checkpointing is the pragma after how many pages of the WAL SQLite copies them into the file.
func checkpointing(pages int) string { return fmt.Sprintf("wal_autocheckpoint = %d", pages) }

// lookURI is for a database that this process may not be able to write beside. Without a WAL no
// other process has it open, and SQLite may do without its lock and its shared memory file.
func (s *Store) lookURI() string {
	if fi, err := os.Stat(s.path + "-wal"); err != nil || fi.Size() == 0 {
		return uri(s.path, url.Values{"immutable": {"1"}})
	}
	return uri(s.path, nil)
}

// setClock continues the time of the index.
func (s *Store) setClock(ctx context.Context, mode Mode, wall func() time.Time) error {
	return s.file.Load().read.view(ctx, func(q querier) error {
		var last *index.Heartbeat
		var gaps []index.Gap
		if ok, err := q.setting("heartbeat", &last); err != nil || !ok {
			last = nil
		}
		if _, err := q.setting("gaps", &gaps); err != nil {
			return err
		}
		s.clock = index.NewClock(wall, last, gaps, mode == Beside)
		return nil
	})
}

// readVersion returns that of the schema, 0 of an empty file.
func readVersion(q querier) (v int, err error) {
	if _, err := q.one([]any{&v}, "PRAGMA user_version"); err != nil {
		return 0, err
	}
	if v > version {
		return v, fmt.Errorf("%w (schema %d, this one knows %d)", index.ErrNewer, v, version)
	}
	return v, nil
}

// checkVersion refuses a schema that this version does not have. ErrOlder, ErrNewer, ErrCorrupt.
func checkVersion(q querier) error {
	v, err := readVersion(q)
	switch {
	case err == nil && v == 0:
		err = fmt.Errorf("%w: it is empty", index.ErrCorrupt) // the process that created it was killed
	case err == nil && v < version:
		err = olderError(v)
	}
	return err
}

func olderError(v int) error {
	return fmt.Errorf("%w (schema %d, this one has %d)", index.ErrOlder, v, version)
}

// create makes an index in an empty file. Its id tells it from any other: a gc beside a server compares it with the one
// that the server announced.
func (t *tx) create() error {
	if err := t.script(schema + schema7); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	if err := t.set("id", hex.EncodeToString(id)); err != nil {
		return err
	}
	return t.setVersion()
}

// setVersion notes in the file that it has the schema of this version. It is the last step of a migration.
func (t *tx) setVersion() error {
	return t.exec(fmt.Sprintf("PRAGMA user_version = %d", version))
}

// ID implements index.Store.
func (s *Store) ID() string { return s.file.Load().id }

// Now implements index.Store.
func (s *Store) Now() time.Time { return s.clock.Now() }

// Back implements index.Store.
func (s *Store) Back(d time.Duration) time.Time { return s.clock.Back(d) }

// Due implements index.Store.
func (s *Store) Due(t time.Time, d time.Duration) time.Time { return s.clock.Due(t, d) }

// Close waits for the change that is being made and gives the file back. The last process that closes it
// leaves no WAL behind.
func (s *Store) Close() (err error) {
	s.once.Do(func() {
		f := s.file.Load()
		select {
		case <-s.closed: // it was opened for looking
		default:
			err = (<-s.write).Close()
			close(s.closed)
		}
		err = errors.Join(err, f.read.close())
		if flag := s.turns.flag.Load(); flag != nil {
			err = errors.Join(err, flag.Close())
		}
	})
	return err
}

// tx is an immediate transaction: it excludes every other writer, and its now was read inside it.
type tx struct {
	querier
	now int64 // milliseconds

	leased map[layout.Key]index.Leased // the manifests whose use was recorded in this transaction
}

// begin runs change in an immediate transaction. Waiting for the turn ends with ctx; once begun, the
// transaction ends by itself, since a file may have been renamed in it.
func (s *Store) begin(ctx context.Context, change func(*tx) error) error {
	w, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer func() { s.write <- w }()
	return s.note(s.change(w, change))
}

// take waits for the connection that writes.
func (s *Store) take(ctx context.Context) (*conn, error) {
	s.turns.here.Add(1)
	defer s.turns.here.Add(-1)
	select {
	case w := <-s.write:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, errClosed
	}
}

// committed is begin for a change that has a result: the zero value unless the change is committed.
func committed[T any](ctx context.Context, s *Store, change func(*tx) (T, error)) (T, error) {
	var result, none T
	err := s.begin(ctx, func(t *tx) (err error) {
		result, err = change(t)
		return err
	})
	if err != nil {
		return none, err
	}
	return result, nil
}

// checkpointEvery changes how long the WAL grows. It is a matter of speed: an error changes nothing.
func (s *Store) checkpointEvery(pages int) {
	select {
	case w := <-s.write:
		_ = querier{w}.exec("PRAGMA " + checkpointing(pages))
		s.write <- w
	case <-s.closed:
	}
}

// note remembers that the file is damaged.
func (s *Store) note(err error) error {
	if errors.Is(err, index.ErrCorrupt) {
		s.damaged.Store(true)
	}
	return err
}

// change runs a change in a transaction, and commits it if there is no error. The time of the transaction is read when
// its turn has come, so times go up in the order of the changes.
func (s *Store) change(w *conn, change func(*tx) error) (err error) {
	t := &tx{querier: querier{w}}
	if err := s.await(t); err != nil {
		return err
	}
	if s.clock != nil {
		t.now = s.clock.Now().UnixMilli()
	}
	committed := false
	defer func() { // also when change panics: the writer must not stay inside a transaction
		if !committed {
			err = errors.Join(err, t.rollback())
		}
	}()
	if err := change(t); err != nil {
		return err
	}
	failpoint.Step()
	err = t.exec("COMMIT")
	failpoint.Step()
	committed = err == nil
	return err
}

// busyPoll is how often a writer asks whether another process is done. SQLite's own waiting pauses longer each
// time, and so misses its turn.
const busyPoll = 500 * time.Microsecond

// await begins the transaction when it is this process's turn.
func (s *Store) await(t *tx) error {
	for began := time.Now(); ; time.Sleep(busyPoll) {
		err := t.begin("BEGIN IMMEDIATE")
		if sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy || time.Since(began) > busyTimeout {
			s.turns.await(false)
			return err
		}
		s.turns.await(true)
	}
}

// forget drops what was noted beside the index in a transaction, since some of it may have been undone.
func (t *tx) forget() {
	clear(t.c.renewed)
	clear(t.c.numbers)
	clear(t.c.names)
}

// rollback undoes a transaction, and forgets what it noted beside the file.
func (t *tx) rollback() error {
	t.forget()
	if t.c.AutocommitEnabled() {
		return nil // SQLite had rolled back by itself, as it does when the disk is full
	}
	return t.exec("ROLLBACK")
}

// packed is a digest as it is stored. The empty digest is NULL.
type packed digest.Digest

// algorithms are those of digests, by the first byte of a stored one. A number is never used again for another one.
var algorithms = []digest.Algorithm{1: digest.SHA256, 2: digest.SHA384, 3: digest.SHA512}

// pack returns the bytes that are stored, nil for NULL.
func (p packed) pack() ([]byte, error) {
	if p == "" {
		return nil, nil
	}
	name, sum, _ := strings.Cut(string(p), ":")
	for i, a := range algorithms {
		if i == 0 || string(a) != name {
			continue
		}
		b := make([]byte, 1, 1+a.Size())
		b[0] = byte(i)
		b, err := hex.AppendDecode(b, []byte(sum))
		if err != nil || len(b) != 1+a.Size() || strings.ToLower(sum) != sum {
			return nil, fmt.Errorf("digest %q: %w", p, digest.ErrDigestInvalidFormat)
		}
		return b, nil
	}
	return nil, fmt.Errorf("digest %q: unknown algorithm", p)
}

// unpack is the inverse of pack.
func (p *packed) unpack(b []byte) error {
	if len(b) == 0 {
		*p = ""
		return nil
	}
	if len(b) < 2 || b[0] == 0 || int(b[0]) >= len(algorithms) {
		return fmt.Errorf("%w: digest %x", index.ErrCorrupt, b)
	}
	text := make([]byte, 0, len("sha512:")+2*64) // most of what a listing costs is here
	text = append(append(text, algorithms[b[0]]...), ':')
	*p = packed(hex.AppendEncode(text, b[1:]))
	return nil
}
