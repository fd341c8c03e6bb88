package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// The setting of the gate is one of these, or the token of a rebuild. Behind an open gate rows may be retired. A server
// that ends leaves the gate shut, and the index whole.
const (
	gateOpen = "open"
	gateLeft = "left"
)

// gate refuses to go on while the gate is shut. It returns the repositories of which nothing may be removed all the
// same.
func (t *tx) gate() (index.Unread, error) {
	var g string
	if _, err := t.setting("gate", &g); err != nil {
		return nil, err
	}
	if g != gateOpen {
		return nil, index.ErrGateClosed
	}
	return t.unread()
}

func (q querier) unread() (u index.Unread, err error) {
	_, err = q.setting("unread", &u)
	return u, err
}

// CloseGate implements index.Store.
func (s *Store) CloseGate(ctx context.Context) (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	token := hex.EncodeToString(b)
	s.checkpointEvery(rebuildPages)
	return token, s.begin(ctx, func(t *tx) error {
		return errors.Join(t.set("barred", nil), t.set("clean", nil), t.set("gate", token))
	})
}

// OpenGate implements index.Store.
func (s *Store) OpenGate(ctx context.Context, token string, unread ...string) (bool, error) {
	s.checkpointEvery(checkpointPages)
	return committed(ctx, s, func(t *tx) (bool, error) {
		if mine, err := t.closedBy(token); err != nil || !mine {
			return false, err
		}
		return true, errors.Join(t.set("unread", unread), t.set("opened", token), t.set("gate", gateOpen))
	})
}

// closedBy says whether the last CloseGate returned this token, and the gate is still shut.
func (t *tx) closedBy(token string) (bool, error) {
	var g string
	_, err := t.setting("gate", &g)
	return g != "" && g == token && g != gateOpen, err
}

// BarGate implements index.Store.
func (s *Store) BarGate(ctx context.Context, token string, b index.Bar) error {
	return s.begin(ctx, func(t *tx) error {
		if mine, err := t.closedBy(token); err != nil || !mine {
			return err
		}
		return t.set("barred", b)
	})
}

// Barred implements index.Store.
func (s *Store) Barred(ctx context.Context) (*index.Bar, error) {
	b, err := readSetting[*index.Bar](ctx, s, "barred")
	if b == nil && err == nil {
		var k knownPins
		k, err = readSetting[knownPins](ctx, s, "pins")
		b = k.Bar
	}
	return b, err
}

// GateOpen implements index.Store.
func (s *Store) GateOpen(ctx context.Context) (bool, error) {
	g, err := readSetting[string](ctx, s, "gate")
	if err != nil || g != gateOpen {
		return false, err
	}
	return s.PinsKnown(ctx)
}

// LeaveGate implements index.Store.
func (s *Store) LeaveGate(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error {
		if _, err := t.gate(); err != nil {
			if errors.Is(err, index.ErrGateClosed) {
				return nil // a rebuild is under way, or another server has left
			}
			return err
		}
		return t.set("gate", gateLeft)
	})
}

// MarkClean implements index.Store.
func (s *Store) MarkClean(ctx context.Context, token, tree string) (bool, error) {
	return committed(ctx, s, func(t *tx) (bool, error) {
		unread, err := t.gate()
		if errors.Is(err, index.ErrGateClosed) || len(unread) > 0 {
			return false, nil
		}
		var opened string
		if err == nil {
			_, err = t.setting("opened", &opened)
		}
		if err != nil || opened != token {
			return false, err
		}
		return true, t.set("clean", tree)
	})
}

// Clean implements index.Store.
func (s *Store) Clean(ctx context.Context) (string, error) {
	return readSetting[string](ctx, s, "clean")
}

// Whole implements index.Store.
func (s *Store) Whole(ctx context.Context) (bool, error) {
	g, err := readSetting[string](ctx, s, "gate")
	return g == gateOpen || g == gateLeft, err
}

// hold keeps everything for a duration of watched time.
type hold struct {
	From   time.Time     `json:"from"`
	Length time.Duration `json:"length"`
}

// until returns when a hold ends; zero: it is over.
func (s *Store) until(h hold) time.Time {
	if !h.From.After(s.clock.Back(h.Length)) {
		return time.Time{}
	}
	return s.clock.Due(h.From, h.Length)
}

// checkHold refuses to go on while everything is held.
func (s *Store) checkHold(t *tx) error {
	var h hold
	if _, err := t.setting("hold", &h); err != nil {
		return err
	}
	if until := s.until(h); !until.IsZero() {
		return &index.HeldError{Until: until}
	}
	return nil
}

// Hold implements index.Store.
func (s *Store) Hold(ctx context.Context, d time.Duration) error {
	return s.begin(ctx, func(t *tx) error {
		var last hold
		if _, err := t.setting("hold", &last); err != nil {
			return err
		}
		h := hold{millis(t.now), d}
		if s.until(last).After(s.until(h)) {
			return nil
		}
		return t.set("hold", h)
	})
}

// Held implements index.Store.
func (s *Store) Held(ctx context.Context) (time.Time, error) {
	h, err := readSetting[hold](ctx, s, "hold")
	return s.until(h), err
}
