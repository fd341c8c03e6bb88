package report

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Chart shows times against sizes of stores, both logarithmic.
type Chart struct {
	Title string `json:"title"`
	X     string `json:"x"`
	Y     string `json:"y"`
	Lines []Line `json:"lines"`
}

// Line is one program.
type Line struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`
}

// Point is a measurement.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// The drawing: a frame with room for the titles on its left and below it, and for the names of the lines on its right.
const (
	width, height            = 760, 420
	left, right, top, bottom = 70, 200, 50, 60
)

var colours = []string{"#0b6e4f", "#c1440e", "#1f4e8c", "#7a5195"} // legible on white, and apart in grey

// SVG draws it.
func (c Chart) SVG(w io.Writer) error {
	xs, ys := c.axes()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"`+
		` font-family="sans-serif" font-size="13">`+
		"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="16">%s</text>`+"\n", left, escape(c.Title))
	for _, d := range xs.decades() {
		x := xs.at(d)
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+
			"\n", x, top, height-bottom, x, height-bottom+20, number(d))
	}
	for _, d := range ys.decades() {
		y := ys.at(d)
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, y, width-right, left-8, y+4, number(d))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-16,
		escape(c.X))
	fmt.Fprintf(&b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		(top+height-bottom)/2, escape(c.Y))
	for i, l := range c.Lines {
		l.draw(&b, xs, ys, colours[i%len(colours)])
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (l Line) draw(b *strings.Builder, xs, ys axis, colour string) {
	path := ""
	for i, p := range l.Points {
		path += fmt.Sprintf("%c%.1f %.1f ", "ML"[min(i, 1)], xs.at(p.X), ys.at(p.Y))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"><title>%s: %s at %s</title></circle>`+"\n",
			xs.at(p.X), ys.at(p.Y), colour, escape(l.Name), number(p.Y), number(p.X))
	}
	if len(l.Points) == 0 {
		return
	}
	last := l.Points[len(l.Points)-1]
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%.1f" y="%.1f" fill="%s">%s</text>`+
		"\n",
		strings.TrimSpace(path), colour, xs.at(last.X)+10, ys.at(last.Y)+4, colour, escape(l.Name))
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// axis maps whole decades, as exponents of ten, to a range of the drawing.
type axis struct{ from, to, low, high float64 }

func (c Chart) axes() (x, y axis) {
	x, y = axis{math.Inf(1), math.Inf(-1), left, width - right}, axis{math.Inf(1), math.Inf(-1), height - bottom, top}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			x.hold(p.X)
			y.hold(p.Y)
		}
	}
	return x, y
}

func (a *axis) hold(v float64) {
	a.from = min(a.from, math.Floor(math.Log10(v)))
	a.to = max(a.to, math.Ceil(math.Log10(v)))
	if a.from == a.to {
		a.to++
	}
}

func (a axis) at(v float64) float64 {
	return a.low + (math.Log10(v)-a.from)/(a.to-a.from)*(a.high-a.low)
}

func (a axis) decades() (all []float64) {
	for e := a.from; e <= a.to; e++ {
		all = append(all, math.Pow(10, e))
	}
	return all
}
