package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// totals returns the sentences that sum up a run: what was removed, what stays, what is removed later, and the policy.
// stopped is the error that ended the run, if any.
func totals(rep gc.Report, stopped error) (lines []string) {
	if stopped != nil {
		return []string{cutShort(rep, stopped)}
	}
	switch {
	case rep.HeldBy != "":
		lines = append(lines, heldUp(rep))
		if rep.Removed.Any() {
			lines = append(lines, summary(rep))
		}
	default:
		lines = append(lines, summary(rep))
		if why := unmet(rep.Eviction); why != "" {
			lines = append(lines, why)
		}
	}
	now := time.Time(rep.StartedAt)
	if resumes := time.Time(rep.Resumes); !resumes.IsZero() {
		lines = append(lines, "images without a tag may be left over from the run of "+clock(resumes, now)+
			", which did not finish")
	}
	if rep.WaitingBytes > 0 {
		lines = append(lines, fmt.Sprintf("%s more will be freed %s, unless a push uses them again",
			ui.Bytes(rep.WaitingBytes), ui.In(time.Time(rep.WaitingUntil), now)))
	}
	if rep.Policy.Grace > 0 { // else the run ended before it knew the policy
		line := fmt.Sprintf("ttl %s, grace %s", config.FormatDuration(rep.Policy.TTL),
			config.FormatDuration(rep.Policy.Grace))
		if n := len(rep.Policy.Rules); n > 0 {
			line += ", " + ui.Count(int64(n), "rule")
		}
		if size := config.Size(rep.Policy.Budget.MaxSize); size != (config.Size{}) {
			line += ", max_size " + size.String()
		}
		lines = append(lines, line)
	}
	return lines
}

// summary says what was removed, and what stays.
func summary(rep gc.Report) string {
	remove, free := "removed", "freed"
	if rep.DryRun {
		remove, free = "would remove", "free"
	}
	verb := "stay"
	if rep.Remaining.Tags == 1 {
		verb = "stays"
	}
	return fmt.Sprintf("%s %s and %s %s; %s (%s) %s",
		remove, strings.Join(removals(rep), ", "), free, ui.Bytes(rep.FreedBytes),
		ui.Count(rep.Remaining.Tags, "tag"), ui.Bytes(rep.Remaining.Bytes), verb)
}

// removals counts what a run removed, for a sentence.
func removals(rep gc.Report) []string {
	images := ui.Count(int64(len(rep.Images)), "image")
	if n := rep.Removed.Blobs; n > 0 {
		images += " (" + ui.Count(n, "blob") + ")"
	}
	all := []string{images}
	if n := rep.Removed.Uploads; n > 0 {
		all = append(all, ui.Count(n, "unfinished upload"))
	}
	return all
}

// unmet says what a budget demands and does not get. Empty: it gets all.
func unmet(e gc.Eviction) string {
	switch {
	case e.Vain:
		return fmt.Sprintf("min_free is out of reach: %s more would have to be free, and what may go takes %s at most"+
			"; no image goes for it", ui.Bytes(e.Demand.Reach), ui.Bytes(e.Freeable))
	case e.Demand.Any() && !e.Met:
		return fmt.Sprintf("that is not enough for the budget: %s were used, and nothing more may go",
			ui.Bytes(e.Disk.Used))
	}
	return ""
}

// cutShort says how far a run came that was interrupted or failed. gc removes the names of images first, and their
// bytes last.
func cutShort(rep gc.Report, stopped error) string {
	const again = ". Run dcs gc again to continue"
	how := "failed"
	if errors.Is(stopped, context.Canceled) {
		how = "interrupted"
	}
	if rep.Planned == 0 && !rep.Removed.Any() {
		return how + " while planning; nothing was removed" + again
	}
	images := fmt.Sprintf("%s of %s", ui.Number(int64(len(rep.Images))), ui.Count(int64(rep.Planned), "image"))
	if len(rep.Images) == rep.Planned {
		images = "the names of " + ui.Count(int64(rep.Planned), "image")
	}
	freed := ""
	if rep.PlannedBytes > 0 { // else the grace of all blobs still runs
		freed = fmt.Sprintf(", freed %s of %s", ui.Bytes(rep.FreedBytes), ui.Bytes(rep.PlannedBytes))
	}
	return fmt.Sprintf("%s: removed %s%s", how, images, freed) + again
}

// heldUp says why nothing can be removed yet, and until when.
func heldUp(rep gc.Report) string {
	until := time.Time(rep.NothingBefore)
	switch {
	case rep.HeldBy == gc.HeldByScan:
		return "nothing can be removed yet: the server has not finished scanning the disk"
	case until.IsZero():
		return "nothing can be removed in this run: existing images were just imported with their file dates"
	}
	return "nothing can be removed before " + clock(until, time.Time(rep.StartedAt)) +
		": existing images were imported with their file dates"
}

// tellHeld explains why a dry run found nothing. Other runs, such as those of cron, print nothing.
func tellHeld(env *environment, rep gc.Report) error {
	why := unmet(rep.Eviction)
	if rep.HeldBy != "" {
		why = heldUp(rep)
	}
	if why == "" || !rep.DryRun {
		return nil
	}
	_, err := fmt.Fprintf(env.stderr, "dcs: %s\n", why)
	return err
}

// clock formats a time of day: with the date unless that is today, and with seconds if it is less than 5 minutes away.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	format := "15:04"
	if t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		format = "2006-01-02 15:04"
	}
	if t.Sub(now).Abs() < 5*time.Minute {
		return t.Format(format + ":05")
	}
	return t.Add(time.Minute - time.Nanosecond).Format(format) // rounded up: never before t
}
