package registry

import (
	"context"
	"net/netip"
)

// shared is what all requests share. Each bound is for all clients together, so that no number of slow clients takes
// what the others need.
type shared struct {
	files   files
	memory  *memory // for manifests and lists
	listing slots   // long lists that are being made
}

// files bounds how many files the requests have open at a time. Requests that wait for a client, which may be slow,
// take nothing from the others: manifests and lists are answered whatever is transferred.
type files struct{ transfers, moments slots }

// slots bounds how many requests do something at a time: it holds one entry for each of them. Nil: there is no bound.
type slots chan struct{}

// What one request opens at most: a transfer one file, and another one at its end; a moment one file, and those of the
// index.
const (
	filesOfTransfer = 2
	filesOfMoment   = 3
)

func newFiles(descriptors int) files {
	if descriptors == 0 {
		return files{}
	}
	moments := max(1, descriptors/(3*filesOfMoment))
	transfers := max(1, (descriptors-moments*filesOfMoment)/filesOfTransfer)
	return files{transfers: make(slots, transfers), moments: make(slots, moments)}
}

// enter waits for a slot.
func (s slots) enter(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	default: // which asks for no channel of the context
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errClientLeft
	}
}

// shares are what one request has of what all share. A request that waits for one of them has no file open.
type shares struct {
	of        *shared
	client    netip.Addr
	pace      *pace
	transfers bool // the request has files open until its end; else until its answer begins

	files  slots    // in which it has files open; nil: it has none
	turn   slots    // in which it makes a long list; nil: it makes none
	memory *holding // its memory; nil: none
}

// openFiles waits until the request may open files.
func (s *shares) openFiles(ctx context.Context) error {
	l := s.of.files.moments
	if s.transfers {
		l = s.of.files.transfers
	}
	if l == nil {
		return nil
	}
	if err := l.enter(ctx); err != nil {
		return err
	}
	s.files = l
	return nil
}

// closeFiles is for a request that opens no more files.
func (s *shares) closeFiles() {
	if s.files != nil {
		<-s.files
		s.files = nil
	}
}

// takeTurn waits for the turn to make a long list.
func (s *shares) takeTurn(ctx context.Context) error {
	if s.turn != nil {
		return nil
	}
	s.closeFiles()
	if err := s.of.listing.enter(ctx); err != nil {
		return err
	}
	s.turn = s.of.listing
	return s.openFiles(ctx)
}

// release gives back all but the memory: the handler is done.
func (s *shares) release() {
	s.endTurn()
	s.closeFiles()
}

// endTurn is for a list that is made, or never will be.
func (s *shares) endTurn() {
	if s.turn != nil {
		<-s.turn
		s.turn = nil
	}
}

// hold makes room for an answer of n bytes, before they are in memory or soon after.
func (s *shares) hold(ctx context.Context, n int64) error {
	if s.memory == nil {
		s.memory = s.of.memory.enter(NetworkOf(s.client), func() { s.pace.stop(s.pace.conn.SetWriteDeadline) })
	}
	more := n - s.memory.size()
	if more <= 0 {
		return nil
	}
	s.closeFiles()
	if err := s.memory.grow(ctx, more); err != nil {
		return err
	}
	return s.openFiles(ctx)
}

// leaveMemory is for an answer that was sent.
func (s *shares) leaveMemory() {
	if s.memory != nil {
		s.memory.leave()
	}
}
