package users

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// A snapshot is the file as it was at one moment. It is never changed.
type snapshot struct {
	version disk.Version // of the file that was read
	settled bool         // the file was old enough that every later version differs from this one
	err     error        // why the file could not be read; then it has no users

	hashes   map[string]string // by name; "" when it is not a bcrypt hash
	usable   int               // how many of them are bcrypt hashes
	highest  int               // the highest cost of those; 0 when there are none
	unusable []unusable
}

// unusable is an entry of the file that never verifies. A line without a name has only a label.
type unusable struct{ name, label string }

// current returns the users of the file as it is now. It reads the file only if the file could have changed. Two files
// can have the same size (all bcrypt hashes have one length), the same inode (file systems reuse them) and the same
// times, so a file that was read when it was young is read every time until it is older.
func (v *Verifier) current() *snapshot {
	if v.path == "" {
		return &snapshot{}
	}
	// Of two requests that read at the same time, the one with the older file may store it last. The next request
	// sees that and reads again.
	if last := v.seen.Load(); last != nil && v.isCurrent(last) {
		return last
	}
	s := v.load()
	v.seen.Store(s)
	v.reporter.report(s)
	return s
}

// reporter calls onChange for each change of the file.
type reporter struct {
	onChange func(users int, err error)
	mu       sync.Mutex // guards last; held over onChange, so that changes are reported in their order
	last     *snapshot
}

// report reports a snapshot that differs from the one before. The first one is no change.
func (r *reporter) report(s *snapshot) {
	if r.onChange == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && !r.last.equal(s) {
		r.onChange(s.usable, s.err)
	}
	r.last = s
}

// equal says whether two snapshots have the same users.
func (s *snapshot) equal(other *snapshot) bool {
	return fmt.Sprint(s.err) == fmt.Sprint(other.err) && maps.Equal(s.hashes, other.hashes)
}

// isCurrent says whether the file is still the one of the snapshot.
func (v *Verifier) isCurrent(s *snapshot) (same bool) {
	if !s.settled {
		return false
	}
	err := v.access(v.path, func() error {
		version, err := disk.VersionOf(v.path)
		same = version == s.version
		return err
	})
	return err == nil && same
}

// load reads the file. A file that cannot be read has no users: one who was removed from it must not stay in.
func (v *Verifier) load() *snapshot {
	now := v.now()
	var text string
	var version disk.Version
	err := v.access(v.path, func() (err error) {
		text, version, err = readFile(v.path, disk.Open)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return &snapshot{}
	}
	if err != nil {
		return &snapshot{err: fmt.Errorf("read users: %w", err)}
	}
	s := newSnapshot(parse(text))
	s.version, s.settled = version, version.Settled(now)
	return s
}

func newSnapshot(t table) *snapshot {
	s := &snapshot{hashes: t.hashes()}
	done := make(map[string]bool, len(s.hashes))
	for i, l := range t {
		switch {
		case l.malformed:
			s.unusable = append(s.unusable, unusable{label: fmt.Sprintf("line %d", i+1)})
		case l.name != "" && !done[l.name]:
			done[l.name] = true
			s.judge(l.name)
		}
	}
	return s
}

// judge notes whether the hash of a name can verify a password.
func (s *snapshot) judge(name string) {
	if hash := s.hashes[name]; credential.IsHash(hash) {
		s.usable++
		s.highest = max(s.highest, credential.Cost(hash))
		return
	}
	s.hashes[name] = ""
	s.unusable = append(s.unusable, unusable{name: name, label: name})
}
