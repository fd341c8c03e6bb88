package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Before begins the names of the series of the dcs that another one is compared with.
const Before = "before: "

// worse is how much more CPU a row may take before it is called worse: machines are not that quiet.
const worse = 1.05

// compared is what the same work took of both programs.
type compared struct {
	row, who    string
	now, before float64   // CPU seconds for each counted unit
	ratios      []float64 // of the rounds
	unit        string
}

// compare pairs the series of each row. A round's ratio is that of two samples taken one after the other, so that what
// else the machine did is in both.
func (r *Report) compare() (all []compared) {
	for _, row := range r.Rows {
		for _, old := range row.Series {
			who, before := strings.CutPrefix(old.Who, Before)
			if !before {
				continue
			}
			s := row.Of(who)
			var ratios []float64
			for i := range min(len(s.Samples), len(old.Samples)) {
				ratios = append(ratios, old.Samples[i].perCPU()/s.Samples[i].perCPU())
			}
			all = append(all, compared{row.Name, who, 1 / s.PerCPU(), 1 / old.PerCPU(), ratios, s.Unit})
		}
	}
	return all
}

// Comparison prints what each row costs beside the other program: the least and the largest ratio of the rounds, which
// say how quiet the machine was, and their median. The last line has the rows that are worse.
func (r *Report) Comparison(w io.Writer) error {
	t := table{{"row", "who", "CPU ms, now", "before", "for each", "rounds", "ratio"}}
	var bad []string
	for _, c := range r.compare() {
		ratio, mark := Median(c.ratios), ""
		if !(ratio <= worse) { // also when it is no number
			mark = " **worse**"
			if !slices.Contains(bad, c.row) {
				bad = append(bad, c.row)
			}
		}
		t = append(t, []string{c.row, c.who, number(1000 * c.now), number(1000 * c.before), c.unit,
			fmt.Sprintf("%.2f to %.2f", slices.Min(c.ratios), slices.Max(c.ratios)), fmt.Sprintf("%.3f", ratio) + mark})
	}
	if err := t.write(w); err != nil {
		return err
	}
	last := "no row is worse by more than 5 %"
	if len(bad) > 0 {
		last = "worse by more than 5 %: " + strings.Join(bad, ", ")
	}
	_, err := fmt.Fprintf(w, "\n%s\n", last)
	return err
}
