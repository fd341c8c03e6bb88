package users

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// A snapshot is the file as it was at one moment. It is never changed.
type snapshot struct {
	version disk.Version // of the file that was read
	settled bool         // it was old enough then that its version tells it from every later one
	err     error        // why nobody is known

	hashes   map[string]string // by name; "" when it is not bcrypt
	costs    []int             // of the bcrypt hashes, in the order of the file
	unusable []unusable
}

type unusable struct{ name, label string }

// current returns the users of the file as it is now. It reads the file only if that could have changed: two
// files of equal size (all hashes of bcrypt have one length) and inode (it is reused) can carry the same times,
// so a file that was read young is read every time until it is older.
func (v *Verifier) current() *snapshot {
	if v.path == "" {
		return &snapshot{}
	}
	// Two that read at the same time may store the older one last. The next one sees that and reads again.
	if last := v.seen.Load(); last != nil && v.describes(last) {
		return last
	}
	s := v.load()
	v.seen.Store(s)
	v.told.tell(s)
	return s
}

// told is what was last told about the file.
type told struct {
	onChange func(users int, err error)
	mu       sync.Mutex // guards last; held over onChange, so that changes are told in their order
	last     *snapshot
}

// tell tells a snapshot that says something else than the last one. The first one is no change.
func (t *told) tell(s *snapshot) {
	if t.onChange == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != nil && !t.last.says(s) {
		t.onChange(len(s.costs), s.err)
	}
	t.last = s
}

// says tells whether two snapshots have the same users.
func (s *snapshot) says(other *snapshot) bool {
	return fmt.Sprint(s.err) == fmt.Sprint(other.err) && maps.Equal(s.hashes, other.hashes)
}

// describes says whether the file is still the one of a snapshot.
func (v *Verifier) describes(s *snapshot) (same bool) {
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

// load reads the file. Nobody is known from a file that cannot be read: who was removed there must not stay in.
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

// judge sorts a name by whether its hash can verify anybody.
func (s *snapshot) judge(name string) {
	if hash := s.hashes[name]; isBcrypt(hash) {
		s.costs = append(s.costs, costOf(hash))
		return
	}
	s.hashes[name] = ""
	s.unusable = append(s.unusable, unusable{name: name, label: name})
}
