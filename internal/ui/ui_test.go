package ui

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestAges(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		d       time.Duration
		ago, in string
	}{
		{-time.Hour, "just now", "now"}, {0, "just now", "now"}, {time.Millisecond, "just now", "in a moment"},
		{time.Second, "1 second ago", "in 1 second"}, {59 * time.Second, "59 seconds ago", "in 59 seconds"},
		{time.Minute, "1 minute ago", "in 1 minute"}, {2 * time.Minute, "2 minutes ago", "in 2 minutes"},
		{time.Hour, "1 hour ago", "in 1 hour"}, {47 * time.Hour, "47 hours ago", "in 47 hours"},
		{2 * day, "2 days ago", "in 2 days"}, {4*day - 1, "3 days ago", "in 3 days"},
		{99 * day, "99 days ago", "in 99 days"},
		{100 * day, "3 months ago", "in 3 months"}, {800 * day, "2 years ago", "in 2 years"},
	} {
		if ago, in := Ago(now.Add(-tt.d), now), In(now.Add(tt.d), now); ago != tt.ago || in != tt.in {
			t.Errorf("%s: %q, %q", tt.d, ago, in)
		}
	}
	if Ago(time.Time{}, now) != "never" || In(time.Time{}, now) != "never" {
		t.Error("the zero time is never")
	}
}

func TestBytesCountsAndDigests(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0 B", Bytes(120): "120 B", Bytes(3 << 29): "1.5 GiB", Bytes(-2048): "-2.0 KiB",
		Count(1, "tag"): "1 tag", Count(0, "blob"): "0 blobs", Count(12345, "blob"): "12,345 blobs",
		ShortDigest("sha256:1a2b3c4d5e6f7a8b", 12): "sha256:1a2b3c4d5e6f",
		ShortDigest("sha256:1a", 12):               "sha256:1a", ShortDigest("", 12): "",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTableFits(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "NAME", Flexible: true}, {Title: "SIZE", Right: true}, {Title: "NOTE", Drop: 1}},
		Rows:    [][]Cell{Text("a-very-long-name", "1 B", "noted"), Text("b", "10 KiB", "")},
	}
	for width, want := range map[int]string{
		0:  "NAME                SIZE  NOTE\na-very-long-name     1 B  noted\nb                 10 KiB\n",
		31: "NAME                SIZE  NOTE\na-very-long-name     1 B  noted\nb                 10 KiB\n",
		25: "NAME          SIZE  NOTE\na-very-lo…     1 B  noted\nb           10 KiB\n",
		22: "NAME              SIZE\na-very-long-n…     1 B\nb               10 KiB\n",
		1:  "NAME        SIZE\na-very-…     1 B\nb         10 KiB\n",
	} {
		var out bytes.Buffer
		if err := table.Write(&out, width, false); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("width %d: got\n%swant\n%s", width, got, want)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if width >= 16 && utf8.RuneCountInString(line) > width {
				t.Errorf("width %d: %q has %d", width, line, len(line))
			}
		}
	}
}

func TestWideCharactersAreAligned(t *testing.T) {
	var out bytes.Buffer
	table := Table{Columns: []Column{{Title: "A", Flexible: true, Min: 4}, {Title: "B"}},
		Rows: [][]Cell{Text("이미지들", "x"), Text("plain", "y")}}
	if err := table.Write(&out, 10, false); err != nil {
		t.Fatal(err)
	}
	if want := "A        B\n이미지…  x\nplain    y\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestColourMovesNothing(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A", Right: true}, {Title: "B"}},
		Rows: [][]Cell{{{Text: "1", Tone: Alert}, {Text: "x", Tone: Faint}}}}
	var plain, coloured bytes.Buffer
	if err := table.Write(&plain, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(&coloured, 0, true); err != nil {
		t.Fatal(err)
	}
	stripped := coloured.String()
	for _, code := range []string{"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"} {
		if !strings.Contains(stripped, code) {
			t.Errorf("no %q in %q", code, coloured.String())
		}
		stripped = strings.ReplaceAll(stripped, code, "")
	}
	if stripped != plain.String() {
		t.Errorf("%q and %q", stripped, plain.String())
	}
}

func TestWhatATerminalIs(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for _, p := range pairs {
				if v, ok := strings.CutPrefix(p, name+"="); ok {
					return v
				}
			}
			return ""
		}
	}
	var buffer bytes.Buffer
	if Width(&buffer, env()) != 0 || Width(&buffer, env("COLUMNS=99")) != 99 ||
		Width(&buffer, env("COLUMNS=wide")) != 0 ||
		Colour(&buffer, env()) {
		t.Error("a buffer is no terminal")
	}
	tty := openTerminal(t, 123)
	if w := Width(tty, env()); w != 123 {
		t.Errorf("the terminal has %d columns", w)
	}
	if !Colour(tty, env("TERM=xterm")) || Colour(tty, env("NO_COLOR=1")) || Colour(tty, env("TERM=dumb")) ||
		Width(tty, env("COLUMNS=80")) != 80 {
		t.Error("the environment does not count")
	}
}

// openTerminal returns a pseudo terminal of so many columns.
func openTerminal(t *testing.T, columns uint16) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Skip(err)
	}
	return f
}
