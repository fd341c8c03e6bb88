package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// judge is dcs inspect --what-if.
func (f inspectFlags) judge(env *environment, cmd *cobra.Command) error {
	for _, flag := range listFlags {
		if flag != "what-if" && cmd.Flags().Changed(flag) {
			return &usageError{fmt.Errorf("--%s cannot be combined with --what-if", flag),
				"leave it out: all that clients pulled is judged"}
		}
	}
	if err := oneOf("format", f.format, formats...); err != nil {
		return err
	}
	opener, err := openerOf(env, cmd)
	if err != nil {
		return err
	}
	w, err := whatIf(cmd.Context(), opener)
	if err != nil {
		return err
	}
	to := newDisplay(env)
	if !ui.Terminal(env.stdout) {
		to.branches = ui.Branches{}
	}
	return writeWhatIf(w, f.format, to)
}

// whatIf reads what was recorded, and how much the store holds.
func whatIf(ctx context.Context, opener store.Opener) (w inspect.WhatIf, err error) {
	st, err := opener.Look(ctx)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	var totals index.Totals
	err = st.Index.View(ctx, func(r index.Reader) (err error) {
		totals, err = r.Totals()
		return err
	})
	if err != nil {
		return w, err
	}
	recording, err := inspect.ReadRecording(st.Dir)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		err = &hintedError{err, "a running server writes it again; " +
			"dcs serve puts it aside at its start, and records anew"}
	}
	return inspect.Judge(recording, totals.Bytes), err
}

// writeWhatIf writes the estimates in a format.
func writeWhatIf(w inspect.WhatIf, format string, to display) error {
	switch format {
	case formatJSON:
		return json.NewEncoder(to.to).Encode(w)
	case formatCSV:
		return whatIfCSV(w, to.to)
	case formatTable:
	}
	if len(w.ByTTL) == 0 {
		_, err := fmt.Fprintln(to.to, nothingPulled(w))
		return err
	}
	if _, err := fmt.Fprintf(to.to, "%s\n\n", recordedTime(w)); err != nil {
		return err
	}
	if err := whatIfTable(w).Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	columns := ui.CurveColumns(to.width, 60)
	var sizes []string
	for _, b := range w.BySize {
		sizes = append(sizes, ui.Bytes(b.MaxSize))
	}
	for _, c := range []struct {
		title string
		curve ui.Curve
	}{
		{"bytes found, by budget", ui.Curve{Values: w.BudgetCurve(columns), Labels: sizes}},
		{"bytes found, by ttl", ui.Curve{Values: w.TTLCurve(columns), Labels: []string{"1 day", "9 days", "90 days"}}},
	} {
		if len(c.curve.Values) == 0 {
			continue
		}
		fmt.Fprintf(to.to, "\n%s\n", c.title)
		for _, line := range c.curve.Lines(to.branches) {
			if _, err := fmt.Fprintln(to.to, line); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(to.to)
	for _, line := range reliability(w) {
		if _, err := fmt.Fprintln(to.to, line); err != nil {
			return err
		}
	}
	return nil
}

// nothingPulled says why there is nothing to judge.
func nothingPulled(w inspect.WhatIf) string {
	if time.Time(w.From).IsZero() {
		return "nothing is recorded yet\n" +
			"dcs serve records what clients pull, and saves it each minute, unless cache.what_if_memory is 0"
	}
	return "no client has pulled anything since the recording began"
}

// recordedTime says what was recorded.
func recordedTime(w inspect.WhatIf) string {
	const form = "2006-01-02 15:04"
	from, to := time.Time(w.From).Local(), time.Time(w.To).Local()
	return fmt.Sprintf("recorded from %s to %s\n%s of %s; the store holds %s", from.Format(form), to.Format(form),
		ui.Count(w.Pulls, "pull"), ui.Bytes(w.Bytes), ui.Bytes(w.Present))
}

// whatIfTable has a row for each budget and each ttl.
func whatIfTable(w inspect.WhatIf) ui.Table {
	t := ui.Table{Columns: []ui.Column{{Title: "WITH"}, {Title: ""}, {Title: "BYTES FOUND", Right: true},
		{Title: "PULLS FOUND", Right: true}}}
	for _, b := range w.BySize {
		t.Rows = append(t.Rows, ui.Text("max_size "+ui.Bytes(b.MaxSize),
			strconv.FormatFloat(b.Share, 'g', -1, 64)+" x", percent(b.Bytes), percent(b.Pulls)))
	}
	recorded := time.Time(w.To).Sub(time.Time(w.From))
	for _, b := range w.ByTTL {
		ttl, note := time.Duration(b.Seconds)*time.Second, ""
		if ttl > recorded {
			note = "recorded for less"
		}
		t.Rows = append(t.Rows, ui.Text("ttl "+days(ttl), note, percent(b.Bytes), percent(b.Pulls)))
	}
	return t
}

// days writes a ttl of days.
func days(ttl time.Duration) string { return ui.Count(int64(ttl/day), "day") }

// percent writes a part.
func percent(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + " %" }

// reliability says what is an estimate, and from how much.
func reliability(w inspect.WhatIf) (lines []string) {
	of := ui.Number(int64(w.Samples)) + " blobs, manifests and tags"
	if w.Share < 1 {
		lines = append(lines, fmt.Sprintf("estimated from %s, %s of those that were used", of, percent(w.Share)))
	} else {
		lines = append(lines, fmt.Sprintf("from all %s that were used", of))
	}
	if w.FirstBytes > 0 {
		lines = append(lines, percent(w.FirstBytes)+
			" of the bytes were used for the first time: nothing finds these")
	}
	if w.MissedBytes > 0 {
		lines = append(lines, percent(w.MissedBytes)+
			" of the bytes were asked for after their removal: estimated")
	}
	if w.Dropped > 0 {
		lines = append(lines, ui.Count(w.Dropped, "use")+" came at once with others, and could not be recorded")
	}
	return lines
}

// whatIfCSV writes a line for each budget and each ttl. The cell of the other one is empty.
func whatIfCSV(w inspect.WhatIf, to io.Writer) error {
	ratio := func(part float64) string { return strconv.FormatFloat(part, 'f', 4, 64) }
	records := [][]string{{"max_size", "ttl_seconds", "hit_ratio", "byte_hit_ratio"}}
	for _, b := range w.BySize {
		records = append(records, []string{decimal(b.MaxSize), "", ratio(b.Pulls), ratio(b.Bytes)})
	}
	for _, b := range w.ByTTL {
		records = append(records, []string{"", decimal(b.Seconds), ratio(b.Pulls), ratio(b.Bytes)})
	}
	return csv.NewWriter(to).WriteAll(records) // which flushes
}
