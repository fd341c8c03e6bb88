package users

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"
)

// VerifierOptions says who the users are. The zero value knows nobody.
type VerifierOptions struct {
	// Path is the htpasswd file. Default "": none.
	Path string
	// Access calls what looks at the file, with the rights for it. Nil: with those of the process.
	Access func(path string, look func() error) error
	// Users come from the configuration. One of them hides a user of the same name in the file.
	Users []Credential
	// TTL is how long a verified answer spares bcrypt. Default 5m: longer than most pulls, which ask some 20
	// times; who is removed or changed is out at once whatever it is. Negative: not at all.
	TTL time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// After is the Verifier whose place this one takes: what it remembers is known, and who waits, waits in the same
	// queues. Nil: nothing is known of anybody.
	After *Verifier
	// OnChange is called when the file says something else than when it was read before, with the number of users in
	// it who could log in, or with why it cannot be read. It must not call the Verifier. Nil: nobody wants to know.
	OnChange func(users int, err error)
}

// Credential is a user of the configuration. Password is plain, or a bcrypt hash.
type Credential struct{ Name, Password string }

// Verifier answers whether a name and a password belong together. It follows its file without being told.
//
// What its timing tells: an acceptance is fast when it is remembered or the password is configured in plain,
// but whoever sees that has the password. A refusal costs one bcrypt run also where there is nothing to
// compare with (no such user, a hash that never verifies, a plain password that differs), at the cost of one
// of the known users, chosen by the name.
type Verifier struct {
	path       string
	access     func(path string, look func() error) error
	configured map[string]account
	costs      []int // of the configured hashes
	now        func() time.Time

	seen atomic.Pointer[snapshot] // the file as last read
	told told
	*experience
}

// experience is what is known of logins, and who waits. It survives that the settings are read again: a fingerprint of
// what was right binds the hash, so a password that was changed is not remembered.
type experience struct {
	key      [32]byte
	verified memory[fingerprint] // spares bcrypt
	flights  singleflight.Group  // by fingerprint and lane
	width    int                 // how many bcrypts may run at a time; the rest of the machine serves
	turns    turns
	queues   queues
	runs     atomic.Int64 // how many times bcrypt ran

	// By these everybody is told his lane.
	right memory[fingerprint] // what bcrypt has verified
	in    memory[string]      // addresses of who logged in
	wrong memory[string]      // addresses of who could not
}

// lately is how long who logged in does not wait behind who never did: longer than from one weekly build to the
// next. A wrong password is forgotten sooner, since everybody mistypes one.
const (
	lately       = 8 * 24 * time.Hour
	wrongFor     = 10 * time.Minute
	mostRemember = 4096 // of each kind; a few hundred kilobytes
)

// An account is what a password is compared with. The zero account refuses everybody.
type account struct {
	hash  string       // bcrypt, "" for none
	plain *fingerprint // of a password configured in plain, else nil
}

// A fingerprint stands for some strings in this process only: it is keyed at random.
type fingerprint [sha256.Size]byte

// NewVerifier checks the configured users. It does not need the file to be there, or to be readable: see Err.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	if o.TTL == 0 {
		o.TTL = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Access == nil {
		o.Access = func(_ string, look func() error) error { return look() }
	}
	v := &Verifier{
		path:       o.Path,
		access:     o.Access,
		configured: make(map[string]account, len(o.Users)),
		now:        o.Now,
		told:       told{onChange: o.OnChange},
	}
	if o.After != nil {
		v.experience = o.After.experience
	} else {
		v.experience = newExperience(o.TTL)
	}
	for _, c := range o.Users {
		if err := v.configure(c); err != nil {
			return nil, fmt.Errorf("configured user %q: %w", c.Name, err)
		}
	}
	return v, nil
}

func newExperience(ttl time.Duration) *experience {
	width := max(1, runtime.GOMAXPROCS(0)-1)
	e := &experience{
		verified: memory[fingerprint]{ttl: ttl, limit: mostRemember},
		width:    width,
		turns:    turns{free: width},
		right:    memory[fingerprint]{ttl: lately, limit: mostRemember},
		in:       memory[string]{ttl: lately, limit: mostRemember},
		wrong:    memory[string]{ttl: wrongFor, limit: mostRemember},
	}
	rand.Read(e.key[:]) // never fails, see crypto/rand
	return e
}

// looksHashed tells a hash, whole or damaged, from a plain password.
var looksHashed = regexp.MustCompile(`^\$2[abxy]?\$[0-9]{2}\$`)

func (v *Verifier) configure(c Credential) error {
	if err := CheckName(c.Name); err != nil {
		return err
	}
	if _, twice := v.configured[c.Name]; twice {
		return errors.New("stands there twice")
	}
	switch {
	case c.Password == "":
		return errors.New("password is empty")
	case isBcrypt(c.Password):
		v.configured[c.Name] = account{hash: c.Password}
		v.costs = append(v.costs, costOf(c.Password))
	case looksHashed.MatchString(c.Password):
		// Taken as plain it would refuse everybody, or let in who has read the configuration.
		return errors.New("password begins like a bcrypt hash but is none")
	default:
		plain := v.fingerprint(c.Password)
		v.configured[c.Name] = account{plain: &plain}
	}
	return nil
}

// Verify reports whether password is the one of name. It may wait for other verifications; when ctx ends
// first, the answer is no. Each client has a queue of its own, whatever names it tries: one that tries many
// passwords waits for itself, and has at most half of what the machine gives to bcrypt. Where many clients guess,
// who logged in lately is before them, and so is who did not guess yet.
func (v *Verifier) Verify(ctx context.Context, client, name, password string) bool {
	ok := v.verify(ctx, client, name, password)
	if now := v.now(); ok && !v.in.has(client, now) {
		v.in.add(client, now)
	}
	return ok
}

func (v *Verifier) verify(ctx context.Context, client, name, password string) bool {
	users := v.current()
	acct, ok := v.configured[name]
	if !ok {
		acct = account{hash: users.hashes[name]}
	}
	if acct.plain != nil && v.matches(*acct.plain, password) {
		return true
	}
	q := query{
		client:   client,
		id:       v.fingerprint(name, password, acct.hash),
		hash:     acct.hash,
		password: password,
	}
	if q.hash == "" {
		q.cost = v.costFor(name, users)
	}
	if v.verified.has(q.id, v.now()) {
		return true
	}
	q.lane = v.laneOf(q)
	return v.ask(ctx, q)
}

func (v *Verifier) laneOf(q query) lane {
	switch now := v.now(); {
	case v.right.has(q.id, now):
		return verifiedLately
	case v.in.has(q.client, now):
		return knownAddress
	case v.wrong.has(q.client, now):
		return guesser
	}
	return stranger
}

// Knows says whether there is a user of that name who could log in.
func (v *Verifier) Knows(name string) bool {
	_, configured := v.configured[name]
	return configured || v.current().hashes[name] != ""
}

// A query is one question to bcrypt. Without a hash the answer is no, after a run of the given cost.
type query struct {
	client   string
	lane     lane
	id       fingerprint
	hash     string
	cost     int
	password string
}

// ask joins the verification of the same query that is under way, or starts it. Whoever started it may give
// up while others wait for it: one of those starts it again.
func (v *Verifier) ask(ctx context.Context, q query) bool {
	for ctx.Err() == nil {
		flight := v.flights.DoChan(string(append(q.id[:], byte(q.lane))), func() (any, error) { return v.run(ctx, q) })
		select {
		case <-ctx.Done(): // a bcrypt that has begun ends by itself, and is remembered
		case answer := <-flight:
			if answer.Err == nil {
				return answer.Val.(bool)
			}
		}
	}
	return false
}

// run waits for its turn and asks bcrypt. Its error is the one of ctx.
func (v *Verifier) run(ctx context.Context, q query) (bool, error) {
	if q.lane != verifiedLately { // behind a proxy, guessers may have the same address
		leave, err := v.queues.enter(ctx, q.client, max(1, v.width/2))
		if err != nil {
			return false, err
		}
		defer leave()
	}
	if err := v.turns.take(ctx, q.lane); err != nil {
		return false, err
	}
	defer v.turns.done()

	if v.verified.has(q.id, v.now()) { // by a flight that ended after Verify had looked
		return true, nil
	}
	v.runs.Add(1)
	hash := []byte(q.hash)
	if q.hash == "" {
		hash = dummyHash(q.cost)
	}
	ok := bcrypt.CompareHashAndPassword(hash, []byte(q.password)) == nil && q.hash != ""
	if now := v.now(); ok {
		v.verified.add(q.id, now)
		v.right.add(q.id, now)
	} else {
		v.wrong.add(q.client, now)
	}
	return ok, nil
}

// costFor chooses the cost for a name that has no hash among those of the users who have one, always the same
// for the same name: a single cost would show who has another.
func (v *Verifier) costFor(name string, users *snapshot) int {
	known := len(v.costs) + len(users.costs)
	if known == 0 {
		return bcrypt.DefaultCost
	}
	id := v.fingerprint(name)
	i := int(binary.BigEndian.Uint64(id[:]) % uint64(known))
	if i < len(v.costs) {
		return v.costs[i]
	}
	return users.costs[i-len(v.costs)]
}

// dummyHash takes as long to compare with as any hash of that cost.
func dummyHash(cost int) []byte {
	return fmt.Appendf(nil, "$2y$%02d$%s", cost, strings.Repeat("A", 53))
}

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

// Count returns how many users could log in. With an error, which is Err's, it is how many are configured.
func (v *Verifier) Count() (int, error) {
	users := v.current()
	n := len(v.configured)
	for name, hash := range users.hashes {
		if _, hidden := v.configured[name]; !hidden && hash != "" {
			n++
		}
	}
	return n, users.err
}

// Unusable returns what in the file never verifies: names whose hash is not bcrypt, and "line N" for what is
// no user at all, in the order of the file.
func (v *Verifier) Unusable() []string {
	var unusable []string
	for _, u := range v.current().unusable {
		if _, hidden := v.configured[u.name]; !hidden {
			unusable = append(unusable, u.label)
		}
	}
	return unusable
}

// Err returns why the file cannot be read now, and so nobody in it can log in. A missing file is no error.
func (v *Verifier) Err() error { return v.current().err }
