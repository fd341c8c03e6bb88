package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/nearest"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// pinStatus ends the help of dcs pin and dcs unpin.
const pinStatus = `

EXIT STATUS
  0    done
  1    failed; nothing is changed
  2    bad command line or configuration
  4    the directory's server uses another index
  130  interrupted`

// newPinCommand makes dcs pin.
func newPinCommand(env *environment) *cobra.Command {
	var until, note string
	cmd := &cobra.Command{
		Use:        "pin NAME[:TAG|@DIGEST]",
		SuggestFor: []string{"keep", "protect", "hold", "lock"},
		Short:      "Keep an image whatever its age",
		Long: `Keep an image, whatever ttl and rules say. A pin of NAME:TAG keeps the tag, and
what it points to now and later; the default tag is latest. A pin of NAME@DIGEST
keeps that manifest, and none of its tags. Parts, referrers and signatures stay
with what is pinned. A client that would delete it gets 405.

The image must exist. A running server honours the pin at once. Pins are in
.metadata/pins.json, so that they outlive the index. To pin what is pinned
replaces its end and its note. It does not count as use.

--until ends the pin after a time (30d, 12h) or at the end of a day
(2026-12-31, local time), or at a time in RFC 3339. From then on the image
expires as it would have without the pin. Time in which neither a server nor
dcs gc watched the store makes a pin longer, never shorter.` + pinStatus,
		Example: `  dcs pin team/app:1.0
  dcs pin team/app:1.0 --until 90d --note audit
  dcs pin team/app@sha256:1a2b3c4d5e6f`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			end, err := parseUntil(until, time.Local)
			if err == nil {
				err = checkNote(note)
			}
			if err != nil {
				return err
			}
			ref, err := inspect.ParseReference(args[0])
			if err != nil {
				return &usageError{err: err}
			}
			opener, err := openerOf(env, cmd)
			if err != nil {
				return err
			}
			done, p, err := placePin(cmd.Context(), opener, ref, end, note)
			if err != nil {
				return err
			}
			if !p.Until.IsZero() {
				done += " until " + p.Until.Local().Format("2006-01-02 15:04")
			}
			fmt.Fprintln(env.stderr, done)
			return nil
		},
	}
	addConfigFlags(cmd, "storage.*", "log.*")
	hideFlags(cmd, "log.access")
	cmd.Flags().StringVar(&until, "until", "", "end the pin after a `DURATION`, or at a date")
	cmd.Flags().StringVar(&note, "note", "", "`TEXT` that says why, for dcs inspect --pins")
	return cmd
}

// placePin pins what a reference names, and says what it did.
func placePin(ctx context.Context, opener store.Opener, ref inspect.Reference, end pinEnd, note string) (
	done string, p index.Pin, err error) {
	st, err := opener.Look(ctx)
	if err != nil {
		return "", p, err
	}
	k, err := inspect.Find(ctx, st.Index, st.Dir, ref)
	if err := errors.Join(err, st.Close()); err != nil {
		return "", p, err
	}
	err = opener.EditPins(ctx, func(ps []index.Pin, now time.Time) ([]index.Pin, error) {
		p = index.Pin{Key: k, Made: now, Until: end.after(now), Note: note}
		if !p.Until.IsZero() && !p.Until.After(now) {
			return nil, &usageError{fmt.Errorf("--until %s is in the past", p.Until.Local().Format(time.RFC3339)),
				"dcs unpin ends a pin now"}
		}
		for i := range ps {
			if ps[i].Key == k {
				done, ps[i] = "changed the pin of "+p.Name(), p
				return ps, nil
			}
		}
		done = "pinned " + p.Name()
		return append(ps, p), nil
	}, k)
	if errors.Is(err, store.ErrUnpinnable) {
		err = &hintedError{fmt.Errorf("%s is not there: %w", p.Name(), err), "dcs inspect --images lists what there is"}
	}
	return done, p, err
}

// pinEnd is when a pin ends: at a time, or after a duration. The zero value is a pin without an end.
type pinEnd struct {
	at    time.Time
	lasts time.Duration
}

func (e pinEnd) after(now time.Time) time.Time {
	if e.lasts > 0 {
		return now.Add(e.lasts)
	}
	return e.at
}

// parseUntil reads the value of --until.
func parseUntil(text string, here *time.Location) (end pinEnd, err error) {
	if text == "" {
		return end, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, here); err == nil {
		return endAt(text, day.AddDate(0, 0, 1))
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return endAt(text, at.Truncate(time.Millisecond))
	}
	d, err := config.ParseDuration(text)
	switch {
	case err != nil:
		return end, &usageError{fmt.Errorf("--until %q is neither a duration nor a date", text),
			"write 30d, or 2026-12-31"}
	case d <= 0:
		return end, &usageError{fmt.Errorf("--until %q is over at once", text), "write 30d, or 2026-12-31"}
	}
	return pinEnd{lasts: d}, nil
}

// endAt refuses years that JSON does not have, and the zero time, which would be no end.
func endAt(text string, at time.Time) (pinEnd, error) {
	switch at = at.UTC(); {
	case at.Year() > 9999:
		return pinEnd{}, &usageError{fmt.Errorf("--until %q is after the year 9999", text),
			"without --until a pin has no end"}
	case at.Year() < 1970:
		return pinEnd{}, &usageError{fmt.Errorf("--until %q is in the past", text), "dcs unpin ends a pin now"}
	}
	return pinEnd{at: at}, nil
}

// maxNote is how long a note may be, in bytes: it is one cell of a table.
const maxNote = 1000

func checkNote(note string) error {
	if len(note) > maxNote || strings.ContainsFunc(note, unicode.IsControl) {
		return &usageError{fmt.Errorf("--note is longer than %d bytes, or has control characters", maxNote),
			"write one line"}
	}
	return nil
}

// newUnpinCommand makes dcs unpin.
func newUnpinCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "unpin NAME[:TAG|@DIGEST]...",
		SuggestFor: []string{"unkeep", "unprotect", "release", "unlock"},
		Short:      "Remove pins",
		Long: `Remove pins. Each name must be pinned as it is written: a pin of NAME:TAG is not
one of NAME@DIGEST. If one of the names is not pinned, none is changed. From now
on the images expire as they would have without the pins: one that was unused
for its ttl is removed at the next clean-up.` + pinStatus,
		Example: `  dcs unpin team/app:1.0
  dcs unpin team/app:1.0 team/app:1.1`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactArgs("NAME")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var refs []inspect.Reference
			for _, name := range args {
				ref, err := inspect.ParseReference(name)
				if err != nil {
					return &usageError{err: err}
				}
				refs = append(refs, ref)
			}
			opener, err := openerOf(env, cmd)
			if err != nil {
				return err
			}
			var removed []index.Pin
			err = opener.EditPins(cmd.Context(), func(ps []index.Pin, _ time.Time) ([]index.Pin, error) {
				for _, ref := range refs {
					i, err := findPin(ps, ref)
					if err != nil {
						return nil, err
					}
					removed = append(removed, ps[i])
					ps = append(ps[:i:i], ps[i+1:]...)
				}
				return ps, nil
			})
			if err != nil {
				return err
			}
			for _, p := range removed {
				fmt.Fprintln(env.stderr, "unpinned "+p.Name())
			}
			return nil
		},
	}
	addConfigFlags(cmd, "storage.*", "log.*")
	hideFlags(cmd, "log.access")
	return cmd
}

// findPin returns the number of the pin that a reference names.
func findPin(ps []index.Pin, ref inspect.Reference) (int, error) {
	var names []string
	found := -1
	for i, p := range ps {
		names = append(names, p.Name())
		if p.Key.Repository != ref.Repository || p.Key.Tag != ref.Tag ||
			p.Key.Kind == layout.Manifest && !strings.HasPrefix(p.Key.Digest.String(), ref.Digest) {
			continue
		}
		if found >= 0 {
			return 0, &hintedError{fmt.Errorf("several pins begin with %s", ref), "write more of the digest"}
		}
		found = i
	}
	if found >= 0 {
		return found, nil
	}
	hint := "dcs inspect --pins lists the pins"
	if meant := nearest.Name(ref.String(), names); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	return 0, &hintedError{fmt.Errorf("%s is not pinned", ref), hint}
}
