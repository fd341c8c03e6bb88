package index

import (
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Pin keeps a tag, with what it points to now and later, or a manifest: neither is retired, nor deleted by a client.
type Pin struct {
	Key   layout.Key // of a tag or a manifest
	Made  time.Time  // when it was placed, by the store's clock
	Until time.Time  // when it ends; zero: when it is removed
	Note  string     // for people
}

// longestPin is how long a pin may last that ends: the sums with longer times would be wrong.
const longestPin = 200 * 365 * 24 * time.Hour

// End returns when the pin stops to count; zero: never. That is no earlier than Until, and no earlier than as much
// watched time has passed since Made as lies between the two: neither a step of the clock nor a downtime shortens it.
// due is that of a Store.
func (p Pin) End(due func(time.Time, time.Duration) time.Time) time.Time {
	d := p.Until.Sub(p.Made)
	if p.Until.IsZero() || d > longestPin {
		return time.Time{}
	}
	if end := due(p.Made, d); end.After(p.Until) {
		return end
	}
	return p.Until
}

// Name returns what the pin keeps, as people name an image.
func (p Pin) Name() string {
	if p.Key.Kind == layout.Tag {
		return p.Key.Repository + ":" + p.Key.Tag
	}
	return p.Key.Repository + "@" + p.Key.Digest.String()
}

// PinnedError refuses to delete what is pinned, or what a pinned tag points to.
type PinnedError struct{ Pin }

func (e *PinnedError) Error() string {
	s := e.Name() + " is pinned"
	if !e.Until.IsZero() {
		s += " until " + e.Until.Format(time.RFC3339)
	}
	if e.Note != "" {
		s += ": " + e.Note
	}
	return s
}
