package sqlite

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestAnIndexWithoutPinsGetsThem: of schemas 5 and 6, which have the other tables. Its pins are not known until their
// file was read.
func TestAnIndexWithoutPinsGetsThem(t *testing.T) {
	const tables = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
	fresh := open(t, filepath.Join(t.TempDir(), "index.db"), Serve, time.Now)
	defer fresh.Close()
	for _, v := range []int{5, 6} {
		path := filepath.Join(t.TempDir(), "index.db")
		if err := open(t, path, Serve, time.Now).Close(); err != nil {
			t.Fatal(err)
		}
		c, err := connect(uri(path, nil), sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		err = querier{c}.script(fmt.Sprintf("DROP TABLE pins; PRAGMA user_version = %d;", v))
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, path, Serve, time.Now)
		if got, want := list(t, s, tables), list(t, fresh, tables); !slices.Equal(got, want) {
			t.Errorf("schema %d: got %q, want %q", v, got, want)
		}
		if known, err := s.PinsKnown(t.Context()); known || err != nil {
			t.Errorf("schema %d: the pins are known: %v, %v", v, known, err)
		}
		if err := s.SetPins(t.Context(), index.Pin{Key: layout.TagKey("app", "v1"), Made: time.Now()}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
