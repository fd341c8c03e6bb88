package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// printReport prints what a run removed for people: the images, and a few lines that sum up. From cron a
// run that removed nothing says nothing, so that no mail is sent. stopped is why the run did not come to
// its end, if it did not.
func printReport(env *environment, rep gc.Report, stopped error) error {
	if err := printRepairs(env, rep); err != nil || time.Time(rep.StartedAt).IsZero() {
		return err
	}
	if !rep.Removed.Any() && !ui.Terminal(env.stdout) {
		return tellHeld(env, rep)
	}
	if len(rep.Images) > 0 {
		if err := imageTable(rep).Write(env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get)); err != nil {
			return err
		}
		fmt.Fprintln(env.stdout)
	}
	_, err := fmt.Fprintln(env.stdout, strings.Join(totals(rep, stopped), "\n"))
	return err
}

// printRepairs prints what was found and what was done about it, a line each.
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

func imageTable(rep gc.Report) ui.Table {
	t := ui.Table{Columns: []ui.Column{
		{Title: "IMAGE", Flexible: true, Min: 36}, {Title: "DIGEST", Drop: 2}, {Title: "LAST ACCESS", Drop: 1}, {Title: "WHY"}, {Title: "ONLY ITS OWN", Right: true},
	}}
	now := time.Time(rep.StartedAt)
	for _, i := range rep.Images {
		dgst := ui.ShortDigest(i.Digest.String(), 12)
		name := i.Repository + ":" + i.Tag
		if i.Tag == "" {
			name = i.Repository + "@" + dgst
		}
		t.Rows = append(t.Rows, []ui.Cell{{Text: name}, {Text: dgst, Tone: ui.Faint}, {Text: ui.Ago(time.Time(i.LastAccess), now)},
			{Text: i.Reason}, {Text: ui.Bytes(i.UniqueBytes)}})
	}
	return t
}
