package store

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

var promised = index.Policy{TTL: 10 * time.Hour, Grace: time.Hour, Resolution: time.Minute}

// image is the manifest of the image in the tree.
const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`

// opener names a data directory with one image in its tree, and no index.
func opener(t *testing.T) Opener {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := Opener{Dir: tree.Dir(t.TempDir()), Log: log, Asked: policy.Request{Default: promised}}
	d := digest.FromString(image)
	for k, data := range map[layout.Key]string{
		layout.BlobKey(d): image, layout.ManifestKey("app", d): d.String(), layout.TagKey("app", "v1"): d.String(),
	} {
		file := o.Dir.File(k.Path())
		must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o644)))
	}
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a store, and closes it when the test ends.
func open(t *testing.T, how func(context.Context) (*Store, error)) *Store {
	t.Helper()
	s, err := how(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// knows wants an index to have the image of opener, and a gate.
func knows(t *testing.T, s *Store, open bool) {
	t.Helper()
	must(t, s.Index.View(t.Context(), func(r index.Reader) error {
		n, err := r.Totals()
		if n.Tags != 1 || n.Manifests != 1 || n.Blobs != 1 {
			t.Errorf("the index knows %+v", n)
		}
		return err
	}))
	if is, err := s.Index.GateOpen(t.Context()); err != nil || is != open {
		t.Errorf("the gate is open: %v, %v; want %v", is, err, open)
	}
}

// TestAServerClosesTheGate when it opens the store, since it does not know what happened before, and when it leaves.
func TestAServerClosesTheGate(t *testing.T) {
	o := opener(t)
	s, err := o.Serve(t.Context(), promised)
	must(t, err)
	if open, err := s.Index.GateOpen(t.Context()); open || err != nil {
		t.Errorf("the gate is open: %v, %v", open, err)
	}
	if _, err := o.Serve(t.Context(), promised); !errors.Is(err, tree.ErrLocked) {
		t.Errorf("a second server: %v; want %v", err, tree.ErrLocked)
	}
	secret := s.Secret
	must(t, s.Close())
	alone, err := o.Collect(t.Context()) // opens the gate
	must(t, errors.Join(err, alone.Close()))
	again, err := o.Serve(t.Context(), promised)
	must(t, err)
	if open, err := again.Index.GateOpen(t.Context()); open || err != nil || again.Secret != secret {
		t.Errorf("the next server: the gate is open %v, %v; the secret is the same: %v", open, err,
			again.Secret == secret)
	}
	must(t, again.Close())
}

// TestARunAloneComparesFirst: no server watched the tree.
func TestARunAloneComparesFirst(t *testing.T) {
	o := opener(t)
	s := open(t, o.Collect)
	if s.Server != nil || s.Tree == nil || s.Imported || !reflect.DeepEqual(s.Policy, promised) {
		t.Errorf("%+v", s)
	}
	knows(t, s, true)
}

// TestARunRemovesNothingThatItJustImported: images with the dates of their files look old.
func TestARunRemovesNothingThatItJustImported(t *testing.T) {
	o := opener(t)
	o.NameAge = func(modified time.Time) time.Time { return modified }
	for _, how := range []func(context.Context) (*Store, error){o.Rehearse, o.Collect} {
		s := open(t, how)
		if !s.Imported {
			t.Error("nothing was imported")
		}
		knows(t, s, false)
		must(t, s.OpenGate(t.Context()))
		knows(t, s, true)
	}
}

// TestARunBesideAServerUsesItsIndex, waits until the server has one with an open gate, and takes no other.
func TestARunBesideAServerUsesItsIndex(t *testing.T) {
	o := opener(t)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	defer func() { must(t, server.Close()) }()
	must(t, server.lock.Announce(tree.Holder{PID: os.Getpid()})) // as a server does before it opens its index
	if _, err := o.Rehearse(t.Context()); !errors.Is(err, ErrStarting) {
		t.Errorf("a rehearsal: %v; want %v", err, ErrStarting)
	}
	token, err := server.Index.CloseGate(t.Context())
	must(t, err)
	waited := 0
	o.OnWait = func(w Wait) { // plays the server
		if w != ForServer {
			return
		}
		waited++
		if waited == 1 {
			must(t, server.announce())
			return
		}
		_, err := server.Index.OpenGate(t.Context(), token)
		must(t, err)
	}
	s := open(t, o.Collect)
	if waited != 2 || s.Server == nil || s.Index.ID() != server.Index.ID() {
		t.Errorf("waited %d times; beside %+v with index %s, want %s", waited, s.Server, s.Index.ID(),
			server.Index.ID())
	}
	must(t, server.lock.Announce(tree.Holder{PID: os.Getpid(), Index: "another"}))
	var wrong *WrongIndexError
	if _, err := o.Rehearse(t.Context()); !errors.As(err, &wrong) {
		t.Errorf("beside a server with another index: %v", err)
	}
}

// TestAServerThatComesBetweenKeepsItsIndex: a gc had found no server, and opens the index after an older one came.
func TestAServerThatComesBetweenKeepsItsIndex(t *testing.T) {
	o := opener(t)
	must(t, os.MkdirAll(o.Dir.Metadata(), 0o755))
	c, err := sqlite.OpenConn(o.Dir.Index(), sqlite.OpenReadWrite|sqlite.OpenCreate)
	must(t, err)
	must(t, sqlitex.ExecuteScript(c, "CREATE TABLE settings (key TEXT, value TEXT); PRAGMA user_version = 4", nil))
	must(t, c.Close())
	lock, err := o.Dir.Lock(t.Context())
	must(t, err)
	defer func() { must(t, lock.Unlock()) }()
	if ix, err := o.openIndex(t.Context(), nil); !errors.Is(err, index.ErrOlder) {
		t.Errorf("%v, %v", ix, err)
	}
}

// TestNobodyUndercutsWhatIsOwed: who removes is refused, who looks is shown what holds.
func TestNobodyUndercutsWhatIsOwed(t *testing.T) {
	o := opener(t)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	must(t, server.Close())
	short := time.Minute
	o.Asked.Grace = &short
	var grace *GraceError
	for _, how := range []func(context.Context) (*Store, error){o.Rehearse, o.Collect} {
		if _, err := how(t.Context()); !errors.As(err, &grace) || grace.Owed != promised.Grace {
			t.Errorf("%v; want a grace of %s to be owed", err, promised.Grace)
		}
	}
	s := open(t, o.Look)
	if s.Policy.Grace != promised.Grace {
		t.Errorf("looking supposes a grace of %s", s.Policy.Grace)
	}
}

// A command without rules of its own goes by those of the last server, also with a ttl of its own.
func TestRulesOfTheLastServerHold(t *testing.T) {
	o := opener(t)
	keep, ttl := true, time.Hour
	p := promised
	p.Rules = rule.Rules{{Repository: "base/**", Keep: &keep}}
	server, err := o.Serve(t.Context(), p)
	must(t, err)
	must(t, server.Close())
	o.Asked.TTL = &ttl
	for _, how := range []func(context.Context) (*Store, error){o.Look, o.Rehearse, o.Collect} {
		if s := open(t, how); !reflect.DeepEqual(s.Policy.Rules, p.Rules) || s.Policy.TTL != ttl {
			t.Errorf("%+v", s.Policy)
		}
	}
	o.Asked.Rules = &rule.Rules{}
	if s := open(t, o.Look); len(s.Policy.Rules) != 0 {
		t.Errorf("asked for no rules: %+v", s.Policy)
	}
}

// A run in a directory that never had a server evicts for nothing that the operator did not ask for.
func TestARunWithoutAServerHasNoBudgetOfItsOwn(t *testing.T) {
	cfg, origins, err := config.Load(config.Sources{})
	must(t, err)
	o := opener(t)
	o.Asked = Asked(cfg, origins)
	if s := open(t, o.Look); s.Policy.Budget != (rule.Budget{}) || s.Policy.TTL != cfg.Cache.TTL {
		t.Errorf("%+v", s.Policy)
	}
	cfg, origins, err = config.Load(config.Sources{Env: []string{"DCS_CACHE_MIN_FREE=7%"}})
	must(t, err)
	o.Asked = Asked(cfg, origins)
	if s := open(t, o.Look); s.Policy.Budget.MinFree.Percent != 7 {
		t.Errorf("asked for 7%%: %+v", s.Policy.Budget)
	}
}

// TestWhoOnlyReadsLeavesNothing, neither in the data directory nor where a copy was made.
func TestWhoOnlyReadsLeavesNothing(t *testing.T) {
	o := opener(t)
	for _, how := range []func(context.Context) (*Store, error){o.Rehearse, o.Look} {
		s, err := how(t.Context())
		must(t, err)
		if s.Tree != nil {
			t.Error("the tree can be changed")
		}
		knows(t, s, true)
		must(t, s.Close())
	}
	if _, err := os.Stat(o.Dir.Metadata()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left %s behind: %v", o.Dir.Metadata(), err)
	}
	if left, err := os.ReadDir(os.TempDir()); len(left) > 0 || err != nil {
		t.Errorf("left %v behind, %v", left, err)
	}
}

// TestTheIndexOfAKilledServerIsReadFromACopy where no file can be made beside it. Tests may run as root, for whom every
// directory can be written to, so that file is a link that leads nowhere.
func TestTheIndexOfAKilledServerIsReadFromACopy(t *testing.T) {
	o := opener(t)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	killed := map[string][]byte{}
	for _, suffix := range []string{"", "-wal"} {
		killed[suffix], err = os.ReadFile(o.Dir.Index() + suffix)
		must(t, err)
	}
	id := server.Index.ID()
	must(t, server.Close())
	for suffix, data := range killed {
		must(t, os.WriteFile(o.Dir.Index()+suffix, data, 0o600))
	}
	must(t, os.Symlink(filepath.Join(t.TempDir(), "missing", "shm"), o.Dir.Index()+"-shm"))
	s := open(t, o.Look)
	if s.Index.ID() != id || !reflect.DeepEqual(s.Policy, promised) {
		t.Errorf("index %s with %+v; want %s with %+v", s.Index.ID(), s.Policy, id, promised)
	}
}

func TestATTLBelowTheGraceIsNamed(t *testing.T) {
	short, long := time.Minute, 2*time.Hour
	p := index.Policy{TTL: long, Grace: time.Hour, Rules: rule.Rules{{TTL: &long}, {Repository: "ci/**", UntaggedTTL: &short}}}
	const want = "untagged_ttl of rule 2 (ci/**) 1m has no effect below the grace of 1h"
	if got := ShortTTL(p); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.TTL = short
	if got := ShortTTL(p); !strings.HasPrefix(got, "ttl 1m has no effect") {
		t.Errorf("got %q", got)
	}
	if got := ShortTTL(index.Policy{Grace: time.Hour}); got != "" {
		t.Errorf("for ever: %q", got)
	}
}
