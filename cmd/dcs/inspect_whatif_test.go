package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/reuse"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// judged is what was recorded of a farm: a hundred images of 100 MiB, pulled in turn every day, and one that is pulled
// every hour. One was removed, and was asked for then.
func judged(t *testing.T) inspect.WhatIf {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := reuse.New(1<<20, nil, func() time.Time { return now })
	const size = 100 << 20
	k := func(n int) reuse.Key { return reuse.OfDigest(digest.FromString(fmt.Sprint(n))) }
	s.Named(reuse.OfTag("app", "old"), size)
	for n := range 100 {
		s.Pushed(k(n), size)
	}
	for range 24 * 10 {
		now = now.Add(time.Hour)
		s.Pulled(k(1000), size, size)
		for n := range 4 {
			s.Pulled(k((now.Hour()*4+n)%100), size, size)
		}
	}
	s.Missed(reuse.OfTag("app", "old"))
	r, err := reuse.Decode(s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return inspect.Judge(r, 60*size)
}

func writtenWhatIf(t *testing.T, w inspect.WhatIf, format string, to display) string {
	t.Helper()
	var out bytes.Buffer
	to.to = &out
	if err := writeWhatIf(w, format, to); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWhatIfTables(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	w := judged(t)
	lines := ui.BranchesFor(func(string) string { return "C.UTF-8" })
	for width, branches := range map[int]ui.Branches{0: {}, 80: lines, 120: lines} {
		out := writtenWhatIf(t, w, formatTable, display{width: width, branches: branches})
		golden(t, fmt.Sprintf("inspect/what-if-%d.txt", width), out)
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
}

// TestWhatIfOfAnEmptyStore judges ttls, and no budgets.
func TestWhatIfOfAnEmptyStore(t *testing.T) {
	w := judged(t)
	w.BySize, w.Present = nil, 0
	out := writtenWhatIf(t, w, formatTable, display{})
	if strings.Contains(out, "max_size") || strings.Contains(out, "by budget") || !strings.Contains(out, "by ttl") {
		t.Error(out)
	}
}

// TestWhatIfForPrograms holds the keys that programs read.
func TestWhatIfForPrograms(t *testing.T) {
	w := judged(t)
	var got struct {
		From   string  `json:"recorded_from"`
		To     string  `json:"recorded_to"`
		Pulls  int64   `json:"pulls"`
		Bytes  int64   `json:"bytes"`
		BySize []ratio `json:"by_size"`
		ByTTL  []ratio `json:"by_ttl"`
	}
	if err := json.Unmarshal([]byte(writtenWhatIf(t, w, formatJSON, display{})), &got); err != nil {
		t.Fatal(err)
	}
	if got.From != "2026-03-01T12:00:00.000Z" || got.To != "2026-03-11T12:00:00.000Z" || got.Pulls != 1201 ||
		got.Bytes != 1201*100<<20 || len(got.BySize) != 5 || len(got.ByTTL) != 6 {
		t.Errorf("%+v", got)
	}
	const present = 60 * 100 << 20
	csv := "max_size,ttl_seconds,hit_ratio,byte_hit_ratio\n"
	for i, b := range got.BySize {
		if b.MaxSize != present/4<<i || b.Bytes < 0 || b.Bytes > 1 {
			t.Errorf("%+v", b)
		}
		csv += fmt.Sprintf("%d,,%.4f,%.4f\n", b.MaxSize, b.Pulls, b.Bytes)
	}
	for i, b := range got.ByTTL {
		if b.Seconds != []int64{1, 3, 7, 14, 30, 90}[i]*86400 || i > 0 && b.Bytes < got.ByTTL[i-1].Bytes {
			t.Errorf("%+v", b)
		}
		csv += fmt.Sprintf(",%d,%.4f,%.4f\n", b.Seconds, b.Pulls, b.Bytes)
	}
	if got := writtenWhatIf(t, w, formatCSV, display{}); got != csv {
		t.Errorf("got %s want %s", got, csv)
	}
}

type ratio struct {
	MaxSize int64   `json:"max_size"`
	Seconds int64   `json:"ttl_seconds"`
	Pulls   float64 `json:"hit_ratio"`
	Bytes   float64 `json:"byte_hit_ratio"`
}

// TestWhatIfReadsWhatAServerRecorded, without a server and beside one, and draws it as the output can show it.
func TestWhatIfReadsWhatAServerRecorded(t *testing.T) {
	s := startServer(t, t.TempDir(), "--cache.cleanup_interval", "0")
	pulls := func() (n int64) {
		t.Helper()
		code, out, stderr := dcs(t, "inspect", "--what-if", "--format", "json", "--storage.directory", s.dir)
		var w struct{ Pulls int64 }
		if err := json.Unmarshal([]byte(out), &w); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s%s", code, err, out, stderr)
		}
		return w.Pulls
	}
	if n := pulls(); n != 0 {
		t.Errorf("%d pulls before the first one", n)
	}
	if _, out, _ := dcs(t, "inspect", "--what-if", "--storage.directory", s.dir); !strings.HasPrefix(out, "no") {
		t.Errorf("nothing is recorded, and it says %s", out)
	}
	s.push("app:v1")
	if err := s.pull("app:v1"); err != nil {
		t.Fatal(err)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Fatalf("exit %d after SIGTERM", code)
	}
	want := pulls()
	if want < 3 {
		t.Errorf("%d pulls of a manifest, a config and layers", want)
	}
	for locale, lines := range map[string]bool{"C.UTF-8": true, "C": false} {
		screen := onScreen(t, 80, []string{"LC_ALL=" + locale}, "inspect", "--what-if", "--storage.directory", s.dir)
		if code := screen.end(); code != 0 || strings.Contains(screen.out.String(), "│") != lines ||
			!strings.Contains(screen.out.String(), "\x1b[") {
			t.Errorf("%s: exit %d\n%s", locale, code, screen.out.String())
		}
		for _, line := range screen.lines() {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\r")); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
	t.Setenv("LC_ALL", "C.UTF-8")
	if _, out, _ := dcs(t, "inspect", "--what-if", "--storage.directory", s.dir); strings.Contains(out, "│") ||
		!strings.Contains(out, "100 % |") {
		t.Errorf("through a pipe:\n%s", out)
	}
	file := filepath.Join(s.dir, ".metadata/reuse")
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm()&0o022 != 0 {
		t.Errorf("%v, %v", fi, err)
	}
	startServer(t, s.dir)
	if n := pulls(); n != want {
		t.Errorf("beside a server %d pulls; want %d", n, want)
	}
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := dcs(t, "inspect", "--what-if", "--storage.directory", s.dir); code != 1 ||
		!strings.Contains(stderr, ".metadata/reuse: it is no recording") || !strings.Contains(stderr, "hint: a running") {
		t.Errorf("a damaged file: exit %d, %s", code, stderr)
	}
}
