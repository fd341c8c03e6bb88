package report

import (
	"strings"
	"testing"
)

func TestTheComparisonIsOfRoundsAndNamesTheRowsThatAreWorse(t *testing.T) {
	rep := &Report{}
	row := func(name string, now, before []float64) {
		r := &Row{Name: name}
		for i := range now {
			r.Add("dcs", "request", Sample{Count: 1000, CPU: now[i]})
			r.Add(Before+"dcs", "request", Sample{Count: 1000, CPU: before[i]})
		}
		r.Add("stock", "request", Sample{Count: 1000, CPU: 50})
		rep.Rows = append(rep.Rows, r)
	}
	// The machine was busy in the second round, which hit both.
	row("as-before", []float64{1.0, 9.0, 1.0}, []float64{1.0, 9.0, 1.0})
	row("better", []float64{0.9, 9.0, 1.0}, []float64{1.0, 10.0, 1.1})
	row("slightly-worse", []float64{1.04, 9.36, 1.04}, []float64{1.0, 9.0, 1.0})
	row("worse", []float64{1.1, 9.9, 1.1}, []float64{1.0, 9.0, 1.0})
	row("not-measured", []float64{0}, []float64{0})
	var out strings.Builder
	if err := rep.Comparison(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := lines[len(lines)-1]; last != "worse by more than 5 %: worse, not-measured" {
		t.Errorf("last line: %s\n%s", last, out.String())
	}
	for _, want := range []string{"0.900", "1.040", "1.100 **worse**"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s:\n%s", want, out.String())
		}
	}
	rep.Rows = rep.Rows[:2]
	out.Reset()
	if err := rep.Comparison(&out); err != nil || !strings.HasSuffix(out.String(),
		"\nno row is worse by more than 5 %\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
