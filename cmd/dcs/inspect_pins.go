package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// inspectPins is dcs inspect --pins.
func (f inspectFlags) inspectPins(env *environment, cmd *cobra.Command) (err error) {
	for _, flag := range append([]string{"check", "deep"}, listFlags...) {
		if cmd.Flags().Changed(flag) && flag != "pins" && flag != "repository" {
			return &usageError{fmt.Errorf("--%s cannot be combined with --pins", flag),
				"--pins lists all pins by name; --repository selects some"}
		}
	}
	if err := oneOf("format", f.format, formats...); err != nil {
		return err
	}
	opener, err := openerOf(env, cmd)
	if err != nil {
		return err
	}
	st, err := opener.Look(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	pins, err := inspect.ListPins(cmd.Context(), st.Index, f.repository)
	var bad *inspect.OptionError
	if errors.As(err, &bad) {
		return &usageError{fmt.Errorf("--%w", err), "a glob is like team/**"}
	}
	if err != nil {
		return err
	}
	if !pins.Known {
		opener.Log.Warn("the file of pins was not read, or cannot be: nothing is removed before that")
	}
	switch f.format {
	case formatJSON:
		return writePinsJSON(env.stdout, pins)
	case formatCSV:
		return writePinsCSV(env.stdout, pins)
	}
	return writePins(newDisplay(env), pins)
}

func writePinsJSON(to io.Writer, pins inspect.Pins) error {
	type summary struct {
		Pins     int  `json:"pins"`
		Complete bool `json:"complete"` // the index knows the file of pins
	}
	return json.NewEncoder(to).Encode(struct {
		Summary summary       `json:"summary"`
		Pins    []inspect.Pin `json:"pins"`
	}{summary{len(pins.Pins), pins.Known}, pins.Pins})
}

func writePinsCSV(to io.Writer, pins inspect.Pins) error {
	records := [][]string{{"repository", "tag", "digest", "missing", "pinned_at", "until", "ends_at", "note"}}
	for _, p := range pins.Pins {
		records = append(records, []string{p.Repository, p.Tag, p.Digest.String(), strconv.FormatBool(p.Missing),
			p.PinnedAt.String(), p.Until.String(), p.EndsAt.String(), p.Note})
	}
	return csv.NewWriter(to).WriteAll(records) // which flushes
}

var pinColumns = []ui.Column{repositoryColumn, {Title: "TAG", Flexible: true, Min: 8}, digestColumn,
	{Title: "PINNED"}, {Title: "ENDS"}, {Title: "NOTE", Flexible: true, Min: 10, Drop: 1, First: true}}

// writePins writes a table, and below it how many there are.
func writePins(to display, pins inspect.Pins) error {
	if len(pins.Pins) == 0 {
		_, err := fmt.Fprintln(to.to, "no pins")
		return err
	}
	t := ui.Table{Columns: pinColumns}
	for _, p := range pins.Pins {
		of := digestCell(p.Digest.String())
		if p.Missing {
			of = ui.Cell{Text: "missing", Tone: ui.Alert}
		}
		ends := ui.Cell{Text: ui.In(time.Time(p.EndsAt), pins.Now)}
		if time.Time(p.EndsAt).IsZero() {
			ends.Tone = ui.Faint
		}
		t.Rows = append(t.Rows, []ui.Cell{{Text: p.Repository}, orDash(p.Tag), of, ago(p.PinnedAt, pins.Now), ends,
			orDash(p.Note)})
	}
	if err := t.Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to.to, "\n%s\n", ui.Count(int64(len(pins.Pins)), "pin"))
	return err
}
