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

// gcFlags are the flags of dcs gc as they were typed, but for those of the configuration.
type gcFlags struct {
	dryRun, repair bool
	quiet          bool
	format         string
	limit          int // of the images that are printed; 0: all
	limited        bool
}

func newGCCommand(env *environment) *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:        "gc",
		SuggestFor: []string{"garbage-collect", "prune", "clean", "cleanup", "expire"},
		Short:      "Remove what nobody used for the ttl, now",
		Long: `Remove the images that nobody used for the ttl, and the bytes only they used.

Safe at any time: beside a running server, beside another gc, from cron, which
gets mail only when something was removed. Without --ttl and --grace the policy
of the last server of the directory holds. Durations are like 30d, 12h or 1w2d;
a ttl of 0 is never.

FREES is what removing an image frees: the bytes that no other image holds. The
bytes that images share are freed with the last of them. Ctrl-C stops between
two steps and says what was done; the next run goes on.

On a terminal the images that were not used for the longest are shown, 50 of
them, and the totals last; elsewhere all are, unless --limit says how many. JSON
has all without --limit, too. --quiet prints nothing but errors.

With --repair every blob is read and held against its digest first, which takes
as long as reading the disk does. Blobs with wrong bytes go to
.metadata/quarantine; images of which nothing can be pulled, tags and links to
nothing are removed; the index is brought in line with the disk. Files that no
registry writes are left alone. A dry run shows the first step of each.

EXIT STATUS
  0    done
  1    failed, or no data directory; the next run goes on
  2    bad command line or configuration, or a grace shorter than was promised
  3    a repair left problems that somebody has to look at
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
			return f.collect(cmd.Context(), env, cfg, origins)
		},
	}
	addConfigFlags(cmd, "storage.*", "cache.*", "log.*")
	hideFlags(cmd, "cache.cleanup_interval", "log.access")
	addAlias(cmd, "ttl", "cache.ttl")
	addAlias(cmd, "grace", "cache.grace")
	addAlias(cmd, "max-size", "cache.max_size")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be removed and change nothing")
	cmd.Flags().BoolVar(&f.repair, "repair", false, "before the run, read every blob and mend what is broken; says each step")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "print `N` images; 0: all (default: 50 on a terminal, all when piped)")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "print nothing but errors")
	cmd.Flags().StringVar(&f.format, "format", "table", "form of the output: `table|json`")
	return cmd
}

func (f gcFlags) check() error {
	if f.limit < 0 {
		return &usageError{fmt.Errorf("--limit %d is negative", f.limit), "0 prints all"}
	}
	return oneOf("format", f.format, "table", "json")
}

// collect does the run and prints what it did, also when it was interrupted or failed on the way.
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
		log.SetLevel(min(log.GetLevel(), logrus.ErrorLevel)) // lower levels say more serious things
	}
	bar := ui.NewProgress(env.stderr, env.get)
	defer bar.Close()
	log.SetOutput(bar)
	command := gc.Command{Store: opener, DryRun: f.dryRun, Repair: f.repair,
		Trail: cfg.Log.Format == "json", // text is for people, who have the table
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

// print prints a report. stopped is why the run did not come to its end, if it did not.
func (f gcFlags) print(env *environment, rep gc.Report, stopped error) error {
	switch {
	case rep.Repairs == nil && (time.Time(rep.StartedAt).IsZero() || (rep.DryRun && stopped != nil && rep.Planned == 0)):
		return nil // the run did not come so far
	case f.quiet:
		return nil
	case f.format == "json":
		rep.Images = rep.Images[:f.printed(len(rep.Images), false)]
		return json.NewEncoder(env.stdout).Encode(rep)
	}
	return printReport(env, rep, f.printed(len(rep.Images), ui.Terminal(env.stdout)), stopped)
}

// printed is how many of the images are printed. People on a terminal would see the last rows only of what does not fit.
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

// unmended is the error of a repair that left something.
func unmended(rep gc.Report) error {
	if n := rep.Unmended(); n > 0 {
		return &problemsError{fmt.Errorf("%s left", ui.Count(int64(n), "problem")), "the lines above say what they are; what dcs does not know it does not touch"}
	}
	return nil
}

func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return &usageError{fmt.Errorf("--%s %q is not known", flag, value), "it may be " + sentence(allowed)}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
