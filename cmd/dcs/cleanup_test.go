package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// TestAServerThatIsRestartedAgainAndAgainCleansUp though it never lives as long as the interval.
func TestAServerThatIsRestartedAgainAndAgainCleansUp(t *testing.T) {
	t.Parallel()
	dir, flags := t.TempDir(), []string{"--cache.ttl", "1s", "--cache.grace", "1s", "--cache.cleanup_interval", "3s"}
	s := startServer(t, dir, append(flags, "--cache.cleanup_interval", "0")...) // a push may take longer than the grace
	s.push("app:v1")
	kept := filepath.Join(dir, "docker/registry/v2/repositories/app")
	for deadline := time.Now().Add(patience); ; {
		if code := s.stop(syscall.SIGTERM); code != 0 {
			t.Fatalf("exit %d", code)
		}
		if isMissing(kept) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no server of many has cleaned up")
		}
		s = startServer(t, dir, flags...)
		s.await(func() bool { return strings.Contains(s.log.String(), "index matches") }, "the gate opens")
		// Each lives for less than the interval, and for longer than the cleaner needs to see that the gate is open.
		for end := time.Now().Add(time.Second); time.Now().Before(end) && !isMissing(kept); {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

// bounded runs dcs and wants it to end by itself.
func bounded(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dcs", args...)
	cmd.Env = command().Env
	var out, errs output
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("dcs %v: %v (%v)\n%s%s", args, err, ctx.Err(), &out, &errs)
	}
	return out.String(), errs.String()
}

// held is what a report says of why nothing goes.
type held struct {
	HeldBy        string     `json:"held_by"`
	NothingBefore *time.Time `json:"nothing_before"`
	Removed       struct{ Tags, Manifests, Blobs, Uploads int64 }
	Remaining     struct{ Tags int64 }
}

func heldBy(t *testing.T, args ...string) (h held) {
	t.Helper()
	stdout, _ := bounded(t, append([]string{"gc", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNobodyWaitsForWhatTakesAnHour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stock := stock{t, tree.Dir(dir)}
	stock.push("old", "v1", 1000*time.Hour)
	s := startServer(t, dir, "--cache.adopt_age", "mtime")
	s.await(func() bool {
		return strings.Contains(s.log.String(),
			"existing images were imported with their file dates; nothing is removed for the next 1h1m")
	}, "the server says so")
	soonest := time.Now().Add(time.Hour)
	for _, flag := range []string{"--dry-run", "--dry-run=false"} {
		h := heldBy(t, "--storage.directory", dir, flag)
		if h.HeldBy != "file_dates" || h.NothingBefore == nil || h.NothingBefore.Before(soonest) ||
			h.Removed.Tags != 0 || h.Remaining.Tags != 1 {
			t.Errorf("%s: %+v", flag, h)
		}
	}
	if _, stderr := bounded(t, "gc", "--storage.directory", dir, "--dry-run"); !strings.Contains(stderr,
		"nothing can be removed before ") {
		t.Errorf("a dry run in a pipe says %q", stderr)
	}
	if stdout, stderr := bounded(t, "gc", "--storage.directory", dir); stdout+stderr != "" {
		t.Errorf("a run from cron says %q%q", stdout, stderr)
	}
	stdout, _ := bounded(t, "inspect", "--images", "--storage.directory", dir, "--format", "json")
	var list struct {
		Images []struct {
			ExpiresAt time.Time `json:"expires_at"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list.Images) != 1 ||
		list.Images[0].ExpiresAt.Before(soonest) {
		t.Errorf("inspect: %v, %s; nothing expires before %v", err, stdout, soonest)
	}
	s.stop(syscall.SIGKILL) // whoever comes next knows of it
	if h := heldBy(t, "--storage.directory", dir, "--dry-run"); h.HeldBy != "file_dates" {
		t.Errorf("after the server was killed: %+v", h)
	}
}

// TestADryRunSaysThatTheServerStillScansTheDisk holds the lock and the gate as a server does in its first seconds.
func TestADryRunSaysThatTheServerStillScansTheDisk(t *testing.T) {
	t.Parallel()
	s, lock := heldStore(t, tree.Holder{PID: os.Getpid()})
	dir := tree.Dir(s.dir)
	if h := heldBy(t, "--storage.directory", s.dir, "--dry-run"); h.HeldBy != "scan" {
		t.Errorf("while the server opens its index: %+v", h)
	}
	ix, err := sqlite.Open(t.Context(), dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := ix.CloseGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := lock.Announce(tree.Holder{PID: os.Getpid(), Index: ix.ID()}); err != nil {
		t.Fatal(err)
	}
	if h := heldBy(t, "--storage.directory", s.dir, "--dry-run"); h.HeldBy != "scan" || h.NothingBefore != nil ||
		h.Remaining.Tags != 1 {
		t.Errorf("while the server scans: %+v", h)
	}
	for _, kind := range []string{"--images", "--tags", "--histogram", "--images=false"} {
		if stdout, _ := bounded(t, "inspect", kind, "--storage.directory", s.dir); !strings.HasPrefix(stdout,
			"the index is being rebuilt from disk") {
			t.Errorf("inspect %s begins with %.60q", kind, stdout)
		}
		if stdout, _ := bounded(t, "inspect", kind, "--storage.directory", s.dir, "--format",
			"json"); !strings.Contains(stdout, `"complete":false}`) {
			t.Errorf("inspect %s: %s", kind, stdout)
		}
		if _, stderr := bounded(t, "inspect", kind, "--storage.directory", s.dir, "--format",
			"csv"); !strings.Contains(stderr, "incomplete") {
			t.Errorf("inspect %s as csv says %q", kind, stderr)
		}
	}
	cmd := command("gc", "--storage.directory", s.dir) // a run waits, and says for what
	var errs output
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(errs.String(),
		"waiting for the server to finish scanning the disk"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a run says %q", &errs)
		}
	}
	token, err := ix.CloseGate(t.Context())
	if err == nil {
		_, err = ix.OpenGate(t.Context(), token)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the run: %v, %s", err, &errs)
	}
}

func TestTheLogSaysWhatWasRemovedAndByWhom(t *testing.T) {
	t.Parallel()
	// What is deleted here must not have expired by then.
	s := startServer(t, t.TempDir(), "--log.format", "json", "--cache.ttl", "10s", "--cache.grace", "5s",
		"--cache.cleanup_interval", "300ms")
	s.push("idle:v1")
	img := s.push("deleted:v1")
	s.push("deleted:v2")
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"v2", d.String()} {
		if status, body := s.request("DELETE", "/v2/deleted/manifests/"+reference, nil, ""); status != 202 {
			t.Fatalf("DELETE %s: %d %s", reference, status, body)
		}
	}
	line := func(words ...string) {
		t.Helper()
		s.await(func() bool {
			for _, l := range strings.Split(s.log.String(), "\n") {
				var fields map[string]any
				ok := json.Unmarshal([]byte(l), &fields) == nil && fields["level"] == "info"
				for _, w := range words {
					ok = ok && strings.Contains(l, w)
				}
				if ok {
					return true
				}
			}
			return false
		}, fmt.Sprintf("a line with %q", words))
	}
	line(`"msg":"a client deleted a tag"`, `"repository":"deleted"`, `"tag":"v2"`, `"user":""`)
	line(`"msg":"a client deleted a manifest"`, `"repository":"deleted"`, `"tags":"v1"`, `"digest":"`+d.String()+`"`)
	line(`"msg":"removed image"`, `"repository":"idle"`, `"tag":"v1"`, `"digest":"sha256:`, `"last_access":"20`,
		`"reason":"ttl"`, `"bytes":`)
	line(`"msg":"clean-up done: removed `, `"images":`, `"tags":`, `"blobs":`, `"bytes":`, `"duration_ms":`)
}

func TestAShortTTLIsNotIgnoredInSilence(t *testing.T) {
	t.Parallel()
	const warning = "ttl 10m has no effect below the grace of 1h"
	s := startServer(t, t.TempDir(), "--cache.ttl", "10m")
	s.await(func() bool { return strings.Contains(s.log.String(), "level=warning msg=\""+warning) }, "the server warns")
	s.push("app:v1")
	for _, flag := range []string{"--dry-run", "--dry-run=false"} {
		if _, stderr := bounded(t, "gc", "--storage.directory", s.dir, "--ttl", "1s", flag); !strings.Contains(stderr,
			"ttl 1s has no effect below the grace of 1h") {
			t.Errorf("gc %s says %q", flag, stderr)
		}
	}
	if _, stderr := bounded(t, "gc", "--storage.directory", s.dir); stderr != "" {
		t.Errorf("gc by the server's own policy says %q, and cron sends a mail each time", stderr)
	}
	if _, stderr := bounded(t, "gc", "--storage.directory", s.dir, "--ttl", "1h"); stderr != "" {
		t.Errorf("gc with a ttl that counts says %q", stderr)
	}
	long := startServer(t, t.TempDir(), "--cache.ttl", "0")
	long.await(func() bool { return strings.Contains(long.log.String(), "serving") }, "the server serves")
	if strings.Contains(long.log.String(), "no effect") {
		t.Errorf("a ttl of 0 is for ever")
	}
}

// What is due goes with the next clean-up: inspect says when that is, as long as somebody is there to do it.
func TestInspectTellsWhenTheServerCleansUpNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	next := func(list string) (at *time.Time) {
		t.Helper()
		stdout, _ := bounded(t, "inspect", list, "--storage.directory", dir, "--format", "json")
		var found struct {
			Summary struct {
				Next *time.Time `json:"next_cleanup_at"`
			} `json:"summary"`
		}
		if err := json.Unmarshal([]byte(stdout), &found); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		return found.Summary.Next
	}
	text := func() string {
		t.Helper()
		stdout, _ := bounded(t, "inspect", "--images", "--storage.directory", dir)
		return stdout
	}

	s := startServer(t, dir, "--cache.cleanup_interval", "3h")
	s.push("app:v1")
	s.await(func() bool { // the first run is at once, and the next is three hours after that
		at := next("--images")
		return at != nil && time.Until(*at) > 2*time.Hour
	}, "the next clean-up is known")
	for _, list := range []string{"--images", "--tags", "--histogram"} {
		if at := next(list); at == nil || time.Until(*at) > 3*time.Hour {
			t.Errorf("%s: the next clean-up is at %v", list, at)
		}
	}
	if out := text(); !strings.HasSuffix(out, "\nnext clean-up in 2 hours\n") {
		t.Errorf("people are not told:\n%s", out)
	}
	s.stop(syscall.SIGKILL)
	if at, out := next("--images"), text(); at != nil || strings.Contains(out, "next clean-up in") {
		t.Errorf("nobody is there to do it at %v:\n%s", at, out)
	}

	s = startServer(t, dir, "--cache.cleanup_interval", "0")
	s.await(func() bool { return strings.Contains(s.log.String(), "index matches") }, "the gate opens")
	s.await(func() bool { return next("--images") == nil }, "a server that does not clean up says so")
	if out := text(); strings.Contains(out, "next clean-up in") {
		t.Errorf("a server that does not clean up:\n%s", out)
	}
}
