package users

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"github.com/jc-lab/docker-cache-server/internal/credential"
)

// experience is what is known about logins, and the requests that wait for bcrypt. It survives a reload of the
// settings: a fingerprint of a right password is bound to the hash, so a password that was changed is not remembered.
type experience struct {
	now      func() time.Time
	key      [sha256.Size]byte
	verified memory[fingerprint] // right passwords that need no bcrypt
	flights  singleflight.Group  // by fingerprint and lane
	width    int                 // how many bcrypts may run at a time; the rest of the processors serves
	turns    turns
	queues   queues
	rounds   atomic.Int64 // of bcrypt, so far: what was spent on passwords

	// These say which lane a request is in.
	right    memory[fingerprint] // passwords that bcrypt has verified
	loggedIn memory[string]      // clients that logged in
	failed   memory[string]      // clients that gave a wrong password
}

const (
	// rememberedFor is how long a login has an earlier lane than one of a stranger: longer than from one weekly
	// build to the next.
	rememberedFor = 8 * 24 * time.Hour

	// suspectedFor is how long a client counts as a guesser. It is short, since every user mistypes a password.
	suspectedFor = 10 * time.Minute
)

// newExperience remembers right passwords for ttl without bcrypt.
func newExperience(ttl time.Duration, now func() time.Time) *experience {
	width := max(1, runtime.GOMAXPROCS(0)-1)
	e := &experience{
		now:      now,
		verified: newMemory[fingerprint](ttl, mostRemembered),
		width:    width,
		turns:    turns{free: width},
		right:    newMemory[fingerprint](rememberedFor, mostRemembered),
		loggedIn: newMemory[string](rememberedFor, mostRemembered),
		failed:   newMemory[string](suspectedFor, mostRemembered),
	}
	rand.Read(e.key[:]) // never fails, see crypto/rand
	return e
}

// A query is one question to bcrypt. Without a hash the answer is no.
type query struct {
	client   string
	lane     lane
	id       fingerprint
	hash     string
	highest  int // the cost of a refusal
	password string
}

func (e *experience) laneOf(q query) lane {
	switch now := e.now(); {
	case e.right.has(q.id, now):
		return verifiedLately
	case e.loggedIn.has(q.client, now):
		return knownAddress
	case e.failed.has(q.client, now):
		return guesser
	}
	return stranger
}

// ask joins the verification of the same query that is under way, or starts it. The request that started it may give
// up while others wait for it: then one of those starts it again.
func (e *experience) ask(ctx context.Context, q query) bool {
	for ctx.Err() == nil {
		flight := e.flights.DoChan(string(append(q.id[:], byte(q.lane))), func() (any, error) { return e.run(ctx, q) })
		select {
		case <-ctx.Done(): // a bcrypt run that has begun ends by itself, and is remembered
		case answer := <-flight:
			if answer.Err == nil {
				return answer.Val.(bool)
			}
		}
	}
	return false
}

// run waits for its turn and asks bcrypt. The error is the one of ctx.
func (e *experience) run(ctx context.Context, q query) (bool, error) {
	if q.lane != verifiedLately { // behind a proxy, guessers may have the same address
		leave, err := e.queues.enter(ctx, q.client, max(1, e.width/2))
		if err != nil {
			return false, err
		}
		defer leave()
	}
	if err := e.turns.take(ctx, q.lane); err != nil {
		return false, err
	}
	defer e.turns.done()

	if e.verified.has(q.id, e.now()) { // another flight verified it after Verify had looked
		return true, nil
	}
	if q.hash != "" && e.compare(q.hash, q.password) {
		now := e.now()
		e.verified.add(q.id, now)
		e.right.add(q.id, now)
		return true, nil
	}
	e.refuse(q)
	e.failed.add(q.client, e.now())
	return false, nil
}

// refuse makes every refusal the same work, that of one comparison at the highest cost in use, so that its duration
// says neither whether there is such a user nor which cost the hash has. A comparison at cost c takes 2^c rounds: with
// one at each cost from c to the highest, but for that itself, it is as long as one at the highest.
func (e *experience) refuse(q query) {
	if q.hash == "" {
		e.compare(dummyHash(q.highest), q.password)
		return
	}
	for cost := credential.Cost(q.hash); cost < q.highest; cost++ {
		e.compare(dummyHash(cost), q.password)
	}
}

func (e *experience) compare(hash, password string) bool {
	e.rounds.Add(1 << credential.Cost(hash))
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
}

// dummyHash returns a hash that takes as long to compare with as any other of that cost.
func dummyHash(cost int) string { return fmt.Sprintf("$2y$%02d$%s", cost, strings.Repeat("A", 53)) }

// A fingerprint stands for some texts in this process only: its key is random.
type fingerprint [sha256.Size]byte

func (e *experience) matches(plain fingerprint, password string) bool {
	given := e.fingerprint(password)
	return hmac.Equal(plain[:], given[:])
}

// fingerprint binds the fields with their lengths, so that no two lists of fields share one.
func (e *experience) fingerprint(fields ...string) fingerprint {
	mac := hmac.New(sha256.New, e.key[:])
	for _, f := range fields {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f))))
		mac.Write([]byte(f))
	}
	return fingerprint(mac.Sum(nil))
}
