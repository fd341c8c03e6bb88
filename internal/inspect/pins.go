package inspect

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Pin is a pin of a tag, or of a manifest.
type Pin struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`    // empty: the manifest is pinned
	Digest     digest.Digest `json:"digest"` // of what is pinned; empty: the tag does not exist
	Missing    bool          `json:"missing"`
	PinnedAt   stamp.Time    `json:"pinned_at"`
	Until      stamp.Time    `json:"until"`   // as it was asked for; null: it has no end
	EndsAt     stamp.Time    `json:"ends_at"` // later than Until by the time in which nothing watched the store
	Note       string        `json:"note"`
}

// Pins are all pins of a store that have not ended.
type Pins struct {
	Pins []Pin
	Now  time.Time // when the store was read
	// Known says whether the index knows the pins. Otherwise their file cannot be read, or nothing has read it yet.
	Known bool
}

// ListPins lists the pins of the repositories that match a glob, in the order of their names. Empty: of all.
func ListPins(ctx context.Context, store index.Store, repositories string) (ps Pins, err error) {
	if err := rule.Check(repositories); err != nil {
		return ps, &OptionError{"repository", repositories, err.Error()}
	}
	ps = Pins{Pins: []Pin{}, Now: store.Now()}
	if ps.Known, err = store.PinsKnown(ctx); err != nil {
		return ps, fmt.Errorf("read the pins: %w", err)
	}
	err = store.View(ctx, func(r index.Reader) error {
		all, err := r.Pins()
		if err != nil {
			return err
		}
		for _, p := range all {
			end := p.End(store.Due)
			if !end.IsZero() && !end.After(ps.Now) || !rule.Match(repositories, p.Key.Repository) {
				continue
			}
			row, err := r.Row(p.Key)
			if err != nil {
				return err
			}
			one := Pin{Repository: p.Key.Repository, Tag: p.Key.Tag, Digest: p.Key.Digest,
				Missing: row == nil || !row.Placed, PinnedAt: stamp.Time(p.Made), Until: stamp.Time(p.Until),
				EndsAt: stamp.Time(end), Note: p.Note}
			if row != nil {
				one.Digest = row.Digest
			}
			ps.Pins = append(ps.Pins, one)
		}
		return nil
	})
	if err != nil {
		return ps, fmt.Errorf("read the pins: %w", err)
	}
	return ps, nil
}

// Find returns the key of the tag or the manifest that a reference names. *NotFoundError.
func Find(ctx context.Context, store index.Store, dir tree.Dir, ref Reference) (k layout.Key, err error) {
	err = store.View(ctx, func(r index.Reader) error {
		m, err := finder{r, ctx, dir}.find(ref)
		if err != nil {
			return err
		}
		k = m.Key
		if ref.Digest != "" {
			return nil
		}
		tag := layout.TagKey(ref.Repository, ref.Tag)
		row, err := r.Row(tag)
		if row != nil { // else it is a digest alone
			k = tag
		}
		return err
	})
	return k, err
}
