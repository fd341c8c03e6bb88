package serve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// second tries to start another server on the directory.
func (w *world) second() (*Server, error) {
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled = w.dir, false
	return New(Options{Config: cfg, Log: logrus.New(), Now: w.Now})
}

// TestAServerKeepsItsDirectoryWhateverIsRemovedBesideIt removes what others find a server by. After the next
// heartbeat no second server starts, a gc finds the first one, the private directory is private, and everything that
// was pushed is there.
func TestAServerKeepsItsDirectoryWhateverIsRemovedBesideIt(t *testing.T) {
	for _, what := range []string{".metadata/lock", ".metadata"} {
		for _, pushed := range []bool{false, true} { // a push makes what it needs by itself
			w := newWorld(t)
			w.push("team/app:v1", w.image(2))
			if err := os.RemoveAll(filepath.Join(w.dir, what)); err != nil {
				t.Fatal(err)
			}
			if pushed {
				w.push("team/app:v2", w.image(1))
			}
			w.s.keeper.watch(t.Context())
			w.awaitGate()
			if fi, err := os.Stat(filepath.Join(w.dir, ".metadata")); err != nil || fi.Mode() != fs.ModeDir|0o700 {
				t.Errorf("%s: the private directory: %v, %v", what, fi, err)
			}
			if s, err := w.second(); !errors.Is(err, tree.ErrLocked) {
				t.Errorf("%s: a second server: %v", what, err)
				if err == nil {
					_ = s.Shutdown(time.Second)
				}
			}
			if live, err := tree.Dir(w.dir).Live(); err != nil || live == nil || live.Index != w.s.store.Index.ID() {
				t.Errorf("%s: who looks for a server finds %+v, %v", what, live, err)
			}
			w.pull("team/app:v1")
			w.push("team/app:v3", w.image(1))
			w.restart()
			w.pull("team/app:v3")
		}
	}
}

// TestAServerThatEndsLeavesTheLockOfAnotherOne removes the lock, which lets a second server in. When the first one
// ends, the second one is still found by its index: a gc would wait for ever for a server that does not say which.
func TestAServerThatEndsLeavesTheLockOfAnotherOne(t *testing.T) {
	w := newWorld(t)
	if err := os.Remove(filepath.Join(w.dir, ".metadata/lock")); err != nil {
		t.Fatal(err)
	}
	s, err := w.second()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.store.Keep(t.Context()); !errors.Is(err, tree.ErrLocked) {
		t.Errorf("the first one is told: %v", err)
	}
	w.http.Close()
	if err := w.s.Shutdown(time.Second); err != nil {
		t.Error(err)
	}
	if live, err := tree.Dir(w.dir).Live(); err != nil || live == nil || live.Index != s.store.Index.ID() {
		t.Errorf("who looks for a server finds %+v, %v", live, err)
	}
	if err := s.Shutdown(time.Second); err != nil {
		t.Error(err)
	}
	w.start()
}

// TestAnOlderIndexVoidsNoPromise puts an older copy of the index back, while the server is off or runs. What was used
// since the copy, and what was promised a moment ago, stays: the copy is put aside.
func TestAnOlderIndexVoidsNoPromise(t *testing.T) {
	for _, running := range []bool{false, true} {
		w := newWorld(t)
		w.push("team/app:v1", w.image(2))
		w.pass(ttl - 50*time.Minute)
		w.stop()
		index := filepath.Join(w.dir, ".metadata/index.db")
		old, err := os.ReadFile(index)
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		w.pull("team/app:v1")
		loose := w.upload("team/app", []byte("the layer of a push that is under way"))
		w.pass(45 * time.Minute)
		w.s.keeper.watch(t.Context())
		w.pull("team/app:v1")
		w.want(200, "HEAD", "/v2/team/app/blobs/"+loose, nil, "")
		if !running {
			w.stop()
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			if err := os.RemoveAll(index + suffix); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.WriteFile(index+".copy", old, 0o600), os.Rename(index+".copy", index)); err != nil {
			t.Fatal(err)
		}
		if running {
			w.s.keeper.watch(t.Context())
			w.awaitGate()
		} else {
			w.start()
		}
		w.pass(30 * time.Minute)
		w.expire()
		w.pull("team/app:v1")
		w.want(200, "HEAD", "/v2/team/app/blobs/"+loose, nil, "")
	}
}
