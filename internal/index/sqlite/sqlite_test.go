package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
)

func TestConformance(t *testing.T) {
	indextest.Run(t, func(t *testing.T, place string, mode indextest.Mode, wall func() time.Time) index.Store {
		t.Helper()
		modes := map[indextest.Mode]Mode{indextest.Serve: Serve, indextest.Beside: Beside}
		return open(t, filepath.Join(place, "index.db"), modes[mode], wall)
	})
}

func open(t *testing.T, path string, mode Mode, wall func() time.Time) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, mode, wall)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
