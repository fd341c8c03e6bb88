package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// printReport prints a report for people: a table of the first images, and the totals. In a pipe a run that removed
// nothing prints nothing, so that cron sends no mail. stopped is the error that ended the run, if any.
func printReport(env *environment, rep gc.Report, images int, stopped error) error {
	if err := printRepairs(env, rep); err != nil || time.Time(rep.StartedAt).IsZero() {
		return err
	}
	if !rep.Removed.Any() && !ui.Terminal(env.stdout) {
		return tellHeld(env, rep)
	}
	if len(rep.Images) > 0 {
		t := imageTable(rep, rep.Images[:images])
		if err := t.Write(env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get)); err != nil {
			return err
		}
		if more := len(rep.Images) - images; more > 0 {
			fmt.Fprintf(env.stdout, "… and %s more (use --limit 0 to see all)\n", ui.Number(int64(more)))
		}
		fmt.Fprintln(env.stdout)
	}
	_, err := fmt.Fprintln(env.stdout, strings.Join(totals(rep, stopped), "\n"))
	return err
}

// printRepairs prints a line for each problem that was found, and what was done about it.
func printRepairs(env *environment, rep gc.Report) error {
	for _, r := range rep.Repairs {
		action := r.Action
		if rep.DryRun && r.Mended {
			action = "would have: " + action
		}
		if _, err := fmt.Fprintf(env.stdout, "%s: %s: %s: %s\n", r.Problem, r.Object, r.Detail, action); err != nil {
			return err
		}
	}
	return nil
}

// imageTable has a row for each image. On a narrow screen it leaves out the digest first, then the last access.
func imageTable(rep gc.Report, images []gc.ReportImage) ui.Table {
	t := ui.Table{Columns: []ui.Column{
		{Title: "IMAGE", Flexible: true, Min: 36, Cut: ui.CutName}, {Title: "DIGEST", Drop: 2, First: true},
		{Title: "LAST ACCESS", Drop: 1}, {Title: "WHY", Flexible: true, Min: 10}, {Title: "FREES", Right: true},
	}}
	now := time.Time(rep.StartedAt)
	for _, i := range images {
		dgst := ui.ShortDigest(i.Digest.String(), 12)
		name := i.Repository + ":" + i.Tag
		if i.Tag == "" {
			name = i.Repository + "@" + dgst
		}
		t.Rows = append(t.Rows, []ui.Cell{{Text: name}, {Text: dgst, Tone: ui.Faint},
			{Text: ui.Ago(time.Time(i.LastAccess), now)}, {Text: why(rep, i)}, {Text: ui.Bytes(i.UniqueBytes)}})
	}
	return t
}

// why says why an image is removed; where a rule decided, by which one.
func why(rep gc.Report, i gc.ReportImage) string {
	if i.Rule == 0 {
		return i.Reason
	}
	return i.Reason + " " + rep.Policy.Rules.Name(i.Rule-1)
}
