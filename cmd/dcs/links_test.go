package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestALinkThatCannotBeFollowedIsRefusedByName puts links into a tree that serving would follow and that no expiry
// could tell from what they lead to. Where a start sees them it refuses; else nothing is removed. Whoever is asked
// names the link and says what to do.
func TestALinkThatCannotBeFollowedIsRefusedByName(t *testing.T) {
	const top, repos = "docker/registry/v2", "docker/registry/v2/repositories"
	for _, c := range []struct {
		name, link, to string // to: relative to the data directory, unless it is absolute
		start          bool   // a start refuses it
		why            string
	}{
		{"a repository under a second name", repos + "/second", repos + "/app", true, "into the data directory itself"},
		{"a namespace that leads nowhere", repos + "/team", "/nonexistent/team", true, "not there"},
		{"a link to itself", repos + "/self", repos + "/self", true, "circle"},
		{"a link to all", repos + "/all", "/", true, "data directory itself"},
		{"a link to what dcs keeps", repos + "/own", ".metadata", true, "into the data directory itself"},
		// not a registry's
		{"a directory of blobs that leads nowhere", top + "/blobs/sha256/zz", "/nonexistent", false, ""},
		{"a directory of blobs under a second name", top + "/blobs/sha512", top + "/blobs/sha256", true,
			"into the data directory itself"},
		{"a second link to one place", repos + "/two", "OUTSIDE", true, "leads too"},
		{"a circle further below", repos + "/app/loop", repos, false, "into the data directory itself"},
		{"a namespace further below that leads nowhere", repos + "/app/sub", "/nonexistent/sub", false, "not there"},
		{"layers that are another repository's", repos + "/fresh/_layers", repos + "/app/_layers", false,
			"into the data directory itself"},
		{"uploads that are another repository's", repos + "/fresh/_uploads", repos + "/app/_manifests", false,
			"into the data directory itself"},
		{"a tag that is another tag", repos + "/app/_manifests/tags/v2", repos + "/app/_manifests/tags/v1", false,
			"into the data directory itself"},
		{"a tag's file that is another tag's", repos + "/app/_manifests/tags/v2/current/link",
			repos + "/app/_manifests/tags/v1/current/link", false, "into the data directory itself"},
		{"a file that leads nowhere", repos + "/app/_manifests/tags/v2/current/link", "/nonexistent/link", false,
			"not there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			flags := []string{"--cache.cleanup_interval", "200ms", "--cache.ttl", "1s", "--cache.grace", "1s"}
			s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0", "--cache.ttl", "1s", "--cache.grace",
				"1s")
			img := s.push("app:v1")
			s.stop(syscall.SIGKILL)
			layer := layersOf(t, img)[0]
			blob := tree.Dir(s.dir).File(layout.Path{Kind: layout.BlobData, Digest: layer})
			outside := t.TempDir()
			if err := os.Symlink(outside, filepath.Join(s.dir, repos, "one")); err != nil {
				t.Fatal(err)
			}
			to := strings.Replace(c.to, "OUTSIDE", outside, 1)
			if !filepath.IsAbs(to) {
				to = filepath.Join(s.dir, to)
			}
			link := filepath.Join(s.dir, c.link)
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
			named := func(said string) {
				t.Helper()
				if !strings.Contains(said, link) || !strings.Contains(said, c.why) {
					t.Errorf("said:\n%s\nwant %s in it, and %q", said, c.link, c.why)
				}
			}
			if c.why == "" { // nothing is served through it
				if found := (wreck{t, s.dir}).problems(); len(found) != 1 || found[0] != "unknown file "+c.link {
					t.Errorf("problems: %v", found)
				}
				return
			}

			code, _, stderr := dcs(t, "gc", "--storage.directory", s.dir, "--ttl", "1s")
			if code != 1 || !strings.Contains(stderr, "dcs: hint: ") {
				t.Fatalf("dcs gc: exit %d\n%s", code, stderr)
			}
			named(stderr)
			if found := (wreck{t, s.dir}).problems(); len(found) != 1 || found[0] != "refused link "+c.link {
				t.Errorf("problems: %v", found)
			}
			if c.start {
				code, _, stderr := dcs(t, "serve", "--storage.directory", s.dir, "--auth.enabled=false",
					"--debug.address", "")
				if code != 1 || !strings.Contains(stderr, "dcs: hint: ") {
					t.Errorf("dcs serve: exit %d\n%s", code, stderr)
				}
				named(stderr)
			} else {
				s = startServer(t, s.dir, flags...)
				s.await(func() bool { return strings.Contains(s.log.String(), link) }, "the log names the link")
				named(s.log.String())
				code, _, stderr = dcs(t, "gc", "--storage.directory", s.dir) // beside the server
				if code != 1 || !strings.Contains(stderr, "dcs: hint: ") {
					t.Errorf("dcs gc beside the server: exit %d\n%s", code, stderr)
				}
				named(stderr)
				if found := (wreck{t, s.dir}).problems(); len(found) != 1 || found[0] != "refused link "+c.link {
					t.Errorf("problems: %v", found)
				}
				if status, body := s.request("DELETE", "/v2/app/blobs/"+layer.String(), nil, ""); status != 503 {
					t.Errorf("DELETE of a blob: %d %s; want 503", status, body)
				}
				time.Sleep(2500 * time.Millisecond) // longer than ttl, grace and some runs
				if err := s.pull("app:v1"); err != nil {
					t.Errorf("nothing may go: %v", err)
				}
				s.stop(syscall.SIGKILL)
			}
			if _, err := os.Stat(blob); err != nil {
				t.Errorf("nothing may go: %v", err)
			}

			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
			s = startServer(t, s.dir, flags...)
			s.await(func() bool { _, err := os.Stat(blob); return os.IsNotExist(err) },
				"without the link all goes that nobody uses")
			if got, err := os.Readlink(filepath.Join(s.dir, repos, "one")); err != nil || got != outside {
				t.Errorf("a link that may be followed: %q, %v; want it left", got, err)
			}
		})
	}
}
