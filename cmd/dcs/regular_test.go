package main

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// pipe puts a named pipe at a path, in place of what is there.
func namedPipe(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755),
		syscall.Mkfifo(path, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// within runs dcs, which must end by itself.
func within(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Errorf("dcs %v waits", args)
	}
	return exitCodeOf(err), out.String()
}

// TestAPipeWhereAFileShouldBeIsNamedAndRefused, and not waited for, by every command that opens the file.
func TestAPipeWhereAFileShouldBeIsNamedAndRefused(t *testing.T) {
	t.Parallel()
	in := func(dir tree.Dir, name string) string { return filepath.Join(dir.Metadata(), name) }
	for _, tt := range []struct {
		what string
		args func(dir tree.Dir, pipe string) []string
		path func(tree.Dir) string
		code int
	}{
		{"a configuration", func(_ tree.Dir, p string) []string { return []string{"gc", "--config", p} }, nil,
			exitUsage},
		{"a certificate", func(_ tree.Dir, p string) []string {
			return []string{"serve", "--auth.enabled=false", "--server.tls.certificate", p, "--server.tls.key",
				"/dev/null"}
		}, nil, exitUsage},
		{"a key", func(dir tree.Dir, p string) []string {
			return []string{"serve", "--auth.enabled=false", "--server.tls.certificate", in(dir, "ok"),
				"--server.tls.key", p}
		}, nil, exitUsage},
		{"users of a server", func(_ tree.Dir, p string) []string { return []string{"serve", "--auth.htpasswd", p} },
			nil, exitFailed},
		{"users", func(_ tree.Dir, p string) []string { return []string{"users", "list", "--auth.htpasswd", p} }, nil,
			exitFailed},
		{"a lock of users", func(dir tree.Dir, _ string) []string { return []string{"users", "remove", "bob"} },
			func(dir tree.Dir) string { return dir.Htpasswd() + ".lock" }, exitFailed},
		{"the lock of a server", func(tree.Dir, string) []string { return []string{"serve", "--auth.enabled=false"} },
			tree.Dir.LockFile, exitFailed},
		{"the lock that a gc looks at", func(tree.Dir, string) []string { return []string{"gc"} }, tree.Dir.LockFile,
			exitFailed},
		{"the lock of a gc", func(tree.Dir, string) []string { return []string{"gc"} }, tree.Dir.GCLock, exitFailed},
		{"the secret", func(tree.Dir, string) []string { return []string{"serve", "--auth.enabled=false"} },
			tree.Dir.Secret, exitFailed},
		{"the log of the index", func(tree.Dir, string) []string { return []string{"serve", "--auth.enabled=false"} },
			func(dir tree.Dir) string { return dir.Index() + "-wal" }, exitFailed},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			dir := tree.Dir(t.TempDir())
			if err := errors.Join(os.MkdirAll(dir.Native(layout.Root), 0o755), os.Mkdir(dir.Metadata(), 0o700),
				os.WriteFile(in(dir, "ok"), nil, 0o600), os.WriteFile(dir.Htpasswd(), []byte("bob:x\n"),
					0o600)); err != nil {
				t.Fatal(err)
			}
			path := in(dir, "pipe")
			if tt.path != nil {
				path = tt.path(dir)
			}
			namedPipe(t, path)
			args := append(tt.args(dir, path), "--storage.directory", string(dir))
			if args[0] == "serve" {
				args = append(args, "--server.address", "127.0.0.1", "--server.port", "0", "--debug.address", "")
			}
			code, said := within(t, args...)
			if code != tt.code || !strings.Contains(said, path) || !strings.Contains(said, "not a regular file") {
				t.Errorf("exit code %d, want %d, and a message that names %s:\n%s", code, tt.code, path, said)
			}
		})
	}
}

// TestAPipeInTheTreeIsRefusedAndHoldsUpNothing asks a server for what became a pipe since it was pushed. The
// answer comes at once, and so does the end of the server.
func TestAPipeInTheTreeIsRefusedAndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	dir := tree.Dir(s.dir)
	client := &http.Client{Timeout: patience}
	ask := func(what, method, path string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+s.host+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s: %s", what, resp.Status)
		}
	}
	for what, tt := range map[string]struct {
		path func(repo string, manifest, layer digest.Digest) layout.Path
		ask  string
	}{
		"manifest": {func(_ string, m, _ digest.Digest) layout.Path {
			return layout.Path{Kind: layout.BlobData,
				Digest: m}
		}, "/manifests/v1"},
		"tag": {func(repo string, _, _ digest.Digest) layout.Path {
			return layout.Path{Kind: layout.TagLink, Repository: repo, Tag: "v1"}
		}, "/manifests/v1"},
		"layer": {func(_ string, _, l digest.Digest) layout.Path {
			return layout.Path{Kind: layout.BlobData,
				Digest: l}
		}, "/blobs/"},
	} {
		img := s.push(what + ":v1")
		manifest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		layer := digest.Digest(m.Layers[0].Digest.String())
		namedPipe(t, dir.File(tt.path(what, digest.Digest(manifest.String()), layer)))
		if what == "layer" {
			tt.ask += layer.String()
		}
		ask(what, http.MethodGet, "/v2/"+what+tt.ask)
	}
	resp, err := client.Post("http://"+s.host+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	location := resp.Header.Get("Location")
	id := filepath.Base(strings.SplitN(location, "?", 2)[0])
	if uuid.Validate(id) != nil {
		t.Fatalf("no upload: %s", location)
	}
	if i := strings.Index(location, "/v2/"); i > 0 {
		location = location[i:]
	}
	namedPipe(t, dir.File(layout.Path{Kind: layout.UploadStartedAt, Repository: "app", Upload: id}))
	ask("when an upload began", http.MethodPatch, location)

	if code, said := within(t, "gc", "--storage.directory", s.dir); code != exitDone {
		t.Errorf("gc beside the server: exit code %d\n%s", code, said)
	}
	if code := s.stop(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	again := startServer(t, s.dir)
	again.await(func() bool { return strings.Contains(again.log.String(), "index matches the disk") },
		"the index is compared")
	if code := again.stop(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit code %d of the next server", code)
	}
}
