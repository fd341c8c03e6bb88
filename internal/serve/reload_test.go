package serve

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/users"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// reloaded is the configuration of a world with changes.
func (w *world) reloaded(change func(*config.Config)) (Reloaded, error) {
	next := *w.s.Config()
	change(&next)
	return w.s.Reload(w.Context(), &next)
}

func TestAServerTakesTheKeysThatItCan(t *testing.T) {
	w := newWorld(t)
	r, err := w.reloaded(func(c *config.Config) {
		c.Cache.TTL, c.Cache.Grace = 48*time.Hour, 2*time.Hour
		c.Cache.Rules = []config.Rule{{Repository: "base/**", Keep: new(true)}}
		c.Cache.AdoptAge, c.Cache.CleanupInterval = "mtime", 7*time.Hour
		c.Log.Access, c.Log.Level, c.Server.DrainTimeout, c.Server.Port = true, "debug", time.Minute, 7
		c.Server.TLS = config.TLS{Certificate: "c", Key: "k"}
	})
	if err != nil {
		t.Fatal(err)
	}
	taken := []string{"server.drain_timeout", "cache.ttl", "cache.cleanup_interval", "cache.adopt_age", "cache.rules",
		"log.level", "log.access"}
	restart := []string{"server.port", "server.tls.certificate", "server.tls.key", "cache.grace"}
	if !slices.Equal(r.Taken, taken) || !slices.Equal(r.Restart, restart) {
		t.Errorf("taken %v, restart %v;\nwant  %v, restart %v", r.Taken, r.Restart, taken, restart)
	}
	now := w.s.Config()
	if now.Cache.TTL != 48*time.Hour || len(now.Cache.Rules) != 1 || now.Cache.Grace != grace || !now.Log.Access ||
		now.Server.Port == 7 || now.Server.TLS.Certificate != "" {
		t.Errorf("the configuration is %+v", now)
	}
	if last, _, _, err := w.s.store.Index.Promised(t.Context()); err != nil ||
		!reflect.DeepEqual(last, store.PolicyOf(now)) {
		t.Errorf("other processes are told %+v, %v", last, err)
	}
	// The same rules as a file gives them when it is read again: by other pointers.
	again, err := w.reloaded(func(c *config.Config) {
		c.Cache.Rules = []config.Rule{{Repository: "base/**", Keep: new(true)}}
	})
	if err != nil || len(again.Taken)+len(again.Restart) > 0 {
		t.Errorf("the same once more: %+v, %v", again, err)
	}
}

// TestOtherProcessesAreToldANewPolicy puts another policy in the place of the one that they were told.
func TestOtherProcessesAreToldANewPolicy(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		key    string
		told   bool
		change func(*config.Cache)
	}{
		{"cache.ttl", true, func(c *config.Cache) { c.TTL++ }},
		{"cache.rules", true, func(c *config.Cache) { c.Rules = []config.Rule{{KeepLast: new(3)}} }},
		{"cache.rules", true, func(c *config.Cache) { c.Rules = nil }},
		{"cache.max_size", true, func(c *config.Cache) { c.MaxSize.Percent = 80 }},
		{"cache.min_free", true, func(c *config.Cache) { c.MinFree = &config.Size{Bytes: 1} }},
		{"cache.adopt_age", false, func(c *config.Cache) { c.AdoptAge = "mtime" }},
	} {
		before := store.PolicyOf(w.s.Config())
		before.TTL += time.Hour
		if err := w.s.store.Index.Promise(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		r, err := w.reloaded(func(cfg *config.Config) { c.change(&cfg.Cache) })
		if err != nil || !slices.Equal(r.Taken, []string{c.key}) {
			t.Errorf("%s: %+v, %v", c.key, r, err)
		}
		last, _, _, err := w.s.store.Index.Promised(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if told := reflect.DeepEqual(last, store.PolicyOf(w.s.Config())); told != c.told {
			t.Errorf("%s: other processes are told %v, want %v", c.key, told, c.told)
		}
	}
}

func TestAfterAMistakeEverythingIsAsItWas(t *testing.T) {
	dir := t.TempDir()
	files := config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	htpasswd := filepath.Join(dir, "htpasswd")
	writeCertificate(t, files, 1)
	ci := config.User{Username: "ci", Password: "secret"}
	w := newWorldWith(t, func(c *config.Config) {
		c.Server.TLS, c.Auth = files, config.Auth{Enabled: true, Htpasswd: htpasswd, Users: []config.User{ci}}
	})
	serial := func() int64 {
		cert, err := w.s.front.certificate.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.Int64()
	}
	asBefore := func(err error, change string) {
		t.Helper()
		req, nerr := http.NewRequest("GET", w.http.URL+"/v2/", nil)
		if nerr != nil {
			t.Fatal(nerr)
		}
		req.SetBasicAuth("ci", "secret")
		resp, derr := http.DefaultClient.Do(req)
		if derr != nil {
			t.Fatal(derr)
		}
		resp.Body.Close()
		if c := w.s.Config(); err == nil || c.Cache.TTL != ttl || len(c.Auth.Users) != 1 || serial() != 1 ||
			resp.StatusCode != 200 {
			t.Errorf("%s: %v; ttl %v, users %v, certificate %d, login %d", change, err, c.Cache.TTL, c.Auth.Users,
				serial(), resp.StatusCode)
		}
	}
	changed := func(change func(*config.Config)) error {
		_, err := w.reloaded(func(c *config.Config) {
			c.Cache.TTL = time.Minute
			change(c)
		})
		return err
	}

	err := changed(func(c *config.Config) { c.Auth.Users = nil })
	if !errors.Is(err, ErrNoUsers) {
		t.Errorf("without users: %v", err)
	}
	asBefore(err, "no users")
	asBefore(changed(func(c *config.Config) { c.Cache.CleanupInterval = -1 }), "no such interval")
	asBefore(changed(func(c *config.Config) { c.Server.TLS.Key = filepath.Join(dir, "nowhere") }), "no such key")
	if err := os.Mkdir(htpasswd, 0o700); err != nil {
		t.Fatal(err)
	}
	asBefore(changed(func(*config.Config) {}), "users that cannot be read")
	if err := os.Remove(htpasswd); err != nil {
		t.Fatal(err)
	}

	other := config.TLS{Certificate: filepath.Join(dir, "other.pem"), Key: filepath.Join(dir, "other.key")}
	writeCertificate(t, other, 2)
	if err := changed(func(c *config.Config) { c.Server.TLS = other }); err != nil || serial() != 2 ||
		w.s.Config().Cache.TTL != time.Minute {
		t.Errorf("without a mistake: %v, certificate %d, ttl %v", err, serial(), w.s.Config().Cache.TTL)
	}
}

// TestWhoLoggedInIsKnownAfterAReload asks with a context that has ended, which is enough only for what is remembered.
func TestWhoLoggedInIsKnownAfterAReload(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldWith(t, func(c *config.Config) {
		c.Auth = config.Auth{Enabled: true, Users: []config.User{{Username: "ci", Password: string(hash)}}}
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.http.URL+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ci", "secret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 200 {
		t.Fatalf("login: %d", resp.StatusCode)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	for range 3 {
		if _, err := w.reloaded(func(*config.Config) {}); err != nil {
			t.Fatal(err)
		}
		if w.s.logins.users.Load().Verify(ended, "10.9.9.9", "ci", "secret") == nil {
			t.Error("a login that was verified is forgotten")
		}
	}
}

// TestNobodyIsRefusedWhileUsersAreReadAgain: from one file, then from another, both of which know him.
func TestNobodyIsRefusedWhileUsersAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for _, file := range files {
		if _, err := users.Open(file).Add("alice", password, cheapest); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorldWith(t, func(c *config.Config) { c.Auth = config.Auth{Enabled: true, Htpasswd: files[0]} })
	ctx, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var logins atomic.Int64
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(t.Context(), "GET", w.http.URL+"/v2/", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth("alice", password)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				if resp.Body.Close(); resp.StatusCode != 200 {
					t.Errorf("login: %d", resp.StatusCode)
				}
				logins.Add(1)
			}
		})
	}
	for i := range 40 {
		before := logins.Load()
		if _, err := w.reloaded(func(c *config.Config) { c.Auth.Htpasswd = files[i%2] }); err != nil {
			t.Error(err)
		}
		w.await("somebody logs in", func() bool { return logins.Load() > before })
	}
	end()
	all.Wait()
}
