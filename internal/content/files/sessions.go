package files

import (
	"context"
	"errors"
	"hash"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// session is what is in memory of an unfinished upload: how far it is hashed. Without one, after a restart, the bytes
// on disk are read once more.
type session struct {
	algorithm digest.Algorithm
	hash      hash.Hash
	hashed    int64
	used      time.Time
	hungUp    bool // its client closed the connection in the middle of a piece
	faults    int  // syncs that had failed when its first bytes came
}

// maxSessions bounds the memory of unfinished uploads to a few megabytes. A forgotten one costs a second reading.
const maxSessions = 10_000

type sessions struct {
	mu   sync.Mutex // guards the rest; held over no I/O
	by   map[layout.Upload]*session
	busy map[layout.Upload]bool
	all  map[layout.Upload]bool // whose directories are on disk, as far as is known
}

func newSessions() *sessions {
	return &sessions{by: map[layout.Upload]*session{}, busy: map[layout.Upload]bool{}, all: map[layout.Upload]bool{}}
}

// add makes an upload known, and gone forgets some whose directories are removed.
func (s *sessions) add(u layout.Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[u] = true
}

func (s *sessions) gone(us ...layout.Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range us {
		delete(s.all, u)
	}
}

func (s *sessions) known() []layout.Upload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.all))
}

// Unfinished returns the uploads that this process began or went on with, and whose directories are on disk.
func (s *Store) Unfinished(context.Context) ([]layout.Upload, error) {
	var there, gone []layout.Upload
	for _, u := range s.uploads.known() {
		if _, err := os.Lstat(s.tree.Native(u.Dir())); tree.Missing(err) {
			gone = append(gone, u) // a run removed it, and no upload ever has its name again
		} else {
			there = append(there, u)
		}
	}
	s.uploads.gone(gone...)
	return there, nil
}

// take makes an upload the caller's until give. False: another request has it.
func (s *sessions) take(u layout.Upload) (*session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[u] {
		return nil, false
	}
	s.busy[u] = true
	return s.by[u], true
}

// give ends that. A nil session is forgotten.
func (s *sessions) give(u layout.Upload, is *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, u)
	if is == nil {
		delete(s.by, u)
		return
	}
	is.used = time.Now()
	s.by[u] = is
	if len(s.by) > maxSessions { // most of them are abandoned
		oldest := slices.SortedFunc(maps.Keys(s.by), func(a, b layout.Upload) int {
			return s.by[a].used.Compare(s.by[b].used)
		})
		for _, d := range oldest[:maxSessions/10] {
			delete(s.by, d)
		}
	}
}

// count says how many uploads are in the hands of a request, and how many others a client went on with after since.
func (s *sessions) count(since time.Time) (active, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u, is := range s.by {
		if !s.busy[u] && is.used.After(since) {
			waiting++
		}
	}
	return len(s.busy), waiting
}

// Uploads counts the unfinished uploads that this process knows: those in the hands of a request, and others that a
// client went on with after since.
func (s *Store) Uploads(since time.Time) (active, waiting int) { return s.uploads.count(since) }

// clientHungUp makes all uploads whose clients hung up the caller's.
func (s *sessions) clientHungUp() (us []layout.Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u, is := range s.by {
		if is.hungUp && !s.busy[u] {
			s.busy[u] = true
			us = append(us, u)
		}
	}
	return us
}

// forget forgets all uploads. Those in the hands of a request stay that request's.
func (s *sessions) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.by)
}

// makeRoom removes the uploads whose clients hung up, when the disk is full: a client that tries again begins a new
// one, and the old one fills the disk until its grace is over. False: there is none.
func (s *Store) makeRoom() bool {
	us := s.uploads.clientHungUp()
	for _, u := range us {
		s.remove(u)
		s.uploads.give(u, nil)
	}
	return len(us) > 0
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
