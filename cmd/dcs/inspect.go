package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// screenful is how many rows are printed on a terminal without --limit.
const screenful = 50

// inspectFlags are the flags of dcs inspect as they were given, without those of the configuration. Which of them may
// be combined is checked afterwards.
type inspectFlags struct {
	images, tags             bool
	repositories, histogram  bool
	gone, runs, pulls, pins  bool
	check, deep, whatIf      bool
	sort, repository, format string
	expiring                 string
	reverse                  bool
	limit                    int
}

// newInspectCommand makes dcs inspect. It lists rows, checks the store, or shows one image: its flags and its argument
// select one of these.
func newInspectCommand(env *environment) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:        "inspect [NAME[:TAG|@DIGEST]]",
		SuggestFor: []string{"ls", "list", "show", "images", "tags", "df"},
		Short:      "Show images, last use and expiry",
		Long: `Show what is stored, when it was last used, and when it expires: blobs, or with
a flag images, tags, repositories, or bytes by the age of their last use. An
image is used when a client pushes it, pulls it or asks for it. Its blobs are
used with it.

EXPIRES is when the image or blob is removed unless it is used again. Removal is
at the next clean-up after that; the last line says when a running server has
the next one. FREES is how many bytes are freed when the image is removed: those
of blobs that no other image holds. REASON says why an image is kept for now; a
tagged image expires all the same, unless a rule or a pin keeps it. --sort
expires and --expiring 7d show what is removed next. JSON calls FREES
unique_bytes and REASON kept_by. Its summary has expiring_1d_bytes,
expiring_7d_bytes, untagged_bytes and, if a server runs, next_cleanup_at.

--gone lists the images that were removed: by a clean-up (WHY is as in dcs gc),
deleted by a client, or missing since their files were not on the disk any more.
--runs lists past clean-ups, --pulls the GET requests for manifests and blobs by
the hour: a miss got 404. cache.gone_for says how long these are remembered.
With the name of an image that is gone, inspect fails, and the hint says what
became of it.

It works beside a running server, without one, and on a read-only directory. It
never counts as use. Without cache.ttl and cache.grace in the configuration the
policy of the last server of the directory applies.

With a name it shows that image as a tree: its parts, its referrers, and which
blobs other images hold too. The default tag is latest. A digest may be
shortened, and it decides if there is a tag as well. A digest alone is searched
in all repositories.

--what-if estimates which part of the bytes that clients pulled other budgets
and other ttls would have had, over the time that servers recorded. It says from
how much it estimates.

--check verifies the store and changes nothing. It finds: missing blob, wrong
size, partial index, dangling link, orphan file, unparsable manifest, tag to
nowhere, stale row, refused link, unknown file, unreadable; and with --deep
wrong digest. A push or a clean-up in progress is not reported. dcs gc --repair
repairs what can be repaired.

EXIT STATUS
  0    done; --check: no problems
  1    failed, or there is no such image
  2    bad command line or configuration
  3    --check found problems
  130  interrupted`,
		Example: `  dcs inspect --images --storage.directory /var/cache/docker-cache-server
  dcs inspect team/app:1.0
  dcs inspect --images --expiring 7d
  dcs inspect --repositories --sort size
  dcs inspect --tags --repository 'team/**' --sort size --limit 10
  dcs inspect --histogram
  dcs inspect --what-if
  dcs inspect --gone --repository 'team/**'
  dcs inspect --pins
  dcs inspect --format json | jq -r '.blobs[] | select(.manifests == 0) | .digest'`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return inspectImage(env, cmd, args[0], f.format)
			}
			if f.pins {
				return f.inspectPins(env, cmd)
			}
			if f.check {
				return f.verify(env, cmd)
			}
			if f.whatIf {
				return f.judge(env, cmd)
			}
			opts, err := f.options(ui.Terminal(env.stdout), cmd.Flags().Changed)
			if err != nil {
				return err
			}
			opener, err := openerOf(env, cmd)
			if err != nil {
				return err
			}
			bar := ui.NewProgress(env.stderr, env.get)
			defer bar.Close()
			to := newDisplay(env)
			to.to = bar.Above(env.stdout)
			opts.OnProgress = func(done, total int64) {
				if done == total {
					bar.Show(ui.Step{})
					return
				}
				bar.Show(ui.Step{What: "reading the index", Done: done, Total: total})
			}
			switch {
			case f.gone:
				return goneImages.show(cmd.Context(), opener, opts, f.format, to)
			case f.runs:
				return pastRuns.show(cmd.Context(), opener, opts, f.format, to)
			case f.pulls:
				return pastPulls.show(cmd.Context(), opener, opts, f.format, to)
			}
			return f.list(cmd.Context(), opener, opts, to)
		},
	}
	addConfigFlags(cmd, "storage.*", "cache.*", "log.*")
	hideFlags(cmd, "cache.cleanup_interval", "cache.what_if_memory", "cache.max_size", "cache.min_free", "log.access")
	cmd.Flags().BoolVar(&f.images, "images", false, "one row for each repository and top-level manifest")
	cmd.Flags().BoolVar(&f.tags, "tags", false, "one row for each tag")
	cmd.Flags().BoolVar(&f.repositories, "repositories", false, "one row for each repository")
	cmd.Flags().BoolVar(&f.pins, "pins", false, "the pins that dcs pin placed")
	cmd.Flags().BoolVar(&f.histogram, "histogram", false, "bytes by the age of their last use, as bars")
	cmd.Flags().BoolVar(&f.whatIf, "what-if", false,
		"what clients would have found with other budgets and other ttls, as a table and as curves")
	cmd.Flags().BoolVar(&f.gone, "gone", false, "images that were removed, when and why, the latest first")
	cmd.Flags().BoolVar(&f.runs, "runs", false, "past clean-ups, the latest first")
	cmd.Flags().BoolVar(&f.pulls, "pulls", false, "hits and misses of pulls by the hour, the latest first")
	cmd.Flags().StringVar(&f.sort, "sort", string(inspect.ByAccess),
		"order of the rows: accessed or created (newest first), size (largest first), name (A to Z), "+
			"expires (soonest first)")
	completeValues(cmd, "sort", words(inspect.Sorts)...)
	cmd.Flags().StringVar(&f.expiring, "expiring", "",
		"only what is removed within this `DURATION` unless it is used, soonest first")
	cmd.Flags().BoolVar(&f.reverse, "reverse", false, "reverse the order")
	cmd.Flags().IntVar(&f.limit, "limit", 0,
		"print the first `N` rows, 0 = all (default: 50 on a terminal, all when piped)")
	cmd.Flags().StringVar(&f.repository, "repository", "",
		"only repositories that match this `GLOB`; * does not match a slash, ** does")
	cmd.Flags().StringVar(&f.format, "format", formatTable, "output format: `table|json|csv`")
	cmd.Flags().BoolVar(&f.check, "check", false,
		"verify every link and reference of the store; a line for each problem, and exit code 3")
	cmd.Flags().BoolVar(&f.deep, "deep", false, "with --check: also read every blob and compare it with its digest")
	return cmd
}

// options turns the flags into the options of a listing. given tells whether a flag was on the command line, since
// defaults depend on that.
func (f inspectFlags) options(terminal bool, given func(flag string) bool) (inspect.Options, error) {
	o := inspect.Options{Kind: inspect.Blobs, Sort: inspect.Sort(f.sort), Reverse: f.reverse, Limit: f.limit,
		Repository: f.repository}
	limited := given("limit")
	if err := f.conflict(limited, given("expiring")); err != nil {
		return o, err
	}
	if err := f.checkHistory(given); err != nil {
		return o, err
	}
	if given("expiring") {
		d, err := config.ParseDuration(f.expiring)
		if err != nil {
			return o, &usageError{fmt.Errorf("--expiring: %w", err), ""}
		}
		if d < 0 {
			return o, &usageError{fmt.Errorf("--expiring: %q is negative", f.expiring),
				"0 shows what is removed at the next clean-up"}
		}
		o.Expiring = &d
		if !given("sort") {
			o.Sort = inspect.ByExpiry
		}
	}
	switch {
	case f.images:
		o.Kind = inspect.Images
	case f.tags:
		o.Kind = inspect.Tags
	case f.repositories:
		o.Kind = inspect.Repositories
	}
	switch {
	case f.histogram:
		o.Limit = 1 // its rows are not shown
	case terminal && !limited:
		o.Limit = screenful
	}
	if err := oneOf("format", f.format, formats...); err != nil {
		return o, err
	}
	if err := oneOf("sort", f.sort, words(inspect.Sorts)...); err != nil {
		return o, err
	}
	if f.gone && !given("sort") {
		o.Sort = "" // by the time of the removal
	}
	check := o.Check
	if f.gone {
		check = o.CheckGone
	}
	if err := check(); err != nil {
		return o, &usageError{fmt.Errorf("--%w", err), "dcs inspect --help lists the flags"}
	}
	return o, nil
}

// checkHistory refuses flags that say nothing about history.
func (f inspectFlags) checkHistory(given func(flag string) bool) error {
	var refused []string
	flag := "--gone"
	switch {
	case f.gone:
		refused = []string{"expiring"}
	case f.runs:
		flag, refused = "--runs", []string{"expiring", "repository", "sort"}
	case f.pulls:
		flag, refused = "--pulls", []string{"expiring", "repository", "sort"}
	}
	for _, other := range refused {
		if given(other) {
			return &usageError{fmt.Errorf("--%s cannot be combined with %s", other, flag),
				"leave it out; --limit and --reverse are possible"}
		}
	}
	return nil
}

// conflict returns an error for flags that exclude each other.
func (f inspectFlags) conflict(limited, expiring bool) error {
	var kinds []string
	for _, k := range []struct {
		asked bool
		flag  string
	}{{f.images, "--images"}, {f.tags, "--tags"}, {f.repositories, "--repositories"},
		{f.gone, "--gone"}, {f.runs, "--runs"}, {f.pulls, "--pulls"}} {
		if k.asked {
			kinds = append(kinds, k.flag)
		}
	}
	switch {
	case f.deep && !f.check:
		return &usageError{errors.New("--deep needs --check"), "dcs inspect --check --deep reads every blob"}
	case len(kinds) > 1:
		return &usageError{fmt.Errorf("%s exclude each other", strings.Join(kinds, " and ")),
			"run dcs inspect once for each"}
	case f.histogram && len(kinds) > 0:
		return &usageError{errors.New("--histogram counts blobs"), "leave out " + kinds[0]}
	case f.histogram && (f.reverse || limited || expiring || f.sort != string(inspect.ByAccess)):
		return &usageError{errors.New("--histogram has no rows to sort or to limit"),
			"leave out --sort, --reverse, --limit and --expiring"}
	}
	return nil
}

// verify is dcs inspect --check.
func (f inspectFlags) verify(env *environment, cmd *cobra.Command) error {
	for _, flag := range listFlags {
		if cmd.Flags().Changed(flag) {
			return &usageError{fmt.Errorf("--%s cannot be combined with --check", flag),
				"leave it out: the whole store is checked"}
		}
	}
	if err := oneOf("format", f.format, formats...); err != nil {
		return err
	}
	opener, err := openerOf(env, cmd)
	if err != nil {
		return err
	}
	bar := ui.NewProgress(env.stderr, env.get)
	defer bar.Close()
	found, seen, err := check(cmd.Context(), opener, f.deep, func(objects int64) {
		bar.Show(ui.Step{What: "checking the store", Done: objects})
	})
	if err != nil {
		return err
	}
	bar.Close()
	if err := writeCheck(env.stdout, f.format, found, seen); err != nil || len(found) == 0 {
		return err
	}
	return &problemsError{fmt.Errorf("%s found in %s", ui.Count(int64(len(found)), "problem"), opener.Dir),
		"dcs gc --repair repairs what can be repaired; add --dry-run to see how"}
}

// words returns texts of another type as strings.
func words[T ~string](of []T) (all []string) {
	for _, w := range of {
		all = append(all, string(w))
	}
	return all
}

// openerOf opens the store that the configuration names.
func openerOf(env *environment, cmd *cobra.Command) (store.Opener, error) {
	cfg, origins, err := loadConfig(env, cmd)
	if err != nil {
		return store.Opener{}, err
	}
	log, err := newLogger(env, cfg)
	if err != nil {
		return store.Opener{}, err
	}
	return newOpener(cfg, origins, log)
}

// newDisplay finds out what standard output can show: its width, colours, and the characters for branches.
func newDisplay(env *environment) display {
	return display{env.stdout, ui.Width(env.stdout, env.get), ui.Colour(env.stdout, env.get), ui.BranchesFor(env.get)}
}
