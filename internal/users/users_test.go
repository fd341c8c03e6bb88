package users

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/crypto/bcrypt"
)

// adderFile makes the test binary a process that adds users to the file it names.
const adderFile = "DCS_USERS_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(adderFile); path != "" {
		if err := addSome(path, fmt.Sprint("process", os.Getpid())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const some = 5

func addSome(path, prefix string) error {
	for i := range some {
		if _, err := Open(path).Add(fmt.Sprintf("%s-%d", prefix, i), "secret", bcrypt.MinCost); err != nil {
			return err
		}
	}
	return nil
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	switch {
	case reason == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case reason != "" && (err == nil || !strings.Contains(err.Error(), reason)):
		t.Errorf("got %v, want an error with %q", err, reason)
	}
}

func TestUserIsAddedListedReplacedAndRemoved(t *testing.T) {
	f := Open(filepath.Join(t.TempDir(), "htpasswd"))
	wantNames(t, f)

	for _, step := range []struct {
		name     string
		replaced bool
	}{{"bob", false}, {"alice", false}, {"bob", true}} {
		replaced, err := f.Add(step.name, "secret", bcrypt.MinCost)
		if err != nil || replaced != step.replaced {
			t.Fatalf("Add(%s) = %v, %v; want %v", step.name, replaced, err, step.replaced)
		}
	}
	wantNames(t, f, "bob", "alice")
	if mode := stat(t, f.path).Mode(); mode != 0o600 {
		t.Errorf("mode %v, want 0600", mode)
	}

	if err := f.Remove("bob"); err != nil {
		t.Fatal(err)
	}
	wantNames(t, f, "alice")
	err := f.Remove("bob")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"bob"`) {
		t.Errorf("got %v, want ErrNotFound that names bob", err)
	}
}

func TestRemoveFromNothingLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"htpasswd", "none/htpasswd"} {
		if err := Open(filepath.Join(dir, path)).Remove("bob"); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAddRefusesWhatTheFileCannotHold(t *testing.T) {
	f := Open(filepath.Join(t.TempDir(), "htpasswd"))
	for _, tc := range []struct {
		desc, name, password string
		cost                 int
	}{
		{"a bad name", "a:b", "secret", 4},
		{"a bad password", "bob", "", 4},
		{"a cost that bcrypt would silently change", "bob", "secret", 3},
		{"a cost beyond bcrypt", "bob", "secret", 32},
	} {
		if _, err := f.Add(tc.name, tc.password, tc.cost); err == nil {
			t.Errorf("%s was accepted", tc.desc)
		}
	}
	if _, err := os.Stat(f.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused user left a file: %v", err)
	}
}

func TestDefaultCostIsBcryptsDefault(t *testing.T) {
	hash, err := newHash("secret", 0)
	if err != nil || !strings.HasPrefix(hash, "$2y$10$") {
		t.Errorf("got %s, %v; want $2y$10$...", hash, err)
	}
}

func TestEditLeavesEverythingElseAsItWas(t *testing.T) {
	const added, hash = "carol", "$2y$04$new"
	for _, tc := range []struct{ desc, before, after string }{
		{"a new user comes last", "# staff\n\nbob:1\n# end\n", "# staff\n\nbob:1\n# end\ncarol:$2y$04$new\n"},
		{"a known user stays in place", "bob:1\ncarol:2\ndave:3\n", "bob:1\ncarol:$2y$04$new\ndave:3\n"},
		{"duplicates of the user go", "carol:1\nbob:2\ncarol:3\n", "carol:$2y$04$new\nbob:2\n"},
		{"duplicates of others stay", "bob:1\nbob:2\n", "bob:1\nbob:2\ncarol:$2y$04$new\n"},
		{"CRLF stays CRLF", "bob:1\r\ncarol:2\r\n", "bob:1\r\ncarol:$2y$04$new\r\n"},
		{"CRLF is continued", "# a\r\nbob:1\r\n", "# a\r\nbob:1\r\ncarol:$2y$04$new\r\n"},
		{"a missing last line break is added", "bob:1", "bob:1\ncarol:$2y$04$new\n"},
		{"lines that are no users stay", "what\n:x\n  \n", "what\n:x\n  \ncarol:$2y$04$new\n"},
		{"foreign hashes and fields stay", "bob:{SHA}x:Bob:1\n", "bob:{SHA}x:Bob:1\ncarol:$2y$04$new\n"},
		{"a commented user is a comment", "#carol:1\n", "#carol:1\ncarol:$2y$04$new\n"},
	} {
		t.Run(tc.desc, func(t *testing.T) {
			if out, _ := parse(tc.before).set(added, hash); out.text() != tc.after {
				t.Errorf("got %q, want %q", out.text(), tc.after)
			}
		})
	}
}

func TestRemoveDropsEveryLineOfTheName(t *testing.T) {
	out, found := parse("# c\r\nbob:1\r\nalice:2\r\n bob:3").remove("bob")
	if want := "# c\r\nalice:2\r\n"; !found || out.text() != want {
		t.Errorf("got %v, %q; want %q", found, out.text(), want)
	}
	if _, found := out.remove(""); found {
		t.Error("the empty name was found: that is every comment")
	}
}

func TestFileOfAnotherToolSurvivesRealEdits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	before := "# kept by ansible\r\n\r\nold:$apr1$x$y\r\nbob:{SHA}z\r\n# end\r\n"
	write(t, path, before)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	f := Open(path)
	if _, err := f.Add("carol", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove("carol"); err != nil {
		t.Fatal(err)
	}
	if after := read(t, path); after != before {
		t.Errorf("got %q, want %q", after, before)
	}
	if mode := stat(t, path).Mode(); mode != 0o640 {
		t.Errorf("mode %v, want that of the replaced file, 0640", mode)
	}
}

func TestEditThroughASymbolicLinkReplacesItsTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	write(t, target, "bob:1\n")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link).Add("carol", "secret", bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	wantNames(t, Open(target), "bob", "carol")
	if _, err := os.Readlink(link); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
}

func TestConcurrentAddsLoseNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	const goroutines = 20
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			if _, err := Open(path).Add(fmt.Sprint("user", i), "secret", bcrypt.MinCost); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantCount(t, path, goroutines)
}

func TestConcurrentProcessesLoseNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const processes = 4
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			adder := exec.Command(self)
			adder.Env = append(os.Environ(), adderFile+"="+path)
			if out, err := adder.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if err := addSome(path, "self"); err != nil {
		t.Error(err)
	}
	all.Wait()
	wantCount(t, path, (processes+1)*some)
}

func TestHeldLockIsAnErrorThatNamesIt(t *testing.T) {
	f := Open(filepath.Join(t.TempDir(), "htpasswd"))
	f.patience = 30 * time.Millisecond
	holder := flock.New(f.path + ".lock")
	if err := holder.Lock(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Add("bob", "secret", bcrypt.MinCost); err == nil || !strings.Contains(err.Error(), f.path+".lock") {
		t.Errorf("got %v, want an error that names the lock file", err)
	}
	if err := holder.Unlock(); err != nil {
		t.Fatal(err)
	}
	f.patience = time.Minute
	if _, err := f.Add("bob", "secret", bcrypt.MinCost); err != nil {
		t.Errorf("the lock is free again, but: %v", err)
	}
}

func TestDirectoryOfTheFile(t *testing.T) {
	for _, tc := range []struct{ desc, path, missing string }{
		{"a missing directory is not made", "none/htpasswd", "none"},
		{".metadata is made in a data directory", ".metadata/htpasswd", ""},
		{".metadata is not made without a data directory", "none/.metadata/htpasswd", "none"},
		{"only .metadata itself is made", ".metadata/none/htpasswd", ".metadata/none"},
	} {
		t.Run(tc.desc, func(t *testing.T) {
			root := t.TempDir()
			_, err := Open(filepath.Join(root, tc.path)).Add("bob", "secret", bcrypt.MinCost)
			if tc.missing == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantNames(t, Open(filepath.Join(root, tc.path)), "bob")
				return
			}
			if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(root, tc.missing)+":") {
				t.Errorf("got %v, want os.ErrNotExist that names %s", err, tc.missing)
			}
			if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
				t.Errorf("made %v, %v", left, err)
			}
		})
	}
}

func TestHomeIsTheDirectoryWhoseOwnerTheFileIsFor(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/data/.metadata/htpasswd": "/srv/data", "/etc/dcs/htpasswd": "/etc/dcs", ".metadata/htpasswd": ".",
		"htpasswd":                     ".",
		"/srv/.metadata/more/htpasswd": "/srv/.metadata/more",
	} {
		if got := Open(path).Home(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// Run by root this gives the data directory to somebody else; run by anybody, all belongs to its owner.
func TestEverythingBelongsToTheOwnerOfTheDataDirectory(t *testing.T) {
	root := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(root, 4711, 4712); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(root, ".metadata", "htpasswd")
	for _, name := range []string{"bob", "alice"} {
		if _, err := Open(path).Add(name, "secret", bcrypt.MinCost); err != nil {
			t.Fatal(err)
		}
	}
	want := stat(t, root).Sys().(*syscall.Stat_t)
	for _, made := range []string{filepath.Dir(path), path, path + ".lock"} {
		got := stat(t, made).Sys().(*syscall.Stat_t)
		if got.Uid != want.Uid || got.Gid != want.Gid {
			t.Errorf("%s belongs to %d:%d, want %d:%d", made, got.Uid, got.Gid, want.Uid, want.Gid)
		}
	}
}

func wantNames(t *testing.T, f *File, want ...string) {
	t.Helper()
	if got, err := f.List(); err != nil || !slices.Equal(got, want) {
		t.Errorf("List() = %q, %v; want %q", got, err, want)
	}
}

func wantCount(t *testing.T, path string, want int) {
	t.Helper()
	if names, err := Open(path).List(); err != nil || len(names) != want {
		t.Errorf("%d users, %v; want %d: %q", len(names), err, want, names)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
