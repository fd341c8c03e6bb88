package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Checks prints the table of what has to be and is: Markdown that can be read on a terminal, too.
func (r *Report) Checks(w io.Writer) error {
	t := table{{"row", "what", "figure", "limit", "mark"}}
	for _, row := range r.Rows {
		for i, c := range row.Checks {
			what := ""
			if i == 0 {
				what = row.What
			}
			bound := "at least "
			if c.AtMost {
				bound = "at most "
			}
			t = append(t, []string{what, c.What, c.figure(), bound + number(c.Limit) + c.Unit, c.Mark()})
		}
	}
	return t.write(w)
}

func (c Check) figure() string {
	if c.Value.missing() {
		return "-"
	}
	return number(float64(c.Value)) + c.Unit
}

// Measurements prints the medians behind it.
func (r *Report) Measurements(w io.Writer) error {
	t := table{{"row", "who", "per s", "CPU s per 1,000", "CPU s per GiB", "MiB/s", "p50 ms", "p99 ms", "peak MiB", "s",
		"CPU s"}}
	for _, row := range r.Rows {
		for i, s := range row.Series {
			what := ""
			if i == 0 {
				what = "`" + row.Name + "`"
			}
			t = append(t, append([]string{what, s.Who}, s.columns()...))
		}
	}
	if err := t.write(w); err != nil {
		return err
	}
	for _, row := range r.Rows {
		for _, n := range row.Notes {
			if _, err := fmt.Fprintf(w, "\n- `%s`: %s", row.Name, n); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// columns are empty where a figure makes no sense: bytes of small bodies, rates of what happened once.
func (s Series) columns() []string {
	c := make([]string, 9)
	if s.Median(func(s Sample) float64 { return s.Count }) > 1 {
		c[0] = number(s.PerSecond()) + " " + s.Unit + "s"
		c[1] = number(1000 / s.PerCPU())
	}
	if s.Median(func(s Sample) float64 { return float64(s.Bytes) }) >= 64<<20 {
		c[2] = number(s.CPUPerGiB())
		c[3] = number(s.Median(func(s Sample) float64 { return float64(s.Bytes) / (1 << 20) / s.Seconds }))
	}
	if s.P99() > 0 {
		c[4], c[5] = number(1000*s.P50()), number(1000*s.P99())
	}
	if s.Peak() > 0 {
		c[6] = number(s.Peak() / (1 << 20))
	}
	c[7], c[8] = number(s.Seconds()), number(s.CPU())
	return c
}

// number has three significant digits.
func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "-"
	case a >= 1000:
		return thousands(fmt.Sprintf("%.0f", x))
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return trim(fmt.Sprintf("%.1f", x))
	case a >= 1:
		return trim(fmt.Sprintf("%.2f", x))
	case a >= 0.001:
		return trim(fmt.Sprintf("%.3f", x))
	case a == 0:
		return "0"
	}
	return fmt.Sprintf("%.2g", x)
}

func trim(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }

func thousands(s string) string {
	if len(s) <= 3 || s == "-" {
		return s
	}
	return thousands(s[:len(s)-3]) + "," + s[len(s)-3:]
}

// table is rows of cells, the titles first.
type table [][]string

func (t table) write(w io.Writer) error {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range t {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}
