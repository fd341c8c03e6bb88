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
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/index"
)

//go:embed schema.sql
var schema string

// version is the schema's. An older one is migrated, a newer one refused.
const version = 3

// busyTimeout is how long a writer waits for another process. Transactions take milliseconds.
const busyTimeout = 10 * time.Second

// How long the WAL grows, in pages of 4 KiB, before it goes into the file. It keeps that length, so it is
// SQLite's 4 MB as a rule: a small disk has other use for it. A rebuild changes pages at random, and with
// 16 MB writes each of them to the file that much less often.
const (
	checkpointPages = 1000
	rebuildPages    = 4000
)

// Mode says how an index is opened.
type Mode int

const (
	// Serve creates a missing index. The caller holds the root lock: nobody else watches the store.
	Serve Mode = iota
	// Alone is for a gc without a server. It creates a missing index too.
	Alone
	// Beside is for a gc beside a server. A missing index is an error.
	Beside
	// Look reads. It works on a read-only file system, and does not even create a lock file there.
	Look
)

// Store is an index in a file.
type Store struct {
	path   string
	serves bool // its heartbeat renews what was promised
	clock  *index.Clock

	file    atomic.Pointer[file]
	damaged atomic.Bool // a page of the file could not be read

	write   chan *writer  // holds the only writer while nobody uses it
	closed  chan struct{} // closed with the store, or at once when it is opened for looking
	leasing leasing
	once    sync.Once // closes
}

// file is an open database.
type file struct {
	id   string
	node fs.FileInfo // of the file when it was opened
	db   *sql.DB     // the writer's connection; nil when opened for looking
	read *sql.DB
}

func (f *file) close() error {
	errs := []error{f.read.Close()}
	if f.db != nil {
		errs = append(errs, f.db.Close())
	}
	return errors.Join(errs...)
}

// ErrNoSharedMemory says that an index cannot be read where it is: it has a WAL, and the file that SQLite
// needs beside it is missing and cannot be made. OpenCopy can.
var ErrNoSharedMemory = errors.New("the index's directory cannot be written to, and a server was killed in it")

// errClosed says that a store was closed, or was opened for looking only.
var errClosed = errors.New("the index is not open for changes")

var _ index.Store = (*Store)(nil)

// Open opens the index at path. wall is time.Now, but in tests.
func Open(ctx context.Context, path string, mode Mode, wall func() time.Time) (*Store, error) {
	if err := checkFile(path, mode); err != nil {
		return nil, err
	}
	s := &Store{path: path, serves: mode == Serve, write: make(chan *writer, 1), closed: make(chan struct{})}
	f, w, err := s.openFile(ctx, mode)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, wrap(err))
	}
	s.file.Store(f)
	if w == nil {
		close(s.closed)
	} else {
		s.write <- w
	}
	if err := s.setClock(ctx, mode, wall); err != nil {
		return nil, errors.Join(fmt.Errorf("open index %s: %w", path, wrap(err)), s.Close())
	}
	return s, nil
}

// Damaged says that the file was found to be damaged while it was used.
func (s *Store) Damaged() bool { return s.damaged.Load() }

// Lost says whether the file is damaged, or is not the one at its path any more: somebody deleted or
// replaced it, and what is written to it will not be found again.
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
	var old *writer
	select {
	case old = <-s.write:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return errClosed
	}
	f, w, err := s.openFile(ctx, Serve)
	if err != nil {
		s.write <- old
		return fmt.Errorf("open index %s again: %w", s.path, wrap(err))
	}
	lost := s.file.Swap(f)
	s.damaged.Store(false)
	s.write <- w
	return errors.Join(old.close(), lost.close())
}

func checkFile(path string, mode Mode) error {
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
func (s *Store) openFile(ctx context.Context, mode Mode) (_ *file, w *writer, err error) {
	pragmas := []string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "temp_store(memory)"}
	f := &file{}
	existing := url.Values{"mode": {"rw"}} // a file that was deleted is not made again by reading
	options, create := existing, url.Values(nil)
	switch mode {
	case Look:
		options = s.lookOptions()
	case Beside:
		create = existing
	}
	if f.read, err = sql.Open("sqlite", dsn(s.path, append(pragmas, "query_only(1)"), options)); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if mode != Look {
		if f.db, err = sql.Open("sqlite", dsn(s.path, append(pragmas, "journal_mode(WAL)", "synchronous(NORMAL)", fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages), fmt.Sprintf("journal_size_limit(%d)", checkpointPages*4096)), create)); err != nil {
			return nil, nil, err
		}
		conn, err := f.db.Conn(ctx)
		if err != nil {
			return nil, nil, err
		}
		w = &writer{conn: conn, stmts: map[string]*sql.Stmt{}}
		if err := s.change(ctx, w, (*tx).migrate); err != nil {
			return nil, nil, errors.Join(err, w.close())
		}
	}
	err = f.view(ctx, func(q querier) error {
		if err := checkVersion(q); err != nil {
			return err
		}
		_, err := q.setting("id", &f.id)
		return err
	})
	if err != nil {
		if w != nil {
			err = errors.Join(err, w.close())
		}
		return nil, nil, err
	}
	f.node, err = os.Stat(s.path)
	return f, w, err
}

// lookOptions are for a database that this process may not be able to write beside. Without a WAL there
// is nobody to share with, and SQLite may do without its lock and its shared memory file.
func (s *Store) lookOptions() url.Values {
	if fi, err := os.Stat(s.path + "-wal"); err != nil || fi.Size() == 0 {
		return url.Values{"mode": {"ro"}, "immutable": {"1"}}
	}
	return url.Values{"mode": {"ro"}}
}

func dsn(path string, pragmas []string, options url.Values) string {
	q := url.Values{"_pragma": pragmas}
	for k, v := range options {
		q[k] = v
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode() // with two slashes a relative path would begin with a host
}

// setClock continues the time of the index.
func (s *Store) setClock(ctx context.Context, mode Mode, wall func() time.Time) error {
	return s.file.Load().view(ctx, func(q querier) error {
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

func checkVersion(q querier) error {
	var v int
	if err := q.one("PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	if v > version {
		return fmt.Errorf("%w (schema %d, this one knows %d)", index.ErrNewer, v, version)
	}
	return nil
}

// migrations bring a schema to the next: the first from 1 to 2, and so on.
var migrations = []string{`
	CREATE INDEX layers_latest ON layers (accessed_at);
	CREATE INDEX manifests_latest ON manifests (accessed_at);`, `
	CREATE INDEX manifests_repo ON manifests (repo);
	ALTER TABLE layers ADD COLUMN own_at INTEGER;
	ALTER TABLE tags ADD COLUMN subject BLOB;
	CREATE INDEX tags_subject ON tags (repo, subject) WHERE subject IS NOT NULL;
	UPDATE tags SET subject = unhex((CASE substr(name, 1, 7) WHEN 'sha256-' THEN '01' WHEN 'sha384-' THEN '02' ELSE '03' END) || substr(name, 8, 64))
		WHERE substr(name, 1, 7) IN ('sha256-', 'sha384-', 'sha512-') AND length(unhex(substr(name, 8, 64))) = 32
			AND lower(substr(name, 8, 64)) = substr(name, 8, 64) AND substr(name, 72, 1) IN ('', '.');`,
}

// migrate brings an older schema to this one, and keeps what it knows.
func (t *tx) migrate() error {
	if err := checkVersion(t.q()); err != nil {
		return err
	}
	var v int
	if err := t.q().one("PRAGMA user_version").Scan(&v); err != nil || v == version {
		return err
	}
	if v == 0 {
		return t.create()
	}
	for _, step := range migrations[v-1:] {
		if _, err := t.conn.ExecContext(t.ctx, step); err != nil {
			return err
		}
	}
	return t.setVersion()
}

func (t *tx) create() error {
	if _, err := t.conn.ExecContext(t.ctx, schema); err != nil {
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

func (t *tx) setVersion() error {
	_, err := t.conn.ExecContext(t.ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
	return err
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
		var errs []error
		f := s.file.Load()
		if f.db != nil {
			errs = append(errs, (<-s.write).close())
			close(s.closed)
		}
		err = errors.Join(append(errs, f.close())...)
	})
	return err
}

// writer is the one connection that changes the index, with its prepared statements.
type writer struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func (w *writer) close() error {
	var errs []error
	for _, st := range w.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// tx is an immediate transaction: it excludes every other writer, and its now was read inside it.
type tx struct {
	*writer
	ctx context.Context
	now int64 // milliseconds
}

// begin runs change in an immediate transaction. Waiting for the turn ends with ctx; once begun, the
// transaction ends by itself, since a file may have been renamed in it.
func (s *Store) begin(ctx context.Context, change func(*tx) error) error {
	var w *writer
	select {
	case w = <-s.write:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return errClosed
	}
	defer func() { s.write <- w }()
	return s.note(s.change(ctx, w, change))
}

// checkpointEvery changes how long the WAL grows. It is a matter of speed: an error changes nothing.
func (s *Store) checkpointEvery(pages int) {
	select {
	case w := <-s.write:
		_, _ = w.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA wal_autocheckpoint(%d)", pages))
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

func (s *Store) change(ctx context.Context, w *writer, change func(*tx) error) (err error) {
	ctx = context.WithoutCancel(ctx)
	t := &tx{writer: w, ctx: ctx}
	if err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return wrap(err)
	}
	if s.clock != nil {
		t.now = s.clock.Now().UnixMilli()
	}
	committed := false
	defer func() { // also when change panics: the writer must not stay inside a transaction
		if !committed {
			err = errors.Join(wrap(err), t.rollback())
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

func (t *tx) rollback() error {
	err := t.exec("ROLLBACK")
	if err != nil && errorCode(err) == lib.SQLITE_ERROR {
		return nil // SQLite had rolled back by itself, as it does when the disk is full
	}
	return err
}

// stmt prepares each statement once for the life of the connection.
func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if st := t.stmts[query]; st != nil {
		return st, nil
	}
	st, err := t.conn.PrepareContext(t.ctx, query)
	if err == nil {
		t.stmts[query] = st
	}
	return st, err
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.changed(query, args...)
	return err
}

func (t *tx) changed(query string, args ...any) (bool, error) {
	st, err := t.stmt(query)
	if err != nil {
		return false, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func (t *tx) q() querier {
	return querier{ctx: t.ctx, prepare: t.stmt}
}

// set stores a setting as JSON.
func (t *tx) set(key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, string(data))
}

// querier reads, inside a transaction of either sort.
type querier struct {
	ctx     context.Context
	prepare func(query string) (*sql.Stmt, error)
}

// failed is a row whose statement could not be prepared.
type scanner interface{ Scan(...any) error }
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func (q querier) one(query string, args ...any) scanner {
	st, err := q.prepare(query)
	if err != nil {
		return failed{err}
	}
	return st.QueryRowContext(q.ctx, args...)
}

// each calls f for every row of the result.
func (q querier) each(f func(scanner) error, query string, args ...any) error {
	st, err := q.prepare(query)
	if err != nil {
		return wrap(err)
	}
	rows, err := st.QueryContext(q.ctx, args...)
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return wrap(rows.Err())
}

// setting reads a setting into value. False when it was never set.
func (q querier) setting(key string, value any) (bool, error) {
	var data string
	err := q.one("SELECT value FROM settings WHERE key = ?", key).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal([]byte(data), value); err != nil {
		return false, fmt.Errorf("setting %s: %w", key, err)
	}
	return true, nil
}

// exists answers a query that selects something or nothing.
func (q querier) exists(query string, args ...any) (bool, error) {
	var one int
	err := q.one(query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// wrap names the errors of SQLite that callers act on.
func wrap(err error) error {
	if errors.Is(err, index.ErrFull) || errors.Is(err, index.ErrCorrupt) {
		return err
	}
	switch errorCode(err) & 0xff {
	case lib.SQLITE_FULL:
		return fmt.Errorf("%w: %w", index.ErrFull, err)
	case lib.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %w", ErrNoSharedMemory, err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", index.ErrCorrupt, err)
	case lib.SQLITE_BUSY:
		return fmt.Errorf("another process has been changing the index for %s: %w", busyTimeout, err)
	}
	return err
}

func errorCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// packed is a digest as it is stored. The empty digest is NULL.
type packed digest.Digest

var algorithms = []digest.Algorithm{1: digest.SHA256, 2: digest.SHA384, 3: digest.SHA512}

// Value implements driver.Valuer.
func (p packed) Value() (driver.Value, error) {
	if p == "" {
		return nil, nil
	}
	d := digest.Digest(p)
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", d, err)
	}
	for i, a := range algorithms {
		if a == d.Algorithm() {
			sum, err := hex.DecodeString(d.Encoded())
			return append([]byte{byte(i)}, sum...), err
		}
	}
	return nil, fmt.Errorf("digest %q: unknown algorithm", d)
}

// Scan implements sql.Scanner.
func (p *packed) Scan(v any) error {
	if v == nil {
		*p = ""
		return nil
	}
	b, ok := v.([]byte)
	if !ok || len(b) < 2 || b[0] == 0 || int(b[0]) >= len(algorithms) {
		return fmt.Errorf("%w: digest %x", index.ErrCorrupt, v)
	}
	text := make([]byte, 0, len("sha512:")+2*64) // most of what a listing costs is here
	text = append(append(text, algorithms[b[0]]...), ':')
	*p = packed(hex.AppendEncode(text, b[1:]))
	return nil
}
