package sqlite

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// pinned are the conditions that a pin keeps a row m.
var pinned = map[layout.Kind]string{
	layout.Manifest: "m.placed AND EXISTS (SELECT 1 FROM pins p " +
		"WHERE p.repo = m.repo AND p.tag = '' AND p.digest = m.digest)",
	layout.Tag: "EXISTS (SELECT 1 FROM pins p WHERE p.repo = m.repo AND p.tag = m.name AND p.digest = x'')",
}

// knownPins is the setting that says whether the index knows the pins, and why it does not if there is more to say
// than that nothing has read their file yet.
type knownPins struct {
	Known bool       `json:"known"`
	Bar   *index.Bar `json:"bar,omitempty"`
}

func (q querier) knownPins() (k knownPins, err error) {
	_, err = q.setting("pins", &k)
	return k, err
}

// checkPins refuses to go on while the pins are not known, and forgets those that have ended.
func (s *Store) checkPins(t *tx) error {
	k, err := t.knownPins()
	if err != nil {
		return err
	}
	if !k.Known {
		return index.ErrPinsUnknown
	}
	ended, err := t.pins("WHERE p.until > 0 AND p.until <= ?", t.now)
	for _, p := range ended {
		if err == nil && !p.End(s.clock.Due).After(millis(t.now)) {
			err = t.dropPin(p)
		}
	}
	return err
}

const pinColumns = "p.repo, p.tag, p.digest, p.made_at, p.until, p.note"

// pins returns the pins that a condition finds.
func (q querier) pins(which string, args ...any) (all []index.Pin, err error) {
	err = q.each(func(a *answer) error {
		var repo, tag, note string
		var d packed
		var made, until int64
		if err := a.scan((*repository)(&repo), &tag, &d, &made, &until, &note); err != nil {
			return err
		}
		p := index.Pin{Key: layout.TagKey(repo, tag), Made: millis(made), Note: note}
		if tag == "" {
			p.Key = layout.ManifestKey(repo, digest.Digest(d))
		}
		if until > 0 {
			p.Until = millis(until)
		}
		all = append(all, p)
		return nil
	}, "SELECT "+pinColumns+" FROM pins p "+which, args...)
	return all, err
}

func (t *tx) dropPin(p index.Pin) error {
	err := t.exec("DELETE FROM pins WHERE repo = ? AND tag = ? AND digest = coalesce(?, x'')",
		repository(p.Key.Repository), p.Key.Tag, packed(p.Key.Digest))
	if err != nil {
		return err
	}
	return t.leave(p.Key.Repository)
}

// addPin adds a pin, or writes it anew.
func (t *tx) addPin(p index.Pin) error {
	if err := t.enter(p.Key.Repository); err != nil {
		return err
	}
	var until int64
	if !p.Until.IsZero() {
		until = p.Until.UnixMilli()
	}
	return t.exec("INSERT OR REPLACE INTO pins VALUES (?, ?, coalesce(?, x''), ?, ?, ?)", repository(p.Key.Repository),
		p.Key.Tag, packed(p.Key.Digest), p.Made.UnixMilli(), until, p.Note)
}

// SetPins implements index.Store. It writes what differs: a start finds all as it was.
func (s *Store) SetPins(ctx context.Context, ps ...index.Pin) error {
	return s.begin(ctx, func(t *tx) error {
		there, err := t.pins("")
		if err != nil {
			return err
		}
		had := make(map[layout.Key]index.Pin, len(there))
		for _, p := range there {
			had[p.Key] = p
		}
		for _, p := range ps {
			old, known := had[p.Key]
			delete(had, p.Key)
			if known && same(old, p) {
				continue
			}
			if err := t.addPin(p); err != nil {
				return err
			}
		}
		for _, p := range had {
			if err := t.dropPin(p); err != nil {
				return err
			}
		}
		return t.set("pins", knownPins{Known: true})
	})
}

// same says whether two pins of one key are equal, as far as the index tells.
func same(a, b index.Pin) bool {
	ms := func(t time.Time) int64 { return t.UnixMilli() }
	return a.Note == b.Note && ms(a.Made) == ms(b.Made) && ms(a.Until) == ms(b.Until)
}

// LosePins implements index.Store. The rows stay.
func (s *Store) LosePins(ctx context.Context, b index.Bar) error {
	return s.begin(ctx, func(t *tx) error { return t.set("pins", knownPins{Bar: &b}) })
}

// PinsKnown implements index.Store.
func (s *Store) PinsKnown(ctx context.Context) (bool, error) {
	k, err := readSetting[knownPins](ctx, s, "pins")
	return k.Known, err
}

// Pins implements index.Reader.
func (r *reader) Pins() ([]index.Pin, error) {
	return r.q.pins("CROSS JOIN repositories r ON r.id = p.repo ORDER BY r.name, p.tag, p.digest")
}

// mayUnname refuses to remove a name that is pinned, or a manifest to which a pinned tag points.
func (s *Store) mayUnname(t *tx, k layout.Key) error {
	if err := s.checkPins(t); err != nil {
		return err
	}
	which, args := "WHERE p.repo = ?1 AND p.tag = ?2 AND p.digest = x''", []any{repository(k.Repository), k.Tag}
	if k.Kind == layout.Manifest {
		which, args = `WHERE p.repo = ?1 AND p.tag IN (SELECT '' UNION ALL
			SELECT g.name FROM tags g INDEXED BY tags_digest WHERE g.digest = ?2 AND g.repo = ?1)
			AND p.digest = CASE p.tag WHEN '' THEN ?2 ELSE x'' END`, []any{repository(k.Repository), packed(k.Digest)}
	}
	ps, err := t.pins(which+" LIMIT 1", args...)
	if err != nil || len(ps) == 0 {
		return err
	}
	return &index.PinnedError{Pin: ps[0]}
}

// aboutPinned finds a pin that keeps what a tag is about by its name, ?1 to ?2: of one of those manifests, of a
// manifest that owns one, of a tag of any of these, or of what such a tag is about itself.
const aboutPinned = `WITH RECURSIVE above (digest, repo) AS (
		SELECT digest, repo FROM manifests WHERE digest BETWEEN ?1 AND ?2
	UNION SELECT f.parent, f.repo FROM above CROSS JOIN refs f ON f.child = above.digest AND f.repo = above.repo
	UNION SELECT s.digest, s.repo FROM above CROSS JOIN manifests r ON r.digest = above.digest AND r.repo = above.repo
		CROSS JOIN manifests s ON s.digest = r.subject AND s.repo = r.repo WHERE r.detached = 0
	UNION SELECT i.digest, i.repo FROM above
		CROSS JOIN tags g INDEXED BY tags_digest ON g.digest = above.digest AND g.repo = above.repo
		CROSS JOIN manifests i ON i.digest BETWEEN g.subject AND CAST(g.subject || ?3 AS BLOB))
	SELECT 1 FROM above WHERE
		EXISTS (SELECT 1 FROM pins p WHERE p.repo = above.repo AND p.tag = '' AND p.digest = above.digest)
		OR EXISTS (SELECT 1 FROM tags g INDEXED BY tags_digest CROSS JOIN pins p
			ON p.repo = g.repo AND p.tag = g.name AND p.digest = x''
			WHERE g.digest = above.digest AND g.repo = above.repo)`

// staysWithPinned says whether a tag is about something that a pin keeps.
func (t *tx) staysWithPinned(tag string) (bool, error) {
	subject := subjectOf(tag)
	if subject == nil {
		return false, nil
	}
	if any, err := t.exists("SELECT 1 WHERE EXISTS (SELECT 1 FROM pins)"); err != nil || !any {
		return false, err
	}
	first, last := digestsOf(subject)
	return t.exists(aboutPinned, first, last, last[len(first):])
}
