package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pins is dcs inspect --pins, as a script reads it.
type pins struct {
	Summary struct {
		Pins     int
		Complete bool
	}
	Pins []struct {
		Repository, Tag, Digest, Note string
		Until                         *time.Time
		Missing                       bool
	}
}

func pinsOf(t *testing.T, dir string) (p pins) {
	t.Helper()
	code, out, stderr := dcs(t, "inspect", "--pins", "--storage.directory", dir, "--format", "json")
	if err := json.Unmarshal([]byte(out), &p); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	return p
}

// TestAPinKeepsAnImage beside a server and without one, past the ttl and the loss of the index.
func TestAPinKeepsAnImage(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir(), "--cache.grace", "1ms", "--cache.cleanup_interval", "0")
	img := s.push("team/app:v1")
	s.push("team/app:v2")
	s.push("team/app:v3")
	dgst, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	run := func(want int, says string, args ...string) {
		t.Helper()
		code, _, stderr := dcs(t, append(args, "--storage.directory", s.dir)...)
		if code != want || !strings.Contains(stderr, says) {
			t.Errorf("%v: exit code %d, %q; want %d, %q", args, code, stderr, want, says)
		}
	}
	run(0, "pinned team/app:v1\n", "pin", "team/app:v1")
	run(0, "changed the pin of team/app:v1 until 2", "pin", "team/app:v1", "--until", "30d", "--note", "audit")
	run(0, "pinned team/app@"+dgst.String(), "pin", "team/app@"+dgst.String()[:19])
	run(0, "pinned team/app:v2", "pin", "team/app:v2", "--until", time.Now().Add(time.Hour).Format(time.RFC3339))
	run(2, "after the year 9999", "pin", "team/app:v2", "--until", "9999-12-31")
	run(2, "is in the past", "pin", "team/app:v2", "--until", "0000-12-31")
	run(1, "did you mean team/app", "pin", "team/ap:v1")
	run(1, "has no tag v9", "pin", "team/app:v9")
	run(1, "has no tag latest", "pin", "team/app")
	run(2, "is in the past", "pin", "team/app:v1", "--until", "2020-01-01")
	run(2, "is over at once", "pin", "team/app:v1", "--until", "0")
	run(2, "neither a duration nor a date", "pin", "team/app:v1", "--until", "soon")
	run(2, "control characters", "pin", "team/app:v1", "--note", "a\nb")
	run(2, "NAME is missing", "pin")
	run(1, "did you mean team/app:v2", "unpin", "team/app:v1", "team/app:v2x")
	p := pinsOf(t, s.dir)
	if len(p.Pins) != 3 || p.Summary.Pins != 3 || !p.Summary.Complete || p.Pins[0].Tag != "" || p.Pins[1].Note != "audit" ||
		p.Pins[1].Until == nil || p.Pins[1].Digest != dgst.String() {
		t.Errorf("pins: %+v", p)
	}
	if rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms"); len(rep.Images) != 1 || rep.Images[0].Tag != "v3" {
		t.Errorf("removed %+v", rep.Images)
	}
	run(0, "unpinned team/app:v2", "unpin", "team/app:v2")
	run(1, "team/app:v2 is not pinned", "unpin", "team/app:v2")
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if err := os.Remove(filepath.Join(s.dir, ".metadata", "index.db")); err != nil {
		t.Fatal(err)
	}
	run(0, "changed the pin of team/app:v1", "pin", "team/app:v1") // without server and index
	if rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1ms"); len(rep.Images) != 0 {
		t.Errorf("removed %+v", rep.Images) // it is adopted
	}
	if rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1ms"); len(rep.Images) != 1 || rep.Images[0].Tag != "v2" {
		t.Errorf("removed %+v", rep.Images)
	}
	run(0, "unpinned", "unpin", "team/app:v1", "team/app@"+dgst.String()[:19])
	if p := pinsOf(t, s.dir); len(p.Pins) != 0 {
		t.Errorf("pins: %+v", p)
	}
	if rep := gcJSON(t, "--storage.directory", s.dir, "--ttl", "1ms", "--grace", "1ms"); len(rep.Images) != 1 || rep.Images[0].Tag != "v1" {
		t.Errorf("removed %+v", rep.Images)
	}
}

// Processes that pin at once lose no pin.
func TestManyPinAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	tags := strings.Fields("a b c d e f")
	for _, tag := range tags {
		s.push("app:" + tag)
	}
	var all sync.WaitGroup
	for _, tag := range tags {
		all.Go(func() {
			if code, _, stderr := dcs(t, "pin", "app:"+tag, "--storage.directory", s.dir); code != 0 {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
	all.Wait()
	if p := pinsOf(t, s.dir); len(p.Pins) != len(tags) {
		t.Errorf("pins: %+v", p)
	}
}

// A file of pins that cannot be read stops a clean-up, which says what to do, and is not replaced.
func TestAFileOfPinsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.push("app:v1")
	file := filepath.Join(s.dir, ".metadata", "pins.json")
	if err := os.WriteFile(file, []byte(`{"pins":[`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"gc", "--ttl", "1ms"}, {"gc", "--dry-run"}, {"pin", "app:v1"}, {"unpin", "app:v1"}} {
		code, _, stderr := dcs(t, append(args, "--storage.directory", s.dir)...)
		if code != 1 || !strings.Contains(stderr, "the pins cannot be read: "+file) || !strings.Contains(stderr, "mend the file") {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != `{"pins":[` {
		t.Errorf("the file has %q, %v", data, err)
	}
	if code, out, stderr := dcs(t, "inspect", "--pins", "--storage.directory", s.dir); code != 0 || out != "no pins\n" ||
		!strings.Contains(stderr, "cannot be") {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

// Pins as a table and as CSV.
func TestPinsAreListed(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	s.push("team/app:v1")
	s.push("other:v1")
	for _, name := range []string{"team/app:v1", "other:v1"} {
		if code, _, stderr := dcs(t, "pin", name, "--note", "it, \"too\"", "--storage.directory", s.dir); code != 0 {
			t.Fatal(stderr)
		}
	}
	list := func(args ...string) (int, string) {
		code, out, stderr := dcs(t, append(args, "--storage.directory", s.dir)...)
		return code, out + stderr
	}
	if code, out := list("inspect", "--pins"); code != 0 || !strings.Contains(out, "ENDS") || !strings.HasSuffix(out, "\n2 pins\n") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out := list("inspect", "--pins", "--repository", "team/*", "--format", "csv")
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[1], "team/app,v1,sha256:") ||
		!strings.HasSuffix(lines[1], `,"it, ""too"""`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	for _, args := range [][]string{{"--images"}, {"--sort", "name"}, {"--check"}, {"team/app:v1"}} {
		if code, out := list(append([]string{"inspect", "--pins"}, args...)...); code != 2 {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
	if code, out := list("inspect", "team/app:v1"); code != 0 || !strings.Contains(out, "pinned") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
