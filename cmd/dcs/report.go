package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// printReport prints what a run removed for people: the images, or the first of them, and one line that
// sums up. From cron a run that removed nothing says nothing, so that no mail is sent. stopped is why the
// run did not come to its end, if it did not.
func printReport(env *environment, rep gc.Report, images int, stopped error) error {
	if err := printRepairs(env, rep); err != nil || time.Time(rep.StartedAt).IsZero() {
		return err
	}
	if !rep.Removed.Any() && !ui.Terminal(env.stdout) {
		return nil
	}
	if len(rep.Images) > 0 {
		if err := imageTable(rep, rep.Images[:images]).Write(env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get)); err != nil {
			return err
		}
		if more := len(rep.Images) - images; more > 0 {
			fmt.Fprintf(env.stdout, "… and %s more (use --limit 0 to see all)\n", ui.Number(int64(more)))
		}
		fmt.Fprintln(env.stdout)
	}
	_, err := fmt.Fprintln(env.stdout, summary(rep, stopped))
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

func imageTable(rep gc.Report, images []gc.ReportImage) ui.Table {
	t := ui.Table{Columns: []ui.Column{
		{Title: "IMAGE", Flexible: true, Min: 36, Cut: ui.CutName}, {Title: "DIGEST", Drop: 2, First: true}, {Title: "LAST ACCESS", Drop: 1},
		{Title: "WHY"}, {Title: "FREES", Right: true},
	}}
	now := time.Time(rep.StartedAt)
	for _, i := range images {
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

// summary is one line: what went, and what stays.
func summary(rep gc.Report, stopped error) string {
	does, images, more := "removed", ui.Count(int64(len(rep.Images)), "image"), ""
	if rep.DryRun {
		does = "would remove"
	}
	if stopped != nil {
		does = "failed: " + does
		images = fmt.Sprintf("%d of %s", len(rep.Images), ui.Count(int64(rep.Planned), "image"))
		more = "; the next run goes on"
	}
	if errors.Is(stopped, context.Canceled) {
		does = "interrupted: removed"
	}
	removed := []string{images}
	if n := rep.Removed.Blobs; n > 0 {
		removed = append(removed, ui.Count(n, "blob"))
	}
	if n := rep.Removed.Uploads; n > 0 {
		removed = append(removed, ui.Count(n, "unfinished upload"))
	}
	return fmt.Sprintf("%s %s, %s; %s and %s remain%s", does, strings.Join(removed, ", "), ui.Bytes(rep.FreedBytes),
		ui.Count(rep.Remaining.Tags, "tag"), ui.Bytes(rep.Remaining.Bytes), more)
}
