package files

import (
	"errors"
	"hash"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// session is what memory knows of an unfinished upload: how far it is hashed. Without one, after a
// restart, the bytes on disk are read once more.
type session struct {
	algorithm digest.Algorithm
	hash      hash.Hash
	hashed    int64
	used      time.Time
	brokenOff bool // its client hung up in the middle of a piece
}

// maxSessions bounds the memory of unfinished uploads to a few megabytes. A forgotten one costs a second reading.
const maxSessions = 10_000

type sessions struct {
	mu   sync.Mutex // guards the rest; held over no I/O
	by   map[string]*session
	busy map[string]bool
}

func newSessions() *sessions { return &sessions{by: map[string]*session{}, busy: map[string]bool{}} }

// take makes an upload the caller's until give. False: it is somebody else's.
func (s *sessions) take(dir string) (*session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[dir] {
		return nil, false
	}
	s.busy[dir] = true
	return s.by[dir], true
}

// give ends that. A nil session is forgotten.
func (s *sessions) give(dir string, is *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, dir)
	if is == nil {
		delete(s.by, dir)
		return
	}
	is.used = time.Now()
	s.by[dir] = is
	if len(s.by) > maxSessions { // of uploads that nobody goes on with, as a rule
		oldest := slices.SortedFunc(maps.Keys(s.by), func(a, b string) int { return s.by[a].used.Compare(s.by[b].used) })
		for _, d := range oldest[:maxSessions/10] {
			delete(s.by, d)
		}
	}
}

// count says how many uploads are in the hands of a request, and how many wait for their client that was there since.
func (s *sessions) count(since time.Time) (active, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir, is := range s.by {
		if !s.busy[dir] && is.used.After(since) {
			waiting++
		}
	}
	return len(s.busy), waiting
}

// Uploads counts the unfinished uploads that this process knows: those in the hands of a request, and those whose
// client went on with them since.
func (s *Store) Uploads(since time.Time) (active, waiting int) { return s.uploads.count(since) }

// brokenOff makes all uploads the caller's whose clients hung up.
func (s *sessions) brokenOff() (dirs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir, is := range s.by {
		if is.brokenOff && !s.busy[dir] {
			s.busy[dir] = true
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// makeRoom removes the uploads whose clients hung up, on a disk that is full: clients that try again begin
// anew, and what they left fills the disk until the grace is over. False: there is none.
func (s *Store) makeRoom() bool {
	dirs := s.uploads.brokenOff()
	for _, dir := range dirs {
		s.remove(dir)
		s.uploads.give(dir, nil)
	}
	return len(dirs) > 0
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
