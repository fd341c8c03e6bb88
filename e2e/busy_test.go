//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"zombiezen.com/go/sqlite" // the engine, as an operator's own tool would use it
	"zombiezen.com/go/sqlite/sqlitex"
)

// TestAnIndexThatSomebodyLocks holds that a foreign writer who does not let go of the index stops what has to be
// written down and nothing else, and that all goes on when he does.
func TestAnIndexThatSomebodyLocks(t *testing.T) {
	dir, addr := open(t)
	first := pushImage(t, addr+"/app:first", newImage(t, 1<<10))
	mustPull(t, addr+"/app:first", first)
	db, err := sqlite.OpenConn(filepath.Join(dir, ".metadata", "index.db"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := sqlitex.ExecuteTransient(db, "BEGIN IMMEDIATE", nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mustPull(t, addr+"/app:first", first, once())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a pull of what was used just now took %v", took)
	}
	second := newImage(t, 1<<10)
	fails(t, "the index is locked", addr+"/app:second", second)
	if err := sqlitex.ExecuteTransient(db, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	pushImage(t, addr+"/app:second", second)
	mustPull(t, addr+"/app:second", hashOf(t, second))
}
