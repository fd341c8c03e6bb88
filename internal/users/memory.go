package users

import (
	"sync"
	"time"
)

// A memory holds what was seen of logins, for a while: never a password.
type memory[K comparable] struct {
	ttl   time.Duration
	limit int // entries; beyond it something is forgotten, which costs one bcrypt run

	mu    sync.Mutex // guards until; taken after nothing, held over no I/O
	until map[K]time.Time
}

func (m *memory[K]) has(id K, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	end, ok := m.until[id]
	return ok && now.Before(end)
}

func (m *memory[K]) add(id K, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.until) >= m.limit {
		m.makeRoomLocked(now)
	}
	if m.until == nil {
		m.until = make(map[K]time.Time)
	}
	m.until[id] = now.Add(m.ttl)
}

// makeRoomLocked drops what has expired, and if that is nothing, any entry.
func (m *memory[K]) makeRoomLocked(now time.Time) {
	for id, end := range m.until {
		if !now.Before(end) {
			delete(m.until, id)
		}
	}
	for id := range m.until {
		if len(m.until) < m.limit {
			return
		}
		delete(m.until, id)
	}
}
