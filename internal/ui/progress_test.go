package ui

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
)

func TestProgressFitsTheScreen(t *testing.T) {
	removing := Step{What: "removing", Done: 1234, Total: 2500, Bytes: 3 << 29}
	for _, tt := range []struct {
		step  Step
		width int
		want  string
	}{
		{removing, 100, "removing  [###################---------------------]   49%  1,234 of 2,500, 1.5 GiB"},
		{removing, 60, "removing  [########---------]   49%  1,234 of 2,500, 1.5 GiB"},
		{removing, 45, "removing   49%  1,234 of 2,500, 1.5 GiB"},
		{removing, 20, "removing   49%  1,2…"},
		{Step{What: "removing", Total: 10}, 60, "removing  [---------------------------------]    0%  0 of 10"},
		{Step{What: "removing", Done: 12, Total: 10}, 40, "removing  [############]  100%  12 of 10"},
		{Step{What: "planning", Done: 12345}, 80, "planning  12,345"},
		{Step{What: "waiting"}, 80, "waiting"},
		{Step{What: "comparing the index with the disk", Done: 5}, 16, "comparing the i…"},
	} {
		p := Progress{step: tt.step}
		got := p.line(tt.width)
		if got != tt.want {
			t.Errorf("%+v in %d columns:\n%q, want\n%q", tt.step, tt.width, got, tt.want)
		}
		if n := lipgloss.Width(got); n > tt.width {
			t.Errorf("%q has %d columns of %d", got, n, tt.width)
		}
	}
}

// wide is a bar on a buffer, drawn when a test says so.
func wide(out *bytes.Buffer) *Progress {
	return &Progress{out: out, width: func() int { return 80 }}
}

func TestWhatIsWrittenIsNotTornByTheBar(t *testing.T) {
	var out bytes.Buffer
	p := wide(&out)
	write := func(text string) {
		t.Helper()
		if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	write("before\n")
	p.draw() // nothing to say yet
	p.Show(Step{What: "planning"})
	write("still before\n")
	p.draw()
	p.Show(Step{What: "removing", Done: 1, Total: 4})
	write("while it stands\n")
	write("a line in two ")
	write("parts\n")
	p.draw()
	p.Close() // draws nothing more; there is no terminal
	const bar = "\rremoving  [##########------------------------------]   25%  1 of 4\x1b[K"
	want := "before\nstill before\n" + "\rplanning\x1b[K" + wipe + "while it stands\n" + bar +
		wipe + "a line in two parts\n" + bar
	if out.String() != want {
		t.Errorf("got\n%q, want\n%q", out.String(), want)
	}
}

func TestProgressIsForTerminalsOnly(t *testing.T) {
	none := func(string) string { return "" }
	var out bytes.Buffer
	p := NewProgress(&out, none)
	p.Show(Step{What: "planning"})
	if _, err := p.Write([]byte("a line\n")); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if out.String() != "a line\n" || p.stop != nil {
		t.Errorf("got %q", out.String())
	}
	dumb := NewProgress(openTerminal(t, 80), func(name string) string {
		return map[string]string{"TERM": "dumb"}[name]
	})
	if dumb.stop != nil {
		t.Error("a dumb terminal cannot wipe a line")
	}
}

func TestProgressEndsOnceAndLeavesNothing(t *testing.T) {
	p := NewProgress(openTerminal(t, 80), func(string) string { return "" })
	p.Show(Step{What: "planning"})
	p.draw()
	p.Close()
	p.Close()
	if p.shown {
		t.Error("the line still stands")
	}
	select {
	case <-p.stop:
	default:
		t.Error("the drawer was not stopped")
	}
}

func TestColourOfTheBarMovesNothing(t *testing.T) {
	var out bytes.Buffer
	step := Step{What: "removing", Done: 1, Total: 2}
	plain, coloured := Progress{step: step}, Progress{step: step, styles: styles(&out, true)}
	got := coloured.line(60)
	if !strings.Contains(got, "\x1b[32m") || lipgloss.Width(got) != lipgloss.Width(plain.line(60)) {
		t.Errorf("%q and %q", got, plain.line(60))
	}
	if strings.Contains(plain.line(60), "\x1b") {
		t.Errorf("%q is not plain", plain.line(60))
	}
}

// broken is a terminal that was closed.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestATerminalThatIsGoneIsNoFailure(t *testing.T) {
	p := &Progress{out: broken{}, width: func() int { return 0 }}
	p.Show(Step{What: "planning"})
	p.draw()
	p.Close()
}
