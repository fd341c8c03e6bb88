package ui

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestACurve(t *testing.T) {
	c := Curve{Labels: []string{"1 day", "7 days", "90 days"}}
	for i := range 30 {
		c.Values = append(c.Values, float64(i)/29)
	}
	for b, want := range map[Branches]string{
		{lines: true}: `
100 % │                          ▁▄▆█
      │                      ▁▃▅▇████
      │                   ▂▄▆████████
      │               ▁▃▆████████████
 50 % │            ▂▅▇███████████████
      │        ▂▄▆███████████████████
      │    ▁▃▅▇██████████████████████
      │ ▂▄▇██████████████████████████
      └──────────────────────────────
       1 day      7 days      90 days`,
		{}: `
100 % |                            ##
      |                        ######
      |                    ##########
      |                 #############
 50 % |             #################
      |          ####################
      |      ########################
      |  ############################
      +------------------------------
       1 day      7 days      90 days`,
	} {
		if got := "\n" + strings.Join(c.Lines(b), "\n"); got != want {
			t.Errorf("got%s\nwant%s", got, want)
		}
	}
	for width := range 100 {
		c.Values = make([]float64, CurveColumns(width, 60))
		for _, line := range c.Lines(Branches{lines: true}) {
			if n := utf8.RuneCountInString(line); width >= 8 && n > width {
				t.Errorf("%d columns on a screen of %d: %q", n, width, line)
			}
		}
	}
	odd := Curve{Values: []float64{-1, 2}, Labels: []string{"long", "one"}}
	if got := odd.Lines(Branches{})[0]; got != "100 % | #" {
		t.Errorf("%q", got)
	}
}
