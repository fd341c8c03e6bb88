package users

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// mostRemembered bounds each memory, in entries: a few hundred kilobytes.
const mostRemembered = 4096

// A memory holds keys, each until its time is over. It never holds a password. A full one forgets the key that was
// used least recently, which costs one bcrypt run at most. Its methods may be called concurrently.
//
// The package's own expirable cache is not used: it starts a goroutine that never ends, and a server leaves none.
type memory[K comparable] struct {
	ttl   time.Duration
	until *lru.Cache[K, time.Time]
}

func newMemory[K comparable](ttl time.Duration, most int) memory[K] {
	until, _ := lru.New[K, time.Time](most) // fails for sizes below 1 only
	return memory[K]{ttl, until}
}

func (m memory[K]) has(key K, now time.Time) bool { return now.Before(m.end(key)) }

// end is when the time of a key is over; zero: it is not remembered.
func (m memory[K]) end(key K) time.Time {
	until, _ := m.until.Get(key)
	return until
}

func (m memory[K]) add(key K, now time.Time) { m.until.Add(key, now.Add(m.ttl)) }
