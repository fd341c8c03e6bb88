package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"zombiezen.com/go/sqlite"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// oldStore writes rows of schema 4.
type oldStore struct {
	querier
	at  int64 // milliseconds, when all was created
	err error
}

// openOld makes an index of schema 4 with the repositories app, web and sigs, whose numbers are 1, 2 and 3.
func openOld(t *testing.T, path string, now time.Time) *oldStore {
	t.Helper()
	makeOld(t, path, 4, now, "v2")
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite, "synchronous = OFF")
	if err != nil {
		t.Fatal(err)
	}
	o := &oldStore{querier: querier{c}, at: now.UnixMilli()}
	o.insert("BEGIN")
	o.insert("INSERT INTO repositories VALUES (3, 'sigs')")
	return o
}

func (o *oldStore) insert(query string, args ...any) {
	o.err = errors.Join(o.err, o.exec(query, args...))
}

// manifest adds one that was last used so many milliseconds later. An empty subject is none.
func (o *oldStore) manifest(repo int, name, subject string, used int64) {
	var s packed
	if subject != "" {
		s = stored(subject)
	}
	o.insert(`INSERT INTO manifests VALUES (?1, ?2, 'x', '', NULL, ?3, 1, 1, 1, 0, ?4, ?4 + ?5)`, stored(name), repo, s,
		o.at, used)
}

func (o *oldStore) child(repo int, parent, child string) {
	o.insert("INSERT INTO refs VALUES (?, ?, ?)", stored(parent), repo, stored(child))
}

func (o *oldStore) tag(repo int, name, to string, used int64) {
	o.insert("INSERT INTO tags VALUES (?1, ?2, ?3, ?4, ?4 + ?5, NULL)", repo, name, stored(to), o.at, used)
}

func (o *oldStore) close(t *testing.T) {
	t.Helper()
	o.insert("COMMIT")
	if err := errors.Join(o.err, o.c.Close()); err != nil {
		t.Fatal(err)
	}
}

func stored(name string) packed { return packed(digest.FromString(name)) }

// nest is an old index with a chain of indexes, whose top has the only tag, beside images and blobs that share nothing.
type nest struct{ depth, beside, blobs int }

func (n nest) make(t *testing.T, path string, now time.Time) {
	t.Helper()
	o := openOld(t, path, now)
	for i := range n.depth {
		o.manifest(2, fmt.Sprint("deep", i), "", int64(n.depth-i)%7)
		if i > 0 {
			o.child(2, fmt.Sprint("deep", i-1), fmt.Sprint("deep", i))
		}
	}
	o.tag(2, "top", "deep0", 2000)
	for i := range n.beside {
		o.manifest(1, fmt.Sprint("flat", i), "", int64(i))
		o.tag(1, fmt.Sprint(i), fmt.Sprint("flat", i), 0)
	}
	o.insert(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO blobs SELECT x'01' || randomblob(32), 1, 1, 1, ?2, ?2 FROM n`, n.blobs, o.at)
	o.close(t)
}

// migrate opens the index, and wants it whole: all of the chain was used with its top, the tags with their images.
func (n nest) migrate(t *testing.T, path string, now time.Time) {
	t.Helper()
	s := open(t, path, Serve, func() time.Time { return now })
	defer s.Close()
	var used, flat int
	ask(t, s, []any{&used}, "SELECT count(*) FROM manifests WHERE repo = 2 AND accessed_at = ?", now.UnixMilli()+2000)
	ask(t, s, []any{&flat}, "SELECT count(*) FROM manifests m JOIN tags USING (digest, repo, accessed_at) WHERE repo = 1")
	if used != n.depth || flat != n.beside {
		t.Errorf("%d manifests of the nest were used with its top, %d others with their tags", used, flat)
	}
	if found := list(t, s, "PRAGMA integrity_check"); !slices.Equal(found, []string{"ok"}) {
		t.Errorf("the migrated index: %q", found)
	}
}

// isOld wants the index to be what it was before a migration began.
func (n nest) isOld(t *testing.T, path string) {
	t.Helper()
	if s, err := Open(t.Context(), path, Look, time.Now); !errors.Is(err, index.ErrOlder) {
		t.Errorf("a look at the old index: %v", errors.Join(err, s.Close()))
	}
	c, err := connect(uri(path, nil), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	var manifests int
	var damage string
	_, err = querier{c}.one([]any{&damage}, "PRAGMA integrity_check")
	_, failed := querier{c}.one([]any{&manifests}, "SELECT count(*) FROM manifests WHERE loop = 0")
	if err := errors.Join(err, failed, c.Close()); err != nil {
		t.Fatal(err)
	}
	if want := n.depth + n.beside + 1; manifests != want || damage != "ok" { // makeOld made one
		t.Errorf("the old index has %d manifests, want %d: %s", manifests, want, damage)
	}
}

// Each pass over all rows would give a use to one more level. Then this takes a quarter of an hour, and a server waits
// for it.
func TestAMigrationOfADeepNestIsOnePass(t *testing.T) {
	n, path, now := nest{5000, 20000, 1}, filepath.Join(t.TempDir(), "index.db"), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	n.make(t, path, now)
	n.migrate(t, path, now)
}

// How another process of this test binary learns which index to migrate, and before which statement it is killed.
const (
	migratePlace = "SQLITE_MIGRATE"
	migrateKill  = "SQLITE_MIGRATE_KILL"
)

// A server that is killed while it migrates leaves the old index, however much it had written: here more than its cache
// holds.
func TestAMigrationThatWasKilledIsDoneAgain(t *testing.T) {
	n, now := nest{500, 2000, 200_000}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if path := os.Getenv(migratePlace); path != "" {
		last, err := strconv.Atoi(os.Getenv(migrateKill))
		if err != nil {
			t.Fatal(err)
		}
		told = func(string) {
			if last--; last == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		n.migrate(t, path, now)
		t.Fatal("not killed")
	}
	path := filepath.Join(t.TempDir(), "index.db")
	n.make(t, path, now)
	whole := filepath.Join(t.TempDir(), "index.db")
	if err := copyFile(whole, path); err != nil {
		t.Fatal(err)
	}
	var statements, commit int
	told = func(statement string) {
		if statements++; statement == "COMMIT" {
			commit = statements
			told = nil
		}
	}
	n.migrate(t, whole, now)
	for _, last := range []int{commit / 2, commit} {
		migration := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		migration.Env = append(os.Environ(), migratePlace+"="+path, fmt.Sprint(migrateKill, "=", last))
		if out, err := migration.CombinedOutput(); migration.ProcessState.ExitCode() != -1 {
			t.Fatalf("it was not killed: %v\n%s", err, out)
		}
		wal, err := os.Stat(path + "-wal")
		if err != nil || wal.Size() == 0 {
			t.Errorf("killed before statement %d of %d, it had written nothing: %v", last, commit, err)
		}
		n.isOld(t, path)
	}
	n.migrate(t, path, now)
}

// lives is which rows there are, by repository and name, when each was last used, and what lives by it.
type lives struct {
	*oldStore
	random *rand.Rand
	used   map[layout.Key]int64
	keeps  map[layout.Key][]layout.Key
}

var lifeRepos = []string{1: "app", 2: "web", 3: "sigs"}

func manifestOf(repo int, name string) layout.Key {
	return layout.ManifestKey(lifeRepos[repo], digest.FromString(name))
}

func (l *lives) add(k layout.Key) (used int64) {
	l.used[k] = l.random.Int64N(20)
	return l.used[k]
}

func (l *lives) keep(owner, owned layout.Key) { l.keeps[owner] = append(l.keeps[owner], owned) }

func (l *lives) addManifest(repo int, name, subject string) {
	k := manifestOf(repo, name)
	l.manifest(repo, name, subject, l.add(k))
	if subject != "" {
		l.keep(manifestOf(repo, subject), k)
	}
}

func (l *lives) addTag(repo int, tag, to string) (k layout.Key) {
	k = layout.TagKey(lifeRepos[repo], tag)
	l.tag(repo, tag, to, l.add(k))
	l.keep(k, manifestOf(repo, to))
	l.keep(manifestOf(repo, to), k)
	return k
}

// addSignature is of a manifest of any repository.
func (l *lives) addSignature(repo int, to string, of int, name string) {
	tag := fmt.Sprintf("sha256-%s.%d", digest.FromString(name).Encoded(), len(l.used))
	k := l.addTag(repo, tag, to)
	l.insert("UPDATE tags SET subject = ? WHERE name = ?", stored(name), tag)
	l.keep(manifestOf(of, name), k)
}

// settle gives each row the last use that it has to have: that of whatever it lives by, if that is later.
func (l *lives) settle() {
	for again := true; again; {
		again = false
		for owner, all := range l.keeps {
			for _, owned := range all {
				if l.used[owned] < l.used[owner] {
					l.used[owned], again = l.used[owner], true
				}
			}
		}
	}
}

// What a migration writes is what the law says of each row by itself, in any graph of children, referrers, tags and
// signatures: a row is as young as whatever it lives by.
func TestAMigrationLeavesNoRowOlderThanItsOwners(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for seed := range uint64(20) {
		path := filepath.Join(t.TempDir(), "index.db")
		l := &lives{openOld(t, path, now), rand.New(rand.NewPCG(seed, 0)), map[layout.Key]int64{},
			map[layout.Key][]layout.Key{}}
		for _, repo := range []int{1, 2} {
			name := func(i int) string { return fmt.Sprint(repo, "-", i) }
			for i := range 40 {
				subject := ""
				if i > 0 && l.random.IntN(3) == 0 {
					subject = name(l.random.IntN(i))
				}
				l.addManifest(repo, name(i), subject)
				if i > 0 && l.random.IntN(2) == 0 {
					parent := l.random.IntN(i)
					l.child(repo, name(parent), name(i))
					l.keep(manifestOf(repo, name(parent)), manifestOf(repo, name(i)))
				}
				if l.random.IntN(3) == 0 {
					l.addTag(repo, name(i), name(i))
				}
				switch n := l.random.IntN(10); {
				case n == 0 && i > 0:
					l.addSignature(repo, name(i), repo, name(l.random.IntN(i)))
				case n == 1: // elsewhere
					signature := fmt.Sprint("of ", name(i))
					l.addManifest(3, signature, "")
					l.addManifest(3, "about "+signature, signature)
					l.addSignature(3, signature, repo, name(i))
				}
			}
		}
		l.close(t)
		l.settle()
		s := open(t, path, Serve, func() time.Time { return now })
		err := s.View(t.Context(), func(r index.Reader) error {
			for k, want := range l.used {
				row, err := r.Row(k)
				if err != nil || row == nil || row.AccessedAt.UnixMilli() != l.at+want {
					t.Errorf("seed %d: %v: %+v, %v; want it used %d ms later", seed, k, row, err, want)
				}
			}
			return nil
		})
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
