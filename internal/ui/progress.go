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

// Step says how far something is that takes a while.
type Step struct {
	What  string // is being done
	Done  int64  // objects
	Total int64  // objects; 0: nobody knows, and there is no bar
	Bytes int64  // 0: none to speak of
}

const (
	// patience is how long nothing is drawn: most runs are over by then.
	patience = 500 * time.Millisecond
	// frame is how long a line stands before it is drawn again.
	frame = 100 * time.Millisecond

	longestBar, shortestBar = 40, 8 // columns of the screen
	wipe                    = "\r\x1b[K"
)

// Progress draws one line at the bottom of a terminal that says how far something is. What else goes to
// that terminal meanwhile is written through it, so that neither tears the other. Without a terminal it
// draws nothing and passes on what is written.
type Progress struct {
	out    io.Writer
	width  func() int
	styles styleSet
	stop   chan struct{} // closed by Close; nil: nothing is ever drawn
	end    sync.Once     // closes stop
	drawer sync.WaitGroup

	mu    sync.Mutex // guards the rest, and the order of what goes to out: held while it is written
	step  Step
	shown bool // the line stands on the screen
}

// NewProgress draws on out, if that is a terminal that can. Close ends it.
func NewProgress(out io.Writer, getenv func(string) string) *Progress {
	p := &Progress{out: out, width: func() int { return Width(out, getenv) }, styles: styles(out, Colour(out, getenv))}
	if Terminal(out) && getenv("TERM") != "dumb" {
		p.stop = make(chan struct{})
		p.drawer.Go(p.run)
	}
	return p
}

// Show says how far things are. It costs next to nothing. The zero Step wipes the line at once.
func (p *Progress) Show(s Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = s
	if s.What == "" {
		p.wipeLocked()
	}
}

// Write writes lines above the one that is drawn.
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

// Above returns a writer for what goes to another stream. Where that is a terminal it may be the one on which the line
// is drawn, and so is written as Write does.
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

// Close wipes the line for good. It may be called more than once, and Write goes on working.
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

// drawLocked draws over the line that stands there, so that it does not flicker. A terminal that cannot
// be written to is no reason to stop working.
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

// line is the step in so many columns: what is done, a bar if its end is known, and numbers.
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
	bar := "[" + p.styles.render(strings.Repeat("#", full), Good, nil) + strings.Repeat("-", room-full) + "]"
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

// join puts two blanks between what is there.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")
}
