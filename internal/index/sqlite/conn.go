package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// conn is a connection, for one goroutine at a time. It keeps its statements prepared.
type conn struct {
	*sqlite.Conn
	reading map[string]bool // the statements whose rows are being read: asked for again, they are prepared once more

	// The numbers of repositories that were looked up in this transaction, and their names.
	numbers map[string]int64
	names   map[int64]string

	renewed map[string]renewal // by repository, see renewPush; what is not known costs another renewal
}

// maxRenewed is how many renewals are remembered.
const maxRenewed = 1000

// connect opens a connection to the file of a URI.
func connect(uri string, flags sqlite.OpenFlags, pragmas ...string) (*conn, error) {
	opened, err := sqlite.OpenConn(uri, flags|sqlite.OpenURI)
	if err != nil {
		return nil, wrap(err)
	}
	opened.SetBusyTimeout(busyTimeout)
	c := &conn{opened, map[string]bool{}, map[string]int64{}, map[int64]string{}, map[string]renewal{}}
	for _, p := range pragmas {
		if err := (querier{c}).exec("PRAGMA " + p); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// uri names a file to SQLite; with two slashes a relative path would begin with a host.
func uri(path string, options url.Values) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + options.Encode()
}

// pool keeps connections that read, which are costly to open.
type pool struct {
	open  func() (*conn, error)
	turns chan struct{} // one for each reader, of maxReaders

	mu     sync.Mutex // guards the rest
	idle   []*conn
	closed bool
}

const (
	// maxReaders is how many read at once; others wait. Each has memory and open files, and SQLite closes no
	// file before the last connection to it: the most that were ever open stay.
	maxReaders = 16
	// maxIdle is how many unused connections stay open.
	maxIdle = 4
)

// newPool makes a pool without connections: the first reader opens one.
func newPool(open func() (*conn, error)) *pool {
	return &pool{open: open, turns: make(chan struct{}, maxReaders)}
}

// take waits for a connection. Waiting ends with ctx.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case p.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := p.connect()
	if err != nil {
		<-p.turns
	}
	return c, err
}

// connect returns the idle connection that was given back last, or a new one. It is opened without the lock, since that
// reads the file.
func (p *pool) connect() (*conn, error) {
	p.mu.Lock()
	n, closed := len(p.idle), p.closed
	if n == 0 {
		p.mu.Unlock()
		if closed {
			return nil, errClosed
		}
		return p.open()
	}
	defer p.mu.Unlock()
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return c, nil
}

// give takes a connection back, and lets the next reader have its turn. One that is too many is closed.
func (p *pool) give(c *conn) error {
	defer func() { <-p.turns }()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == maxIdle {
		return c.Close()
	}
	p.idle = append(p.idle, c)
	return nil
}

// close closes what is idle; what is in use is closed when it is given back.
func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.Close())
	}
	p.idle = nil
	return errors.Join(errs...)
}

// view reads one state of the file.
func (p *pool) view(ctx context.Context, read func(querier) error) (err error) {
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer func() {
		c.SetInterrupt(nil)
		if !c.AutocommitEnabled() {
			err = errors.Join(err, querier{c}.exec("ROLLBACK")) // it only read
		}
		err = errors.Join(err, p.give(c))
	}()
	c.SetInterrupt(ctx.Done())
	err = querier{c}.begin("BEGIN")
	if err == nil {
		err = read(querier{c})
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // SQLite says that it was interrupted
	}
	return err
}

// querier runs statements on a connection, inside a transaction of either sort.
type querier struct{ c *conn }

// begin begins a transaction. It forgets the numbers of repositories: another process may have changed them since the
// last one.
func (q querier) begin(how string) error {
	clear(q.c.numbers)
	clear(q.c.names)
	return q.exec(how)
}

// answer is that to a query, one row at a time.
type answer struct {
	st    *sqlite.Stmt
	q     querier
	query string
	own   bool // the statement was prepared for this answer alone
}

// told, in tests, hears of each statement that is run.
var told func(statement string)

// query begins a query. The caller closes the answer before the transaction ends.
func (q querier) query(query string, args ...any) (*answer, error) {
	if told != nil {
		told(query)
	}
	a := &answer{q: q, query: query, own: q.c.reading[query]}
	var err error
	if a.own {
		a.st, _, err = q.c.PrepareTransient(query)
	} else {
		a.st, err = q.c.Prepare(query)
	}
	if err != nil {
		return nil, wrap(err)
	}
	if !a.own {
		q.c.reading[query] = true
	}
	for i, arg := range args {
		if err := q.bind(a.st, i+1, arg); err != nil {
			a.close()
			return nil, err
		}
	}
	return a, nil
}

// next reads the next row. False: there is none. An error is one that the caller of the query has to return.
func (a *answer) next() (bool, error) {
	more, err := a.st.Step()
	return more, wrap(err)
}

// close lets the statement be used again. An error of it was one of a step before.
func (a *answer) close() {
	if a.own {
		_ = a.st.Finalize()
		return
	}
	_ = a.st.Reset()
	delete(a.q.c.reading, a.query)
}

// exec runs a statement to its end.
func (q querier) exec(query string, args ...any) error {
	a, err := q.query(query, args...)
	if err != nil {
		return err
	}
	defer a.close()
	for more := true; more && err == nil; {
		more, err = a.next()
	}
	return err
}

// script runs statements, one after another.
func (q querier) script(statements string) error {
	return wrap(sqlitex.ExecuteScript(q.c.Conn, statements, nil))
}

// changed runs a statement, and says whether it changed a row.
func (q querier) changed(query string, args ...any) (bool, error) {
	err := q.exec(query, args...)
	return err == nil && q.c.Changes() > 0, err
}

// each calls f for every row of the result.
func (q querier) each(f func(*answer) error, query string, args ...any) error {
	a, err := q.query(query, args...)
	if err != nil {
		return err
	}
	defer a.close()
	for {
		if more, err := a.next(); err != nil || !more {
			return err
		}
		if err := f(a); err != nil {
			return err
		}
	}
}

// one scans the first row of the result into variables. False: there is none.
func (q querier) one(into []any, query string, args ...any) (bool, error) {
	a, err := q.query(query, args...)
	if err != nil {
		return false, err
	}
	defer a.close()
	if more, err := a.next(); err != nil || !more {
		return false, err
	}
	return true, a.scan(into...)
}

// exists answers a query that selects something or nothing.
func (q querier) exists(query string, args ...any) (bool, error) { return q.one(nil, query, args...) }

// setting reads a setting into value. False when it was never set.
func (q querier) setting(key string, value any) (bool, error) {
	var data string
	if ok, err := q.one([]any{&data}, "SELECT value FROM settings WHERE key = ?", key); err != nil || !ok {
		return false, err
	}
	if err := json.Unmarshal([]byte(data), value); err != nil {
		return false, fmt.Errorf("setting %s: %w", key, err)
	}
	return true, nil
}

// readSetting reads a setting, or the zero value if it was never set.
func readSetting[T any](ctx context.Context, s *Store, key string) (value T, err error) {
	err = s.View(ctx, func(r index.Reader) error {
		_, err := r.(*reader).q.setting(key, &value)
		return err
	})
	return value, err
}

// set stores a setting as JSON.
func (q querier) set(key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return q.exec("INSERT INTO settings (key, value) VALUES (?, ?) "+
		"ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, string(data))
}

// bind gives a parameter its value; the first one is 1. A repository without a number is 0, which no row has. A type
// that is not listed here is a mistake of this package.
func (q querier) bind(st *sqlite.Stmt, i int, value any) error {
	switch v := value.(type) {
	case nil:
		st.BindNull(i)
	case int64:
		st.BindInt64(i, v)
	case int:
		st.BindInt64(i, int64(v))
	case bool:
		st.BindBool(i, v)
	case string:
		st.BindText(i, v)
	case []byte:
		if v == nil {
			st.BindNull(i)
			return nil
		}
		st.BindBytes(i, v)
	case packed:
		b, err := v.pack()
		if err != nil {
			return err
		}
		return q.bind(st, i, b)
	case repository:
		id, err := q.number(string(v))
		st.BindInt64(i, id)
		return err
	default:
		return fmt.Errorf("parameter %d: %T cannot be stored", i, value)
	}
	return nil
}

// stored reads a digest as it is stored, into memory that may be used for it.
func (a *answer) stored(column int, into []byte) ([]byte, error) {
	n := a.st.ColumnLen(column)
	if n > 1+64 {
		return nil, fmt.Errorf("%w: a digest of %d bytes", index.ErrCorrupt, n)
	}
	into = slices.Grow(into[:0], n)[:n]
	return into[:a.st.ColumnBytes(column, into)], nil
}

// scan reads the columns of the row, the first into the first variable; nil skips one. A NULL is zero.
func (a *answer) scan(into ...any) error {
	for i, v := range into {
		switch v := v.(type) {
		case *int64:
			*v = a.st.ColumnInt64(i)
		case *int:
			*v = a.st.ColumnInt(i)
		case *bool:
			*v = a.st.ColumnBool(i)
		case *string:
			*v = a.st.ColumnText(i)
		case *packed:
			var b [1 + 64]byte
			d, err := a.stored(i, b[:0])
			if err == nil {
				err = v.unpack(d)
			}
			if err != nil {
				return err
			}
		case nil:
		case *repository:
			name, err := a.q.name(a.st.ColumnInt64(i))
			if err != nil {
				return err
			}
			*v = repository(name)
		default:
			return fmt.Errorf("column %d: cannot be read into a %T", i, v)
		}
	}
	return nil
}

// repository is the name of one, which is stored as a number.
type repository string

// number is that of a repository, 0 when it has none.
func (q querier) number(name string) (id int64, err error) {
	if id, known := q.c.numbers[name]; known {
		return id, nil
	}
	if found, err := q.one([]any{&id}, "SELECT id FROM repositories WHERE name = ?", name); err != nil || !found {
		return 0, err
	}
	q.c.numbers[name] = id
	return id, nil
}

// name is that of a repository, by its number. A number that is not known means that the index is damaged.
func (q querier) name(id int64) (name string, err error) {
	if name, known := q.c.names[id]; known {
		return name, nil
	}
	found, err := q.one([]any{&name}, "SELECT name FROM repositories WHERE id = ?", id)
	if err == nil && !found {
		err = fmt.Errorf("%w: no repository has the number %d", index.ErrCorrupt, id)
	}
	if err == nil {
		q.c.names[id] = name
	}
	return name, err
}

// enter gives a repository a number, if it has none.
func (q querier) enter(name string) error {
	id, err := q.number(name)
	if err != nil || id != 0 {
		return err
	}
	return q.exec("INSERT INTO repositories (name) VALUES (?)", name)
}

// leave takes the number of a repository back that has nothing any more.
func (q querier) leave(name string) error {
	gone, err := q.changed(`DELETE FROM repositories WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM tags WHERE repo = ?1)
		AND NOT EXISTS (SELECT 1 FROM manifests WHERE repo = ?1) AND NOT EXISTS (SELECT 1 FROM layers
		WHERE repo = ?1) AND NOT EXISTS (SELECT 1 FROM pins WHERE repo = ?1)`, repository(name))
	if gone {
		delete(q.c.names, q.c.numbers[name])
		delete(q.c.numbers, name)
	}
	return err
}

// wrap names the errors of SQLite that callers act on, once, where SQLite is called.
func wrap(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultFull:
		return fmt.Errorf("%w: %w", index.ErrFull, err)
	case sqlite.ResultCantOpen: // SQLite does not say why
		return fmt.Errorf("%w: %w: %w", index.ErrDisk, cantOpen(), err)
	case sqlite.ResultIOErr, sqlite.ResultReadOnly: // such as that the owner has no quota left for the WAL
		return fmt.Errorf("%w: %w", index.ErrDisk, err)
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return fmt.Errorf("%w: %w", index.ErrCorrupt, err)
	case sqlite.ResultBusy, sqlite.ResultProtocol: // which is that a lock of the shared memory could not be had
		return fmt.Errorf("%w for %s (fuser names who has index.db or the files beside it open): %w", index.ErrBusy,
			busyTimeout, err)
	}
	return err
}
