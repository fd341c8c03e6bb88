// Package reuse estimates which share of their pulls clients would have found in a store of another size, or with
// another ttl.
//
// It rests on two facts. A store that removes what was least recently used holds an object if and only if the distance
// of the object fits: the bytes of everything that was used since, and its own. A store with a ttl holds it if and only
// if it was not unused for longer. So the distances and the ages of all pulls say what any budget and any ttl would
// have found.
//
// What is always true:
//
//   - The memory is bounded. Only a sample of the objects is followed, chosen by their digests, so that all pulls of an
//     object are followed or none. When the sample is full it forgets what was unused for half a year, or else the rate
//     falls. It never rises.
//   - Half of the sample is chosen by number and half by bytes: a large layer is followed more likely than a small one.
//     Each object stands for as many as the inverse of its chance.
//   - The sample does not ask what the store still holds. So it knows what was removed, and can judge larger budgets
//     and longer ttls.
//   - A pull of an object that was never used before was missed by all budgets. A push is no pull.
//   - What manifests name is used with them: a client that has a layer asks for its manifest only.
//
// The package does no I/O. A Sampler watches one server; a Recording is what it knew at one time, as a file has it.
package reuse

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// Key is a number for a digest or a tag. Two of them have the same key once in some billion stores.
type Key uint64

// OfDigest is the key of a blob or a manifest: the first 64 bits of its digest.
func OfDigest(d digest.Digest) (k Key) {
	sum := string(d)[strings.IndexByte(string(d), ':')+1:]
	for i := range min(16, len(sum)) {
		c := sum[i]
		if c > '9' {
			c += 9 // of a to f, whose low bits begin with 1
		}
		k = k<<4 | Key(c&0xf)
	}
	return k
}

// OfTag is the key of a tag: FNV-1a of its name, mixed as in SplitMix64 so that all bits depend on all.
func OfTag(repository, tag string) Key {
	k := uint64(14695981039346656037)
	for _, part := range [...]string{repository, ":", tag} {
		for i := range len(part) {
			k = (k ^ uint64(part[i])) * 1099511628211
		}
	}
	k = (k ^ k>>30) * 0xbf58476d1ce4e5b9
	k = (k ^ k>>27) * 0x94d049bb133111eb
	return Key(k ^ k>>31)
}

// Sampler follows what clients pull and push. All methods may be called concurrently, and none of them waits for
// another, but Changed and Encode: a use that would have to wait is dropped.
type Sampler struct {
	now     func() time.Time
	rate    atomicRate
	pulls   atomic.Int64 // those that found their object, and are not in the recording yet
	bytes   atomic.Int64 // of them
	dropped atomic.Int64 // uses that are not in the recording yet
	images  [images]struct {
		manifest atomic.Uint64
		bytes    atomic.Int64
		used     atomic.Int64 // unix time in milliseconds
	}

	mu      sync.Mutex // guards the rest; held over no I/O
	state   state
	encoded time.Time // when Encode was called last
	file    []byte    // of Encode, which uses its memory again
}

// images is how many images are remembered, as many as a server has manifests in memory. Each takes the place of
// another one.
const images = 1024

// moment is how long the parts of an image need not be looked at again. A popular image is asked for many times in it.
const moment = 10 * time.Second

// atomicRate is a rate that is read without the lock. A reader may see one half of a new rate and one of an old one,
// which samples no less than the new one.
type atomicRate struct{ perObject, perByte atomic.Uint64 }

func (a *atomicRate) store(r rate) {
	a.perObject.Store(math.Float64bits(r.perObject))
	a.perByte.Store(math.Float64bits(r.perByte))
}

func (a *atomicRate) load() rate {
	return rate{math.Float64frombits(a.perObject.Load()), math.Float64frombits(a.perByte.Load())}
}

// New goes on with a recording, or begins one if that is nil. The sampler takes so many bytes of memory, LeastMemory
// at least. The recording may come from one with more memory: what fits is kept. It must not be used any more. now is
// the wall clock.
func New(memory int64, r *Recording, now func() time.Time) *Sampler {
	s := &Sampler{now: now, encoded: now()}
	s.state.begin(memory, r, s.encoded)
	s.file = make([]byte, 0, fileSize(s.state.limit))
	s.rate.store(s.state.rate)
	return s
}

// Pulled records a GET that found its object, of so many bytes. sent are those that the client got of it.
func (s *Sampler) Pulled(k Key, size, sent int64) {
	if s.rate.load().samples(k, size) && !s.try(func(st *state, now time.Time) { st.pulled(k, size, sent, now) }) {
		return
	}
	s.pulls.Add(1)
	s.bytes.Add(sent)
}

// Offered records that a client was told of an object, and may pull it next: a HEAD, or a manifest that names it.
func (s *Sampler) Offered(k Key, size int64) {
	if s.rate.load().samples(k, size) {
		s.try(func(st *state, now time.Time) { st.offered(k, size, now) })
	}
}

// Pushed records that a client pushed an object, or mounted it.
func (s *Sampler) Pushed(k Key, size int64) {
	if s.rate.load().samples(k, size) {
		s.try(func(st *state, now time.Time) { st.pushed(k, size, now) })
	}
}

// Remember records that the parts of an image were used now, and how many bytes it has, by the key of its manifest.
func (s *Sampler) Remember(manifest Key, bytes int64) {
	at := &s.images[manifest%images]
	at.manifest.Store(uint64(manifest))
	at.bytes.Store(min(bytes, MostSize))
	at.used.Store(s.now().UnixMilli())
}

// ImageSize is how many bytes an image has of which one remembers; 0: none does.
func (s *Sampler) ImageSize(manifest Key) int64 {
	at := &s.images[manifest%images]
	if at.manifest.Load() != uint64(manifest) {
		return 0
	}
	return at.bytes.Load()
}

// Lately says that the parts of an image were used a moment ago. Another use need not be recorded: in so short a time
// little else was used.
func (s *Sampler) Lately(manifest Key) bool {
	at := &s.images[manifest%images]
	return at.manifest.Load() == uint64(manifest) && s.now().UnixMilli()-at.used.Load() < moment.Milliseconds()
}

// Named records that a client used a tag, which stands for an image of so many bytes.
func (s *Sampler) Named(k Key, size int64) {
	if s.rate.load().samples(k, 0) {
		s.try(func(st *state, now time.Time) { st.named(k, size, now) })
	}
}

// Missed records a GET of an object or a tag that is not there. If it was used before, that is a pull that another
// budget or ttl might have answered. It counts once until the object is used again: some clients ask every minute.
func (s *Sampler) Missed(k Key) {
	s.try(func(st *state, now time.Time) { st.missed(k, now) })
}

// try does one step, unless another one is being done.
func (s *Sampler) try(step func(*state, time.Time)) bool {
	if !s.mu.TryLock() {
		s.dropped.Add(1)
		return false
	}
	defer s.mu.Unlock()
	was, now := s.state.rate, s.now()
	s.state.turn(now)
	step(&s.state, now)
	if s.state.rate != was {
		s.rate.store(s.state.rate)
	}
	return true
}

// Changed says that Encode is worth a write: something was recorded since the last one, or that was long ago.
func (s *Sampler) Changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.changed || s.pulls.Load() > 0 || s.now().Sub(s.encoded) >= unwatched/2
}

// Encode returns the recording until now, for Decode. It is valid until the next call, which must not be concurrent.
func (s *Sampler) Encode() (file []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encoded = s.now()
	s.state.count(s.pulls.Swap(0), s.bytes.Swap(0), s.dropped.Swap(0), s.encoded)
	s.state.changed = false
	s.file = s.state.encode(s.file[:0], s.encoded)
	return s.file
}
