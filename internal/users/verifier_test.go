package users

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/disk"
)

func TestWhoMayLogIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	write(t, path, strings.Join([]string{
		"bob:" + hashOf(t, "bobs"),
		"both:" + hashOf(t, "from file"),
		"sha:{SHA}5siv5c0SHx681xU6GiSx9ZQryqs=",
		"raw:plain",
		"",
	}, "\n"))
	v := newVerifier(t, VerifierOptions{Path: path, Users: []Credential{
		{"ci", "plain$text"},
		{"hashed", hashOf(t, "secret")},
		{"both", "from config"},
		{"long", strings.Repeat("x", 72)},
	}})

	for _, tc := range []struct {
		desc, name, password string
		want                 bool
		runs                 int64
	}{
		{"of the file, right", "bob", "bobs", true, 1},
		{"of the file, right again: remembered", "bob", "bobs", true, 0},
		{"of the file, wrong", "bob", "Bobs", false, 1},
		{"of the file, wrong again: not remembered", "bob", "Bobs", false, 1},
		{"of the file, empty", "bob", "", false, 1},
		{"unknown: costs as much as a wrong password", "eve", "bobs", false, 1},
		{"nobody at all", "", "", false, 1},
		{"configured in plain, right: needs no bcrypt", "ci", "plain$text", true, 0},
		{"configured in plain, wrong: costs as much as unknown", "ci", "plain", false, 1},
		{"configured in plain, as long as bcrypt can", "long", strings.Repeat("x", 72), true, 0},
		{"configured in plain, with more than bcrypt sees", "long", strings.Repeat("x", 73), false, 1},
		{"configured as hash, right", "hashed", "secret", true, 1},
		{"configured as hash, wrong", "hashed", "wrong", false, 1},
		{"configured and in the file: configuration wins", "both", "from config", true, 0},
		{"configured and in the file: the file's does not count", "both", "from file", false, 1},
		{"a hash that is not bcrypt never verifies", "sha", "password", false, 1},
		{"plain text in the file never verifies", "raw", "plain", false, 1},
	} {
		t.Run(tc.desc, func(t *testing.T) {
			before := runs(v)
			if got := v.Verify(t.Context(), "client", tc.name, tc.password) != nil; got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if runs := runs(v) - before; runs != tc.runs {
				t.Errorf("bcrypt ran %d times, want %d", runs, tc.runs)
			}
		})
	}

	if n, err := v.Count(); n != 5 || err != nil { // bob, ci, hashed, both, long
		t.Errorf("Count() = %d, %v; want 5", n, err)
	}
}

func TestNewVerifierRefusesUsersThatCannotBe(t *testing.T) {
	for _, tc := range []struct {
		desc   string
		users  []Credential
		reason string
	}{
		{"without a name", []Credential{{"", "secret"}}, "empty"},
		{"with a colon, which Basic authentication cannot carry", []Credential{{"a:b", "secret"}}, "colon"},
		{"without a password", []Credential{{"ci", ""}}, "password is empty"},
		{"twice", []Credential{{"ci", "a"}, {"ci", "b"}}, "twice"},
		{"with a damaged hash", []Credential{{"ci", "$2y$10$tooshort"}}, "looks like a bcrypt hash"},
		{"with more of a password than bcrypt sees", []Credential{{"ci", strings.Repeat("x", 73)}}, "72 bytes"},
	} {
		t.Run(tc.desc, func(t *testing.T) {
			_, err := NewVerifier(VerifierOptions{Users: tc.users})
			wantReason(t, err, tc.reason)
		})
	}
}

func TestNobodyIsKnownWithoutAFile(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "none", "htpasswd")} {
		v := newVerifier(t, VerifierOptions{Path: path})
		if n, err := v.Count(); n != 0 || err != nil || v.Err() != nil || v.Unusable() != nil {
			t.Errorf("path %q: %d users, %v, %v", path, n, err, v.Unusable())
		}
	}
}

func TestUnusableNamesWhatNeverVerifies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	good := hashOf(t, "secret")
	write(t, path, "# c\nbob:"+good+"\nno colon\napr:$apr1$x$y\n:"+good+"\nci:plain\nfixed:plain\nfixed:"+good+
		"\nbroken:"+good+"\nbroken:plain\n")
	v := newVerifier(t, VerifierOptions{Path: path, Users: []Credential{{"ci", "secret"}}})
	if got, want := v.Unusable(), []string{"line 3", "apr", "line 5", "broken"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n, err := v.Count(); n != 3 || err != nil { // bob, fixed, ci
		t.Errorf("Count() = %d, %v; want 3", n, err)
	}
}

func TestRunningVerifierFollowsTheFile(t *testing.T) {
	// The clock decides how a change is noticed: files look young and are read every time, or old and are
	// told apart by what the file system says.
	for desc, now := range map[string]func() time.Time{
		"young files": time.Now,
		"old files":   func() time.Time { return time.Now().Add(time.Hour) },
	} {
		t.Run(desc, func(t *testing.T) {
			f := Open(filepath.Join(t.TempDir(), "htpasswd"))
			v := newVerifier(t, VerifierOptions{Path: f.path, Now: now, Users: cheap(t)})
			want := func(password string, in bool) {
				t.Helper()
				for range 2 { // the second answer may be a remembered one
					if got := v.Verify(t.Context(), "client", "bob", password) != nil; got != in {
						t.Fatalf("bob with %q: %v, want %v", password, got, in)
					}
				}
			}
			set := func(password string) {
				t.Helper()
				if _, err := f.Add("bob", password, bcrypt.MinCost); err != nil {
					t.Fatal(err)
				}
			}
			want("one", false)
			set("one")
			want("one", true)
			set("two") // same size, and maybe the same time
			want("one", false)
			want("two", true)
			if err := f.Remove("bob"); err != nil {
				t.Fatal(err)
			}
			want("two", false)
			set("two")
			want("two", true)
			if err := os.Remove(f.path); err != nil {
				t.Fatal(err)
			}
			want("two", false)
		})
	}
}

func TestChangeInPlaceWithinOneTickIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	v := newVerifier(t, VerifierOptions{Path: path})
	tick := time.Now().Truncate(time.Second)
	for _, password := range []string{"one", "two"} { // Apache's htpasswd writes into the same inode
		write(t, path, "bob:"+hashOf(t, password)+"\n")
		if err := os.Chtimes(path, tick, tick); err != nil {
			t.Fatal(err)
		}
		if v.Verify(t.Context(), "client", "bob", password) == nil {
			t.Errorf("password %s was refused", password)
		}
	}
	if v.Verify(t.Context(), "client", "bob", "one") != nil {
		t.Error("the old password still holds")
	}
}

// TestChangeThatKeepsSizeAndTimeIsSeen, though the file is old enough not to be read each time.
func TestChangeThatKeepsSizeAndTimeIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	later := func() time.Time { return time.Now().Add(time.Hour) }
	v := newVerifier(t, VerifierOptions{Path: path, Now: later})
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	var last disk.Version
	for _, password := range []string{"one", "two"} {
		text := "bob:" + hashOf(t, password) + "\n"
		for again := true; again; { // the kernel's clock goes on in ticks
			write(t, path, text)
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
			version, err := disk.VersionOf(path)
			if err != nil {
				t.Fatal(err)
			}
			again, last = version == last, version
		}
		if v.Verify(t.Context(), "client", "bob", password) == nil {
			t.Errorf("password %s was refused", password)
		}
	}
	if v.Verify(t.Context(), "client", "bob", "one") != nil {
		t.Error("the old password still holds")
	}
}

func TestUnchangedFileIsNotReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	write(t, path, "bob:"+hashOf(t, "secret")+"\n")
	later := func() time.Time { return time.Now().Add(time.Hour) }
	v := newVerifier(t, VerifierOptions{Path: path, Now: later})
	if first := v.current(); v.current() != first {
		t.Error("an old, unchanged file was read again")
	}
}

// A directory in place of the file cannot be read by anybody, root included.
func TestUnreadableFileLetsOnlyConfiguredUsersIn(t *testing.T) {
	f := Open(filepath.Join(t.TempDir(), "htpasswd"))
	if _, err := f.Add("bob", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, VerifierOptions{Path: f.path, Users: []Credential{{"ci", "secret"}}})
	if v.Verify(t.Context(), "client", "bob", "secret") == nil || v.Err() != nil {
		t.Fatalf("bob is not in to begin with: %v", v.Err())
	}

	aside := f.path + ".aside"
	if err := os.Rename(f.path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if v.Verify(t.Context(), "client", "bob", "secret") != nil {
		t.Error("bob is in though the file cannot be read")
	}
	if v.Verify(t.Context(), "client", "ci", "secret") == nil {
		t.Error("the configured user is out")
	}
	wantReason(t, v.Err(), f.path)
	if n, err := v.Count(); n != 1 || err == nil {
		t.Errorf("Count() = %d, %v; want 1 and the error", n, err)
	}
	if _, err := f.List(); err == nil {
		t.Error("List of a directory gave no error")
	}
	if _, err := f.Add("eve", "secret", bcrypt.MinCost); err == nil {
		t.Error("Add to a directory gave no error")
	}

	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, f.path); err != nil {
		t.Fatal(err)
	}
	if v.Verify(t.Context(), "client", "bob", "secret") == nil || v.Err() != nil {
		t.Errorf("the file is back, but bob is out: %v", v.Err())
	}
}

func TestAnswerIsRememberedForItsTTL(t *testing.T) {
	var clock atomic.Int64
	v := newVerifier(t, VerifierOptions{
		Users: []Credential{{"bob", hashOf(t, "secret")}},
		TTL:   time.Minute,
		Now:   func() time.Time { return time.Unix(clock.Load(), 0) },
	})
	for _, step := range []struct{ at, runs int64 }{{0, 1}, {59, 1}, {60, 2}, {119, 2}, {120, 3}} {
		clock.Store(step.at)
		if v.Verify(t.Context(), "client", "bob", "secret") == nil {
			t.Fatal("bob is out")
		}
		if runs := runs(v); runs != step.runs {
			t.Errorf("at %ds bcrypt had run %d times, want %d", step.at, runs, step.runs)
		}
	}
}

// TestAPassHoldsAsLongAsTheLoginIsRight, and needs no bcrypt as long as Verify needs none.
func TestAPassHoldsAsLongAsTheLoginIsRight(t *testing.T) {
	f := Open(filepath.Join(t.TempDir(), "htpasswd"))
	set := func(name, password string) {
		t.Helper()
		if _, err := f.Add(name, password, bcrypt.MinCost); err != nil {
			t.Fatal(err)
		}
	}
	set("bob", "one")
	var late atomic.Int64
	v := newVerifier(t, VerifierOptions{Path: f.path, TTL: time.Minute,
		Users: []Credential{{"plain", "secret"}, {"hashed", hashOf(t, "secret")}},
		Now:   func() time.Time { return time.Now().Add(time.Hour + time.Duration(late.Load())) }})
	login := func(name, password string) *Pass {
		t.Helper()
		pass := v.Verify(t.Context(), "client", name, password)
		if pass == nil || !pass.Holds() {
			t.Fatalf("%s cannot log in", name)
		}
		return pass
	}
	bob, plain, hashed := login("bob", "one"), login("plain", "secret"), login("hashed", "secret")
	want := func(what string, b, p, h bool) {
		t.Helper()
		if got := [3]bool{bob.Holds(), plain.Holds(), hashed.Holds()}; got != [3]bool{b, p, h} {
			t.Errorf("%s: %v", what, got)
		}
	}
	want("at first", true, true, true)
	set("bob", "two")
	want("after a change of the file", false, true, true)
	bob = login("bob", "two")
	set("eve", "three")
	want("after a change of the file for another user", false, true, true)
	bob = login("bob", "two")
	if err := f.Remove("bob"); err != nil {
		t.Fatal(err)
	}
	want("without the user", false, true, true)
	set("bob", "two")
	want("with the user again", false, true, true)
	bob = login("bob", "two")
	late.Store(int64(time.Minute))
	want("later than the memory lasts", false, true, false)
}

func TestFingerprintsTellFieldsApart(t *testing.T) {
	v := newVerifier(t, VerifierOptions{})
	seen := map[fingerprint][]string{}
	for _, fields := range [][]string{{}, {""}, {"", ""}, {"bob", "bs"}, {"bobb", "s"}, {"bobbs"}, {"bob", "bs", ""}} {
		id := v.fingerprint(fields...)
		if other, twice := seen[id]; twice {
			t.Errorf("%q and %q share a fingerprint", fields, other)
		}
		seen[id] = fields
	}
	if newVerifier(t, VerifierOptions{}).fingerprint("bob") == v.fingerprint("bob") {
		t.Error("two verifiers share a key")
	}
}

func TestFlightThatComesTooLateUsesWhatIsRemembered(t *testing.T) {
	v := newVerifier(t, VerifierOptions{})
	q := query{id: v.fingerprint("bob"), hash: hashOf(t, "secret"), password: "secret"}
	first, second := v.ask(t.Context(), q), v.ask(t.Context(), q)
	if !first || !second || runs(v) != 1 {
		t.Errorf("asked %v and %v, bcrypt ran %d times; want 1", first, second, runs(v))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory[int](time.Minute, 3)
	at := func(seconds time.Duration) time.Time { return time.Unix(0, 0).Add(seconds * time.Second) }

	m.add(1, at(0))
	m.add(2, at(30))
	m.add(3, at(30))
	if !m.has(1, at(59)) || m.has(1, at(60)) {
		t.Error("entry 1 is not remembered for just the ttl")
	}
	m.add(4, at(60)) // 2 was not asked for as lately as 1
	for i, want := range map[int]bool{2: false, 3: true, 4: true} {
		if got := m.has(i, at(60)); got != want {
			t.Errorf("entry %d: %v, want %v", i, got, want)
		}
	}
	if m.until.Len() != 3 {
		t.Errorf("%d entries, want 3", m.until.Len())
	}
}

func TestIdenticalQuestionsRunBcryptOnce(t *testing.T) {
	for _, tc := range []struct {
		desc, password string
		want           bool
	}{{"a right password", "secret", true}, {"a wrong password", "wrong", false}} {
		t.Run(tc.desc, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVerifier(t, VerifierOptions{Users: []Credential{{"bob", hashOf(t, "secret")}}})
				free := occupy(v)
				var all sync.WaitGroup
				for range 20 {
					all.Go(func() {
						if got := v.Verify(t.Context(), "client", "bob", tc.password) != nil; got != tc.want {
							t.Errorf("got %v, want %v", got, tc.want)
						}
					})
				}
				synctest.Wait()
				free()
				all.Wait()
				if runs := runs(v); runs != 1 {
					t.Errorf("bcrypt ran %d times, want 1", runs)
				}
			})
		})
	}
}

func TestWhoGivesUpWaitingIsRefusedAndOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, VerifierOptions{Users: []Credential{{"bob", hashOf(t, "secret")}}})
		free := occupy(v)
		leaving, leave := context.WithCancel(t.Context())
		answers := map[string]chan bool{"leaving": make(chan bool, 1), "staying": make(chan bool, 1)}
		go func() { answers["leaving"] <- v.Verify(leaving, "client", "bob", "secret") != nil }()
		synctest.Wait() // so that the one who leaves has started the verification
		go func() { answers["staying"] <- v.Verify(t.Context(), "client", "bob", "secret") != nil }()
		synctest.Wait()

		leave()
		if <-answers["leaving"] {
			t.Error("who gave up is in")
		}
		synctest.Wait()
		if runs := runs(v); runs != 0 {
			t.Errorf("bcrypt ran %d times while no slot was free", runs)
		}
		free()
		if !<-answers["staying"] {
			t.Error("who waited is out")
		}
	})
}

func TestWhoTriesManyPasswordsWaitsForHimself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, VerifierOptions{Users: []Credential{{"bob", hashOf(t, "secret")}}})
		v.width, v.turns.free = 1, 1
		free := occupy(v)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { v.Verify(t.Context(), "attacker", "bob", fmt.Sprint(i)) })
		}
		synctest.Wait()
		all.Go(func() {
			if v.Verify(t.Context(), "somebody else", "bob", "secret") == nil {
				t.Error("who knows the password is out")
			}
			// The one who was first in his queue is before him; nobody else is. Some more may run until
			// this goroutine gets a processor to look; without queues it would be all 50.
			if runs := runs(v); runs > 20 {
				t.Errorf("bcrypt ran %d times before somebody else was in", runs)
			}
		})
		synctest.Wait()
		free()
		all.Wait()
		if len(v.queues.of) != 0 {
			t.Errorf("%d queues are left in which nobody stands", len(v.queues.of))
		}
	})
}

// TestWhoLoggedInLatelyDoesNotWaitBehindGuessers counts how many bcrypts of 300 addresses that guess run before an
// answer that has to be found anew: those that had begun, at most.
func TestWhoLoggedInLatelyDoesNotWaitBehindGuessers(t *testing.T) {
	const guessers, width = 300, 2
	for _, c := range []struct {
		who, from, name, password string
		again                     time.Duration // after the login that was remembered
	}{
		{"the same login, which is no longer remembered", "10.1.1.1", "bob", "secret", time.Hour},
		{"the same login, from an address of guessers", "10.0.0.7", "bob", "secret", time.Hour},
		{"the same login a week later", "10.9.9.9", "bob", "secret", 7 * 24 * time.Hour},
		{"another login from an address that is known", "10.1.1.1", "eve", "other", time.Hour},
		{"who comes for the first time, and did not guess", "10.2.2.2", "eve", "other", time.Hour},
	} {
		t.Run(c.who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVerifier(t, VerifierOptions{Users: []Credential{
					{"bob", hashOf(t, "secret")}, {"eve", hashOf(t, "other")}}})
				v.width, v.turns.free = width, width
				if v.Verify(t.Context(), "10.1.1.1", "bob", "secret") == nil {
					t.Fatal("bob is out")
				}
				time.Sleep(c.again) // on synctest's clock
				guess := func(i, n int) {
					v.Verify(t.Context(), fmt.Sprint("10.0.0.", i), "bob", fmt.Sprint(i, " ", n))
				}
				for i := range guessers { // each has guessed before
					guess(i, 0)
				}
				free := occupy(v)
				var all sync.WaitGroup
				for i := range guessers {
					all.Go(func() { guess(i, 1) })
				}
				synctest.Wait()
				before := runs(v)
				var ran int64
				all.Go(func() {
					if v.Verify(t.Context(), c.from, c.name, c.password) == nil {
						t.Error("who knows the password is out")
					}
					ran = runs(v) - before
				})
				synctest.Wait()
				free()
				all.Wait()
				if ran > 20 { // some run until the goroutine gets a processor to look
					t.Errorf("bcrypt ran %d times first", ran)
				}
			})
		})
	}
}

// TestSettingsThatAreReadAgainForgetNobody: who is known stays known, and who guesses stays a guesser. A password that
// was changed meanwhile is not remembered.
func TestSettingsThatAreReadAgainForgetNobody(t *testing.T) {
	bob := hashOf(t, "secret")
	old := newVerifier(t, VerifierOptions{
		Users: []Credential{{"bob", bob}, {"eve", hashOf(t, "other")}, {"ci", "plain"}}})
	for _, c := range []struct {
		from, name, password string
		want                 bool
	}{{"10.1.1.1", "bob", "secret", true}, {"10.1.1.1", "eve", "other", true}, {"10.0.0.1", "bob", "guess", false}} {
		if (old.Verify(t.Context(), c.from, c.name, c.password) != nil) != c.want {
			t.Fatal(c)
		}
	}
	v := newVerifier(t, VerifierOptions{After: old, Users: []Credential{{"bob", bob}, {"eve", hashOf(t, "changed")},
		{"ci", "new"}}})
	before := runs(v)
	if v.Verify(t.Context(), "10.9.9.9", "bob", "secret") == nil || runs(v) != before {
		t.Errorf("bcrypt ran %d times for a login that is remembered", runs(v)-before)
	}
	for _, c := range []struct{ name, password string }{{"eve", "other"}, {"ci", "plain"}} {
		if v.Verify(t.Context(), "10.1.1.1", c.name, c.password) != nil {
			t.Errorf("%s is let in by the password that %s had", c.name, c.name)
		}
	}
	for from, want := range map[string]lane{"10.1.1.1": knownAddress, "10.0.0.1": guesser, "10.2.2.2": stranger} {
		if got := v.laneOf(query{client: from, id: v.fingerprint("x")}); got != want {
			t.Errorf("%s is in lane %d; want %d", from, got, want)
		}
	}
}

func TestATurnThatNobodyWaitsForAnyMoreGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := turns{free: 1}
		if err := turn.take(t.Context(), stranger); err != nil {
			t.Fatal(err)
		}
		var order []string
		wait := func(ctx context.Context, who string, l lane) {
			if turn.take(ctx, l) == nil {
				order = append(order, who)
				turn.done()
			}
		}
		leaving, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, w := range []struct {
			ctx context.Context
			who string
			l   lane
		}{{t.Context(), "fourth", guesser}, {leaving, "nobody", verifiedLately}, {t.Context(), "third", stranger},
			{t.Context(), "first", verifiedLately}, {t.Context(), "second", knownAddress}} {
			all.Go(func() { wait(w.ctx, w.who, w.l) })
			synctest.Wait()
		}
		leave()
		turn.done() // whether who leaves was given it or not
		all.Wait()
		if got := strings.Join(order, " "); got != "first second third fourth" || turn.free != 1 {
			t.Errorf("%s; %d are free", got, turn.free)
		}
	})
}

// occupy takes every turn of bcrypt, until free is called.
func occupy(v *Verifier) (free func()) {
	for range v.width {
		_ = v.turns.take(context.Background(), verifiedLately) // they are free
	}
	return func() {
		for range v.width {
			v.turns.done()
		}
	}
}

// TestEveryRefusalIsTheSameWork, whoever was asked about, so that its duration does not say who exists.
func TestEveryRefusalIsTheSameWork(t *testing.T) {
	at := func(cost int) string { return fmt.Sprintf("$2y$%02d$%s", cost, strings.Repeat("a", 53)) }
	file := filepath.Join(t.TempDir(), "htpasswd")
	write(t, file, "four:"+at(4)+"\nfive:"+at(5)+"\nsha:{SHA}x\n")
	for _, c := range []struct {
		users   []Credential
		highest int
	}{
		{nil, 5},
		{[]Credential{{"seven", at(7)}, {"ci", "plain"}}, 7},
		{[]Credential{{"ci", "plain"}, {"five", at(4)}}, 5}, // which hides the file's
	} {
		v := newVerifier(t, VerifierOptions{Path: file, Users: c.users})
		for _, name := range []string{"four", "five", "seven", "sha", "ci", "nobody", ""} {
			before := v.rounds.Load()
			if v.Verify(t.Context(), "client", name, "wrong") != nil {
				t.Errorf("%s is let in", name)
			}
			if spent := v.rounds.Load() - before; spent != 1<<c.highest {
				t.Errorf("%d rounds of bcrypt to refuse %q, want %d", spent, name, 1<<c.highest)
			}
		}
	}
}

func TestRefusalsHaveACostWithoutAnyHashAndNeverOneOfHours(t *testing.T) {
	mad := Credential{"mad", "$2y$31$" + strings.Repeat("a", 53)}
	for _, c := range []struct {
		users []Credential
		want  int
	}{
		{nil, bcrypt.DefaultCost},
		{[]Credential{{"ci", "plain"}}, bcrypt.DefaultCost},
		{[]Credential{mad}, mostDummyCost},
	} {
		if cost := newVerifier(t, VerifierOptions{Users: c.users}).highestCost(&snapshot{}); cost != c.want {
			t.Errorf("%v: refusals take cost %d, want %d", c.users, cost, c.want)
		}
	}
}

func TestDummyHashIsOneThatBcryptWorksOn(t *testing.T) {
	err := bcrypt.CompareHashAndPassword([]byte(dummyHash(bcrypt.MinCost)), []byte("x"))
	if err != bcrypt.ErrMismatchedHashAndPassword { // any other comes before the work
		t.Errorf("got %v, want %v", err, bcrypt.ErrMismatchedHashAndPassword)
	}
	if hash := dummyHash(12); !credential.IsHash(hash) || credential.Cost(hash) != 12 {
		t.Errorf("%s is no hash of cost 12", hash)
	}
}

// runs is how often bcrypt ran, where all hashes have the least cost.
func runs(v *Verifier) int64 { return v.rounds.Load() >> bcrypt.MinCost }

// cheap makes refusals cost as little as bcrypt can, also while the file has nobody.
func cheap(t *testing.T) []Credential { return []Credential{{"cheap", hashOf(t, "cheap")}} }

func newVerifier(t *testing.T, o VerifierOptions) *Verifier {
	t.Helper()
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
