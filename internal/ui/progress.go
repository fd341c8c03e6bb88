package ui

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/dustin/go-humanize"
)

// Step says how far a command is. The zero Step draws nothing.
type Step struct {
	What  string // what the command is doing: "removing"
	Done  int64  // objects
	Total int64  // objects; 0: not known, and no bar is drawn
	Bytes int64  // of the objects that are done; 0: not shown
}

const (
	// patience is how long nothing is drawn. Most commands end before that.
	patience = 500 * time.Millisecond
	// frame is the time between two drawings of the line.
	frame = 100 * time.Millisecond

	longestBar, shortestBar = 40, 8 // columns of the screen
	wipe                    = "\r\x1b[K"
)

// Progress draws one line at the bottom of a terminal that says how far a command is. Other lines for that terminal are
// written through it, so that they and the drawn line do not tear each other. Without a terminal it draws nothing and
// writes those lines as they are. Its methods may be called from several goroutines.
type Progress struct {
	out    io.Writer
	width  func() int
	styles styleSet
	stop   chan struct{} // closed by Close; nil: out is no terminal, and nothing is drawn
	end    sync.Once     // closes stop
	drawer sync.WaitGroup

	mu    sync.Mutex // guards the rest; also held while out is written, which keeps the order of lines
	step  Step
	shown bool // the line is on the screen
}

// NewProgress draws on out if it is a terminal that can wipe a line. It starts a goroutine that draws; Close ends it.
func NewProgress(out io.Writer, getenv func(string) string) *Progress {
	p := &Progress{out: out, width: func() int { return Width(out, getenv) }, styles: styles(out, Colour(out, getenv))}
	if Terminal(out) && getenv("TERM") != "dumb" {
		p.stop = make(chan struct{})
		p.drawer.Go(p.run)
	}
	return p
}

// Show sets the step that is drawn next. It is cheap enough to be called for every object. The zero Step wipes the line
// at once.
func (p *Progress) Show(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = s
	if s.What == "" {
		p.wipeLocked()
	}
}

// Write writes lines above the drawn one.
func (p *Progress) Write(b []byte) (int, error) { return p.writeTo(p.out, b) }

func (p *Progress) writeTo(out io.Writer, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	again := p.shown
	p.wipeLocked()
	n, err := out.Write(b)
	if again && strings.HasSuffix(string(b), "\n") {
		p.drawLocked()
	}
	return n, err
}

// Above returns a writer for another stream. If that stream is a terminal too, it may be the one on which the line is
// drawn: then the writer writes above the line, as Write does.
func (p *Progress) Above(to io.Writer) io.Writer {
	if p.stop == nil || !Terminal(to) {
		return to
	}
	return above{p, to}
}

type above struct {
	line *Progress
	to   io.Writer
}

func (a above) Write(b []byte) (int, error) { return a.line.writeTo(a.to, b) }

// Close wipes the line and draws no more. It may be called more than once, and Write still works after it.
func (p *Progress) Close() {
	if p.stop == nil {
		return
	}
	p.end.Do(func() { close(p.stop) })
	p.drawer.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipeLocked()
}

func (p *Progress) run() {
	for wait := patience; ; wait = frame {
		select {
		case <-p.stop:
			return
		case <-time.After(wait):
			p.draw()
		}
	}
}

func (p *Progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drawLocked()
}

// drawLocked draws over the last line, so that it does not flicker. It ignores errors: a command goes on if its
// terminal is closed.
func (p *Progress) drawLocked() {
	if p.step.What == "" {
		return
	}
	width := p.width()
	if width <= 0 {
		width = 80
	}
	_, _ = io.WriteString(p.out, "\r"+p.line(width-1)+"\x1b[K") // in the last column a terminal would wrap
	p.shown = true
}

func (p *Progress) wipeLocked() {
	if p.shown {
		_, _ = io.WriteString(p.out, wipe)
		p.shown = false
	}
}

// line writes the step in at most width columns: what is done, a bar if the total is known, and numbers.
func (p *Progress) line(width int) string {
	s := p.step
	if s.Total <= 0 {
		return cut(join(s.What, numbers(s, "")), width)
	}
	done := min(s.Done, s.Total)
	percent := fmt.Sprintf("%3d%%", 100*done/s.Total)
	numbers := numbers(s, " of "+humanize.Comma(s.Total))
	room := min(longestBar, width-lipgloss.Width(join(s.What, "[]", percent, numbers))) // between the brackets
	if room < shortestBar {
		return cut(join(s.What, percent, numbers), width)
	}
	full := int(int64(room) * done / s.Total)
	bar := "[" + p.styles.render(strings.Repeat("#", full), Good) + strings.Repeat("-", room-full) + "]"
	return join(s.What, bar, percent, numbers)
}

func numbers(s Step, of string) string {
	var parts []string
	if s.Done > 0 || of != "" {
		parts = append(parts, humanize.Comma(s.Done)+of)
	}
	if s.Bytes > 0 {
		parts = append(parts, Bytes(s.Bytes))
	}
	return strings.Join(parts, ", ")
}

// join puts two blanks between the parts that are not empty.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")
}
