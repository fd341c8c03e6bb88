package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// The pins of an index of schema 5 or 6 are not known until their file was read.
func TestAnIndexWithoutPinsGetsThem(t *testing.T) {
	for _, v := range []int{5, 6} {
		path := filepath.Join(t.TempDir(), "index.db")
		makeSchema6(t, path, v, 0)
		s := open(t, path, Serve, time.Now)
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
