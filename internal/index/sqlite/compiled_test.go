package sqlite

import (
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
)

// SQLite compiles a statement again when the value of a parameter changes that its planner looks at, such as one that
// is compared with a column of a join. That costs more than most statements do. A parameter that is written as +?1 is
// not looked at. SQLite asks the authorizer only while it compiles.
func TestNoStatementIsCompiledAgain(t *testing.T) {
	seen := listen(t)
	t.Run("laws", func(t *testing.T) { indextest.Laws(t, openFor) })
	readAll(t)
	told = nil

	s := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer s.Close()
	compiled := 0
	w := <-s.write
	defer func() { s.write <- w }()
	err := w.SetAuthorizer(sqlite.AuthorizeFunc(func(sqlite.Action) sqlite.AuthResult {
		compiled++
		return sqlite.AuthResultOK
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.SetAuthorizer(nil); err != nil {
			t.Error(err)
		}
	}()
	for statement, functions := range seen.statements {
		if regexp.MustCompile("^(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA)").MatchString(statement) {
			continue
		}
		st, _, err := w.PrepareTransient(statement)
		if err != nil {
			t.Fatalf("%v\n%s", err, statement)
		}
		if compiled == 0 {
			t.Fatal("the authorizer was not asked")
		}
		for _, value := range []int64{7, 1, 2, 0} { // what SQLite thinks of a value depends on it
			first := compiled
			for i := range st.BindParamCount() {
				st.BindInt64(i+1, value)
			}
			_, err := st.Step()
			if compiled > first {
				t.Errorf("%d (%v): %v\n%s", value, err, functions, statement)
				break
			}
			_ = st.Reset()
		}
		_ = st.Finalize()
	}
}
