package sqlite

import (
	"context"
	"time"
)

// BeginRun implements index.Store.
func (s *Store) BeginRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error {
		return t.exec("INSERT INTO settings (key, value) VALUES ('run', ?) ON CONFLICT DO NOTHING",
			millis(t.now).Format(jsonTime))
	})
}

// jsonTime is the format of a time in a setting.
const jsonTime = `"` + time.RFC3339Nano + `"`

// EndRun implements index.Store.
func (s *Store) EndRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error { return t.exec("DELETE FROM settings WHERE key = 'run'") })
}

// UnfinishedRun implements index.Store.
func (s *Store) UnfinishedRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "run")
}

// SetLastRun implements index.Store.
func (s *Store) SetLastRun(ctx context.Context) error {
	return s.begin(ctx, func(t *tx) error { return t.set("last_run", millis(t.now)) })
}

// LastRun implements index.Store.
func (s *Store) LastRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "last_run")
}

// SetNextRun implements index.Store.
func (s *Store) SetNextRun(ctx context.Context, at time.Time) error {
	return s.begin(ctx, func(t *tx) error { return t.set("next_run", at.UTC()) })
}

// NextRun implements index.Store.
func (s *Store) NextRun(ctx context.Context) (time.Time, error) {
	return readSetting[time.Time](ctx, s, "next_run")
}
