package gc

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/reconcile"
)

// hide makes a directory one that cannot be read, until show is called. Root reads everything, so this thread looks
// at files as nobody then.
func (w *world) hide(path string) (show func()) {
	w.t.Helper()
	path = w.Dir.Native(layout.Root + "/" + path)
	root := os.Geteuid() == 0
	if root {
		const nobody = 65534
		w.must(filepath.WalkDir(string(w.Dir), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chown(path, nobody, nobody))
		}))
		w.must(os.Chmod(filepath.Dir(string(w.Dir)), 0o755)) // of the test's temporary directories
		runtime.LockOSThread()
		w.must(unix.Setfsuid(nobody))
	}
	w.must(os.Chmod(path, 0))
	shown := false
	show = func() {
		if shown {
			return
		}
		shown = true
		w.must(os.Chmod(path, 0o755))
		if root {
			w.must(unix.Setfsuid(0))
			runtime.UnlockOSThread()
		}
	}
	w.t.Cleanup(show)
	if _, err := os.ReadDir(path); err == nil {
		w.t.Fatalf("%s can be read", path)
	}
	return show
}

// compare brings the index in line with what can be read.
func (w *world) compare() reconcile.Result {
	w.t.Helper()
	res, err := reconcile.Rebuild(w.t.Context(), reconcile.Options{Dir: w.Dir, Index: w.Index, Log: w.Log})
	w.must(err)
	opened, err := w.Index.OpenGate(w.t.Context(), res.Token, res.Repositories()...)
	w.must(err)
	if !opened {
		w.t.Fatal("the gate stays shut")
	}
	return res
}

// TestARepositoryThatCannotBeReadHoldsUpNoOther hides a directory at each level while the index is made. Names of other
// repositories expire, and no byte goes that the hidden one may need; the error names it. Once it can be read all of
// it is whole, and goes by its own time.
func TestARepositoryThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	for _, path := range []string{"repositories/hidden", "repositories/hidden/app", "repositories/hidden/app/_layers",
		"repositories/hidden/app/_layers/sha256",
		"repositories/hidden/app/_manifests", "repositories/hidden/app/_manifests/revisions/sha256",
		"repositories/hidden/app/_manifests/tags", "repositories/hidden/app/_manifests/tags/v1",
		"repositories/hidden/app/_manifests/tags/v1/current"} {
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			w := newWorld(t)
			w.image("hidden/app", "v1", "base", "hidden")
			w.image("open", "v1", "base", "open")
			w.upload("open", "1")
			w.layer("loose", "nobody needs it")
			show := w.hide(path)
			w.compare()
			w.pass(rules.TTL + time.Hour)
			rep, err := w.Run(t.Context(), rules, true)
			var unread *UnreadError
			if !errors.As(err, &unread) || !unread.Repositories.Has("hidden/app") || unread.Repositories.Has("open") {
				t.Errorf("a dry run: %v", err)
			}
			done, err := w.Run(t.Context(), rules, false)
			if !errors.As(err, &unread) || done.Removed != rep.Removed || done.Remaining != rep.Remaining {
				t.Errorf("a run: %+v, %v; a dry run: %+v", done, err, rep)
			}
			if want := (Counts{Tags: 1, Manifests: 1, Uploads: 1}); done.Removed != want {
				t.Errorf("removed %+v, want %+v", done.Removed, want)
			}
			show()
			w.whole()
			w.compare()
			w.whole()
			rep, err = w.Run(t.Context(), rules, false)
			w.must(err)
			if rep.Removed.Blobs < 3 { // of what was open alone
				t.Errorf("once all can be read: %+v", rep.Removed)
			}
			w.whole()
			if named := strings.Contains(path, "_layers"); !named && !w.has(layout.TagKey("hidden/app", "v1")) {
				t.Error("what was hidden went before its time")
			}
			w.pass(rules.TTL + time.Hour)
			if _, err := w.Run(t.Context(), rules, false); err != nil {
				t.Error(err)
			}
			w.empty()
		})
	}
}

// TestAnUnreadableDirectoryOfAKnownStoreHoldsUpNothingElse hides a directory once the index knows everything. What
// cannot be removed is told, and the rest goes.
func TestAnUnreadableDirectoryOfAKnownStoreHoldsUpNothingElse(t *testing.T) {
	for _, path := range []string{"repositories/app/_uploads", "repositories/app/_uploads/1",
		"repositories/app/_layers", "repositories/app", "repositories/multi"} {
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			w := newWorld(t)
			w.fill()
			show := w.hide(path)
			rep, err := w.Run(t.Context(), rules, false)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("a run: %v; want %s named", err, path)
			}
			if rep.Removed.Tags < 1 || rep.Removed.Blobs < 1 || rep.Removed.Uploads < 1 {
				t.Errorf("removed %+v", rep.Removed)
			}
			if w.has(layout.TagKey("other", "v1")) {
				t.Error("other:v1 is left, which has nothing to do with it")
			}
			show()
			w.whole()
			for range 2 {
				_, err = w.Run(t.Context(), rules, false)
				w.must(err)
				w.pass(rules.Grace + time.Hour)
			}
			w.empty()
		})
	}
}

// TestADirectoryOfBlobsThatCannotBeReadHidesNoReference hides some blobs once they are known: what refers to them is
// known as well, so everything else goes.
func TestADirectoryOfBlobsThatCannotBeReadHidesNoReference(t *testing.T) {
	w := newWorld(t)
	w.fill()
	d := w.layer("loose", "one more")
	w.compare()
	w.pass(rules.TTL + time.Hour)
	show := w.hide("blobs/sha256/" + d.Encoded()[:2])
	if res := w.compare(); len(res.Unread) == 0 || len(res.Repositories()) > 0 {
		t.Errorf("unread: %v, %v", res.Unread, res.Repositories())
	}
	rep, err := w.Run(t.Context(), rules, false)
	if err == nil || rep.Removed.Tags < 4 || rep.Removed.Blobs < 8 {
		t.Errorf("removed %+v, %v", rep.Removed, err)
	}
	show()
	w.compare()
	w.pass(rules.TTL + time.Hour)
	_, err = w.Run(t.Context(), rules, false)
	w.must(err)
	w.empty()
}
