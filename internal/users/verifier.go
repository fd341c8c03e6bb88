package users

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/credential"
)

// VerifierOptions says who the users are. The zero value has none.
type VerifierOptions struct {
	// Path is the htpasswd file. Default "": none.
	Path string
	// Access calls look, which reads the file, with the rights for that. Nil: with those of the process.
	Access func(path string, look func() error) error
	// Users come from the configuration. One of them hides a user of the same name in the file.
	Users []Credential
	// TTL is how long a verified login needs no bcrypt. Default 5m, longer than most pulls, which make some 20
	// requests. A user who was removed or changed is refused at once, whatever it is. Negative: always bcrypt.
	TTL time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// After is the Verifier that this one replaces. This one takes over what it remembers, its queues and its clock.
	// Nil: nothing is known of any client.
	After *Verifier
	// OnChange is called when the file has other users than when it was read before, with the number of users in it
	// who can log in, or with why it cannot be read. It must not call the Verifier. Nil: changes are not reported.
	OnChange func(users int, err error)
}

// Credential is a user of the configuration. Password is plain, or a bcrypt hash.
type Credential struct{ Name, Password string }

// Verifier answers whether a name and a password belong together. It follows its file by itself. Its methods may be
// called concurrently.
//
// What its timing says: an acceptance is fast when it is remembered, or when the password is configured in plain, but
// a client that sees that has the password. All refusals are the same work: see experience.refuse.
type Verifier struct {
	path       string
	access     func(path string, look func() error) error
	configured map[string]account
	highest    int // cost of the configured hashes; 0 when there are none

	seen     atomic.Pointer[snapshot] // the file as last read
	reporter reporter
	*experience
}

// An account is what a password is compared with. The zero account refuses every password.
type account struct {
	hash  string       // bcrypt, "" for none
	plain *fingerprint // of a password that is configured in plain, else nil
}

// NewVerifier checks the configured users. The file may be missing or unreadable: see Err.
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
		reporter:   reporter{onChange: o.OnChange},
	}
	if o.After != nil {
		v.experience = o.After.experience
	} else {
		v.experience = newExperience(o.TTL, o.Now)
	}
	for _, c := range o.Users {
		if err := v.configure(c); err != nil {
			return nil, fmt.Errorf("configured user %q: %w", c.Name, err)
		}
	}
	return v, nil
}

func (v *Verifier) configure(c Credential) error {
	if err := credential.CheckName(c.Name); err != nil {
		return fmt.Errorf("name %w", err)
	}
	if err := credential.CheckConfigured(c.Password); err != nil {
		return fmt.Errorf("password %w", err)
	}
	if _, twice := v.configured[c.Name]; twice {
		return errors.New("is listed twice")
	}
	if credential.IsHash(c.Password) {
		v.configured[c.Name] = account{hash: c.Password}
		v.highest = max(v.highest, credential.Cost(c.Password))
		return nil
	}
	plain := v.fingerprint(c.Password)
	v.configured[c.Name] = account{plain: &plain}
	return nil
}

// Pass is a login that was right: for as long as it holds, the same name and password are right again.
type Pass struct {
	from  *Verifier
	file  *snapshot // whose user logged in; nil: the user is configured
	plain bool      // the password is configured in plain, and needs no bcrypt
	end   time.Time // of what bcrypt said
}

// Holds says whether Verify would accept the same again, of the users as they are now, without bcrypt. It may be called
// concurrently.
func (p *Pass) Holds() bool {
	if p.file != nil && p.from.current() != p.file {
		return false
	}
	return p.plain || p.from.now().Before(p.end)
}

// Verify returns a Pass if password is the one of name, else nil. It may wait for other verifications; when ctx ends
// first, the answer is no. Each client has a queue of its own, whatever names it tries: a client that tries many
// passwords waits for itself, and has at most half of the processors that bcrypt may use. Where many clients guess, a
// user who logged in lately comes first, and clients that have not guessed come before those that have.
func (v *Verifier) Verify(ctx context.Context, client, name, password string) *Pass {
	pass := v.verify(ctx, client, name, password)
	if now := v.now(); pass != nil && !v.loggedIn.has(client, now) {
		v.loggedIn.add(client, now)
	}
	return pass
}

func (v *Verifier) verify(ctx context.Context, client, name, password string) *Pass {
	users := v.current()
	pass := &Pass{from: v}
	acct, ok := v.configured[name]
	if !ok {
		acct, pass.file = account{hash: users.hashes[name]}, users
	}
	if acct.plain != nil && v.matches(*acct.plain, password) {
		pass.plain = true
		return pass
	}
	q := query{
		client:   client,
		id:       v.fingerprint(name, password, acct.hash),
		hash:     acct.hash,
		highest:  v.highestCost(users),
		password: password,
	}
	if pass.end = v.verified.end(q.id); v.now().Before(pass.end) {
		return pass
	}
	q.lane = v.laneOf(q)
	if !v.ask(ctx, q) {
		return nil
	}
	pass.end = v.verified.end(q.id)
	return pass
}

// mostDummyCost is the highest cost that a refusal may take for a user who is not asked about, or one request could
// occupy bcrypt for hours. 16 is the highest that "dcs users add" gives, and takes four seconds.
const mostDummyCost = 16

// highestCost returns the cost that every refusal takes: the highest of all users, or bcrypt's default without any.
func (v *Verifier) highestCost(users *snapshot) int {
	if highest := max(v.highest, users.highest); highest > 0 {
		return min(highest, mostDummyCost)
	}
	return bcrypt.DefaultCost
}

// Knows says whether there is a user of that name who can log in.
func (v *Verifier) Knows(name string) bool {
	_, configured := v.configured[name]
	return configured || v.current().hashes[name] != ""
}

// Count returns how many users can log in. With an error, which is Err's, it counts the configured ones only.
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

// Unusable returns the entries of the file that never verify, in its order: names whose hash is not bcrypt, and
// "line N" for a line that is no user at all.
func (v *Verifier) Unusable() []string {
	var labels []string
	for _, u := range v.current().unusable {
		if _, hidden := v.configured[u.name]; !hidden {
			labels = append(labels, u.label)
		}
	}
	return labels
}

// Err returns why the file cannot be read now, so that none of its users can log in. A missing file is no error.
func (v *Verifier) Err() error { return v.current().err }
