package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Pins are in a file and in the index. A pin is written to the file first, and to the row of the index that others are
// told of. Who opens a store to change it brings the rows in line with the file, and keeps out those who edit it for as
// long. So an index that is new, was replaced, or lost its last rows gets them before anything is retired.

// unreadable is why the gate is shut while the file of pins cannot be read.
func unreadable(err error) index.Bar {
	return index.Bar{Why: err.Error(), Hint: pin.Remedy}
}

// alignPins brings the pins of the index in line with their file, and takes those that have ended out of both. A file
// that is missing is written again from the index. While the file cannot be read the gate is shut. On a full disk the
// rows count, and the file is left to the next heartbeat: a gc has to make room. *pin.FileError.
func (s *Store) alignPins(ctx context.Context) error {
	if s.Tree == nil { // of a copy of the index
		return s.readPins(ctx)
	}
	unlock, err := lockPins(ctx, s.Tree)
	if err != nil {
		return err
	}
	err = s.readPins(ctx)
	if isFull(err) {
		s.pins.next, err = s.Index.Now(), nil
	}
	return errors.Join(err, unlock())
}

func lockPins(ctx context.Context, t *tree.Tree) (unlock func() error, err error) {
	unlock, err = t.LockPins(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.Own(t.PinsLock()); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

func (s *Store) readPins(ctx context.Context) error {
	version := pinsVersion(s.Dir)
	all, there, err := pin.Read(s.Dir.Pins())
	if err != nil {
		return errors.Join(err, s.Index.LosePins(ctx, unreadable(err)))
	}
	if !there {
		err = s.Index.View(ctx, func(r index.Reader) (err error) {
			all, err = r.Pins()
			return err
		})
		if err != nil {
			return err
		}
	}
	inForce, next := s.inForce(all)
	if err := s.Index.SetPins(ctx, inForce...); err != nil {
		return err
	}
	s.pins = pinsSeen{version, next}
	if s.Tree == nil || len(inForce) == len(all) && (there || len(all) == 0) {
		return nil
	}
	if err := pin.Write(s.Dir.Pins(), inForce); err != nil {
		return err
	}
	s.pins.version = pinsVersion(s.Dir)
	return nil
}

// inForce returns the pins that have not ended, and when the next of them ends; zero: none does.
func (s *Store) inForce(all []index.Pin) (inForce []index.Pin, next time.Time) {
	now := s.Index.Now()
	for _, p := range all {
		end := p.End(s.Index.Due)
		if !end.IsZero() && !end.After(now) {
			continue
		}
		if next.IsZero() || !end.IsZero() && end.Before(next) {
			next = end
		}
		inForce = append(inForce, p)
	}
	return inForce, next
}

// pinsSeen is what the pins of an index were last brought in line with.
type pinsSeen struct {
	version disk.Version // of the file; zero: there was none, or nothing that can be read
	next    time.Time    // when the next pin ends; zero: none does
}

func pinsVersion(d tree.Dir) disk.Version {
	v, err := disk.VersionOf(d.Pins())
	if err != nil {
		return disk.Version{} // pin.Read says why
	}
	return v
}

// KeepPins brings the pins in line with their file again if it was changed by hand, if it can be read again, or if a
// pin has ended. *pin.FileError.
func (s *Served) KeepPins(ctx context.Context) error {
	version := pinsVersion(s.Dir)
	known, err := s.Index.PinsKnown(ctx)
	if err != nil {
		return err
	}
	ended := !s.pins.next.IsZero() && !s.pins.next.After(s.Index.Now())
	if known && version == s.pins.version && !ended {
		return nil
	}
	return s.alignPins(ctx)
}

// ErrUnpinnable says that what was to be pinned is not there any more.
var ErrUnpinnable = errors.New("it was removed in the meantime")

// EditPins replaces the pins, in the file and in the index, by what change makes of them; now is the time of the store.
// The store may have a server, which honours the change at once, or none. Of needed, what is not there in the end has
// the change undone: ErrUnpinnable. *tree.NoStoreError, *pin.FileError, *WrongIndexError.
func (o Opener) EditPins(ctx context.Context, change func(ps []index.Pin, now time.Time) ([]index.Pin, error),
	needed ...layout.Key) (err error) {
	if err := o.Dir.Check(); err != nil {
		return err
	}
	s := &Store{Dir: o.Dir}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Tree, err = tree.Open(o.Dir); err != nil {
		return err
	}
	unlock, err := lockPins(ctx, s.Tree)
	if err != nil {
		return err
	}
	s.onClose(unlock)
	if err := o.joinToPin(ctx, s); err != nil {
		return err
	}
	now := o.now()().UTC().Truncate(time.Millisecond)
	if s.Index != nil {
		now = s.Index.Now()
		if err := s.readPins(ctx); err != nil {
			return err
		}
	}
	before, _, err := pin.Read(o.Dir.Pins())
	if err != nil {
		return err
	}
	after, err := change(slices.Clone(before), now)
	if err != nil {
		return err
	}
	if err := s.writePins(ctx, after, before); err != nil {
		return err
	}
	for _, k := range needed {
		if there, err := s.Dir.Has(k); err != nil || !there {
			return errors.Join(ErrUnpinnable, err, s.writePins(ctx, before, before))
		}
	}
	return nil
}

// joinToPin opens the index, unless there is none: then no process retires anything before it read the file.
func (o Opener) joinToPin(ctx context.Context, s *Store) error {
	_, err := os.Stat(o.Dir.Index())
	if errors.Is(err, fs.ErrNotExist) {
		server, err := o.awaitServer(ctx)
		if server == nil || err != nil {
			return err
		}
	}
	return o.join(ctx, s)
}

// writePins writes the file and then the rows. If these fail they are as they were, and the file gets the pins before.
func (s *Store) writePins(ctx context.Context, ps, before []index.Pin) error {
	pin.Sort(ps)
	if err := pin.Write(s.Dir.Pins(), ps); err != nil {
		return err
	}
	if s.Index == nil {
		return nil
	}
	inForce, _ := s.inForce(ps)
	if err := s.Index.SetPins(ctx, inForce...); err != nil {
		return errors.Join(err, pin.Write(s.Dir.Pins(), before))
	}
	return nil
}
