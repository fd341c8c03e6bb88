package ui

import (
	"fmt"
	"strings"
)

// Curve is drawn as an area over a line of columns.
type Curve struct {
	Values []float64 // a column each, from 0 to 1
	Labels []string  // below the columns: the first one at the left end, the last one at the right end
}

const (
	curveRows = 8
	curveAxis = 7 // columns of the screen: "100 % |"
)

// CurveColumns is how many columns a curve may have on a screen of that width, and never more than most. 0 is
// unlimited.
func CurveColumns(width, most int) int {
	if width <= 0 {
		return most
	}
	return max(1, min(most, width-curveAxis))
}

// Lines draws the curve, as text without a line break at its end. Where the locale has no lines, a column is as high as
// its value is to the nearest row.
func (c Curve) Lines(b Branches) (lines []string) {
	steps, cells, axis, corner, floor := 1, []rune(" #"), "|", "+", "-"
	if b.lines {
		steps, cells, axis, corner, floor = 8, []rune(" ▁▂▃▄▅▆▇█"), "│", "└", "─"
	}
	for row := curveRows - 1; row >= 0; row-- {
		var line strings.Builder
		fmt.Fprintf(&line, "%5s %s", percentAt[row], axis)
		for _, v := range c.Values {
			height := int(v*float64(curveRows*steps)+0.5) - row*steps
			line.WriteRune(cells[min(max(height, 0), steps)])
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	lines = append(lines, strings.Repeat(" ", curveAxis-1)+corner+strings.Repeat(floor, len(c.Values)))
	return append(lines, strings.Repeat(" ", curveAxis)+c.labels())
}

// percentAt says what a row ends at.
var percentAt = map[int]string{curveRows - 1: "100 %", curveRows/2 - 1: "50 %"}

// labels spreads the labels over the columns. One for which there is no room is left out.
func (c Curve) labels() string {
	line := []rune(strings.Repeat(" ", len(c.Values)))
	free := 0
	for i, l := range c.Labels {
		label := []rune(l)
		at := 0
		if i > 0 {
			at = i*(len(line)-1)/(len(c.Labels)-1) - len(label)/2
		}
		at = min(at, len(line)-len(label))
		if at < free {
			continue
		}
		copy(line[at:], label)
		free = at + len(label) + 1
	}
	return strings.TrimRight(string(line), " ")
}
