package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// gcFlags are the flags of dcs gc, without those of the configuration.
type gcFlags struct {
	dryRun, repair bool
	quiet          bool
	format         string
	limit          int  // how many images are printed; 0: all
	limited        bool // --limit was given
}

// newGCCommand makes dcs gc, which does one run on a store: with a server beside it, or without.
func newGCCommand(env *environment) *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:        "gc",
		SuggestFor: []string{"garbage-collect", "prune", "clean", "cleanup", "expire"},
		Short:      "Remove unused images now",
		Long: `Remove the images that were not used for the ttl, and the blobs that only they
hold. A server does the same by itself, every hour by default.

It is safe at any time: beside a running server and beside another gc. From cron
it prints nothing unless it removed something, so cron sends no mail. Without
--ttl and --grace the policy of the last server of the directory applies. Write
durations like 30d, 12h or 1w2d. A ttl of 0 keeps images forever. --ttl replaces
cache.ttl only: rules hold.

With --max-size, or where the server has a budget, the images go too that were
used least recently, if more than 95 % of the budget is used, until 90 % is.
What is pinned stays, what a rule keeps, and what is in its grace.

WHY says that a tag was unused for the ttl, that an image has no tag and was
unused for as long, or which rule decided: by its number in cache.rules, from 1.
It says size where an image goes for a budget.
FREES is how many bytes are freed when the image is removed: those of blobs that
no other image holds. Blobs that several images share are freed with the last of
these images. Ctrl-C stops after the current step, and gc prints what it did.
The next run continues.

On a terminal gc prints the 50 images that were unused for the longest, and then
the totals. In a pipe it prints all images. JSON has all images too, unless
--limit is given. --quiet prints only errors.

With --repair gc first reads every blob and compares it with its digest, which
takes as long as reading the whole store. It moves corrupt blobs to
.metadata/quarantine, removes tags, links and images that cannot be pulled, and
corrects the index. Files that no registry writes are left alone. With --dry-run
it prints the first step of each repair.

EXIT STATUS
  0    done
  1    failed, or no data directory; the next run continues
  2    bad command line or configuration, or a grace shorter than was promised
  3    --repair left problems
  4    the directory's server uses another index
  130  interrupted; everything is consistent`,
		Example: `  dcs gc --storage.directory /var/cache/docker-cache-server --ttl 30d --dry-run
  dcs gc --config /etc/dcs.yaml --format json | jq .freed_bytes`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.limited = cmd.Flags().Changed("limit")
			if err := f.check(); err != nil {
				return err
			}
			cfg, origins, err := loadConfig(env, cmd)
			if err != nil {
				return err
			}
			giveWay()
			return f.collect(cmd.Context(), env, cfg, origins)
		},
	}
	addConfigFlags(cmd, "storage.*", "cache.*", "log.*")
	hideFlags(cmd, "cache.cleanup_interval", "cache.what_if_memory", "log.access")
	addAlias(cmd, "ttl", "cache.ttl")
	addAlias(cmd, "grace", "cache.grace")
	addAlias(cmd, "max-size", "cache.max_size")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be removed, and change nothing")
	cmd.Flags().BoolVar(&f.repair, "repair", false, "read every blob first, and repair what is broken")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "print `N` images, 0 = all (default: 50 on a terminal, all when piped)")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "print only errors")
	cmd.Flags().StringVar(&f.format, "format", "table", "output format: `table|json`")
	return cmd
}

// check refuses values that no flag type refuses.
func (f gcFlags) check() error {
	if f.limit < 0 {
		return &usageError{fmt.Errorf("--limit %d is negative", f.limit), "0 prints all"}
	}
	return oneOf("format", f.format, "table", "json")
}

// collect runs gc and prints what it did, also if the run was interrupted or failed.
func (f gcFlags) collect(ctx context.Context, env *environment, cfg *config.Config, origins config.Origins) error {
	log, err := newLogger(env, cfg)
	if err != nil {
		return err
	}
	opener, err := newOpener(cfg, origins, log)
	if err != nil {
		return err
	}
	if f.quiet {
		log.SetLevel(min(log.GetLevel(), logrus.ErrorLevel)) // a lower level is more serious
	}
	bar := ui.NewProgress(env.stderr, env.get)
	defer bar.Close()
	log.SetOutput(bar)
	command := gc.Command{Store: opener, DryRun: f.dryRun, Repair: f.repair,
		Trail: cfg.Log.Format == "json", // in text the table has the same
		OnProgress: func(p gc.Progress) {
			if f.quiet {
				return
			}
			bar.Show(ui.Step{What: p.Phase.String(), Done: p.Done, Total: p.Total, Bytes: p.Bytes})
		}}
	rep, err := command.Run(ctx)
	bar.Close()
	return firstOf(err, f.print(env, rep, err), unmended(rep))
}

// print prints a report. stopped is the error that ended the run, if any.
func (f gcFlags) print(env *environment, rep gc.Report, stopped error) error {
	switch {
	case rep.Repairs == nil &&
		(time.Time(rep.StartedAt).IsZero() || (rep.DryRun && stopped != nil && rep.Planned == 0)):
		return nil // there is nothing to report yet
	case f.quiet:
		return nil
	case f.format == "json":
		rep.Images = rep.Images[:f.printed(len(rep.Images), false)]
		return json.NewEncoder(env.stdout).Encode(rep)
	}
	return printReport(env, rep, f.printed(len(rep.Images), ui.Terminal(env.stdout)), stopped)
}

// printed returns how many of the images are printed. On a terminal a longer table would scroll out of sight.
func (f gcFlags) printed(images int, terminal bool) int {
	most := f.limit
	if terminal && !f.limited {
		most = screenful
	}
	if most == 0 {
		return images
	}
	return min(images, most)
}

// unmended returns an error if a repair left problems.
func unmended(rep gc.Report) error {
	if n := rep.Unmended(); n > 0 {
		return &problemsError{fmt.Errorf("%s left", ui.Count(int64(n), "problem")),
			"see the lines above; files dcs does not recognize are left alone"}
	}
	return nil
}

// oneOf returns an error if the value of a flag is none of the allowed words.
func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return &usageError{fmt.Errorf("--%s %q is not known", flag, value), "use " + sentence(allowed)}
}

// firstOf returns the first error that is not nil.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
