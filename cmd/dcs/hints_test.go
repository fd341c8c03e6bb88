package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Each error that an operator can do something about has a hint, also wrapped and behind a cause.
func TestEveryErrorHasItsHint(t *testing.T) {
	locked := tree.LockedError{Directory: "/srv/a", Holder: tree.Holder{PID: 1, Directory: "/srv/b"}}
	listen := func(key string, err error) error {
		return &serve.ListenError{Key: key, Address: "127.0.0.1:80", Err: fmt.Errorf("bind: %w", err)}
	}
	directory := func(err error) error { return &store.DirectoryError{Directory: "/srv", Err: err} }
	symlink := &tree.SymlinksError{Refused: []*tree.SymlinkError{
		{Path: "/srv/x", Why: "it leads away", Remedy: "remove it"},
	}}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a low port", listen("server.port", syscall.EACCES),
			"CAP_NET_BIND_SERVICE may listen on low ports; choose another --server.port"},
		{"a low port for metrics", listen("debug.address", syscall.EACCES),
			"low ports; choose another --debug.address"},
		{"a port in use", listen("server.port", syscall.EADDRINUSE),
			"stop what listens there, or choose another --server.port"},
		{"an address of another machine", listen("server.port", syscall.EADDRNOTAVAIL),
			"choose another --server.port (or --server.address)"},
		{"a directory of another user", directory(fs.ErrPermission), "chown -R USER /srv"},
		{"a directory that is a file", directory(syscall.ENOTDIR), "choose another directory: --storage.directory DIR"},
		{"a directory in pieces", directory(&tree.FileSystemError{}), "mount one file system"},
		{"no registry", &tree.NoStoreError{}, "--storage.directory DIR"},
		{"a directory in use", &locked, "stop that server"},
		{"a lock that is a hard link", &tree.ElsewhereError{LockedError: locked},
			"name /srv/b; or give the copy an index of its own"},
		{"a link out of the tree", symlink, "remove it"},
		{"users without a password", &serve.NoUsersError{Htpasswd: "/srv/users"},
			"dcs users add NAME --auth.htpasswd /srv/users"},
		{"a certificate without its key", &serve.CertificateError{Err: fs.ErrNotExist}, "PEM files"},
		{"a grace too short", &store.GraceError{Owed: 2 * time.Hour}, "at least 2h"},
		{"a policy that is not known", &store.PolicyError{}, "--ttl 30d"},
		{"another index", &store.WrongIndexError{LockedError: locked}, "try again in a few seconds"},
		{"a gate that is barred", &store.BarredError{Bar: index.Bar{Hint: "remove the link"}}, "remove the link"},
		{"a repository that cannot be read", &gc.UnreadError{Repositories: index.Unread{"a/"}},
			"dcs inspect --check names what"},
		{"an image that is unknown", &inspect.NotFoundError{Try: "did you mean a?"}, "did you mean a?"},
		{"a name that is none", &inspect.ReferenceError{Try: "names are lower case"}, "names are lower case"},
		{"an image that went for a budget", &inspect.GoneError{Gone: inspect.Gone{Repository: "app", Tag: "v1",
			Reason: index.ReasonSize}}, "(there was too little room, and it was unused for longest)"},
		{"no room to sort", &inspect.SortError{}, "--limit"},
		{"an index that is broken", index.ErrCorrupt, "rebuilds the index"},
		{"a full disk", index.ErrFull, "make some room"},
		{"a file of another user", fs.ErrPermission, "as the user that owns the data directory"},
		{"an old index", index.ErrOlder, "restart dcs serve"},
		{"a new index", index.ErrNewer, "a newer one"},
		{"a command line with a cause", &usageError{&inspect.ReferenceError{Try: "the cause"}, "the line"},
			"the cause"},
		{"a command line", &usageError{errors.New("wrong"), "the line"}, "the line"},
		{"problems", &problemsError{errors.New("2 problems"), "mend them"}, "mend them"},
	} {
		if got := hint(errors.Join(errors.New("another"), fmt.Errorf("start: %w", tt.err))); !strings.Contains(got,
			tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if hint(errors.New("unknown")) != "" {
		t.Error("an unknown error has a hint")
	}
	if code := exitCode(listen("server.port", syscall.EACCES)); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

// Packages return errors; the command speaks to people.
func TestNoPackageGivesHints(t *testing.T) {
	err := filepath.WalkDir("../../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), " Hint() string") {
			t.Errorf("%s has a method Hint: its text belongs into hints.go", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
