// Package inspect tells what a store holds: read models for people, and for machines as JSON and CSV.
//
// What is always true: it reads one consistent state of the index and changes nothing, so looking never
// counts as use. What is only announced (rows whose file has not come) is not listed and not counted,
// but keeps what it refers to, as it does in an expiry run.
//
// A time of last access is the effective one: recency enters at tags and manifests, and all that an
// image consists of was used when the image was. Within a repository a manifest was used when itself,
// its tags, a manifest that names it, or its subject was; a layer link when itself or a manifest that
// names it was; and a blob when one of its links and manifests was, in any repository. The time of
// expiry is the time from which an expiry run would remove the thing if nobody used it any more.
//
// There are two ways to the rows. What was used last is found by going back over the last uses (recent):
// that costs what is shown. Everything else takes one pass over the store (survey), with a few dozen bytes
// in memory for each manifest and none for blobs: rows that are too many are sorted in a temporary file.
package inspect

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// Kind says what the rows are.
type Kind string

// The kinds of rows.
const (
	Blobs  Kind = "blobs"
	Images Kind = "images" // one for each repository and top-level manifest
	Tags   Kind = "tags"
)

// Sort is an order of rows. Rows that are equal in it are ordered by name.
type Sort string

// The orders.
const (
	ByAccess  Sort = "accessed" // last used first
	ByCreated Sort = "created"  // newest first
	BySize    Sort = "size"     // largest first
	ByName    Sort = "name"     // A to Z
	ByExpiry  Sort = "expires"  // what goes next first, what never goes last
)

// Sorts and Formats are what --sort and --format take.
var (
	Sorts   = []Sort{ByAccess, ByCreated, BySize, ByName, ByExpiry}
	Formats = []Format{Table, JSON, CSV}
)

// Options say what to list. The zero value lists all blobs, last used first.
type Options struct {
	Kind       Kind   // default Blobs
	Sort       Sort   // default ByAccess, with Expiring ByExpiry
	Reverse    bool   // turns the order round
	Limit      int    // rows after sorting; 0: all
	Repository string // a glob; only what is in such repositories. Empty: everything
	Histogram  bool   // bytes by age in place of rows; of Blobs only, in no other order

	Expiring *time.Duration // only what goes within it if nobody uses it; 0: with the next clean-up. Nil: everything

	next       time.Time // when the server cleans up next; zero: nobody knows
	onProgress func(done, total int64)
}

func (o Options) progress(done, total int64) {
	if o.onProgress != nil {
		o.onProgress(done, total)
	}
}

// OptionError says that an option cannot be what it is.
type OptionError struct {
	Option string // as on the command line, without dashes
	Value  string
	Reason string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("%s: %q %s", e.Option, e.Value, e.Reason)
}

// Check returns an *OptionError, or nil.
func (o Options) Check() error {
	if o.Sort != "" && !slices.Contains(Sorts, o.Sort) {
		return &OptionError{"sort", string(o.Sort), oneOf(Sorts)}
	}
	if o.Expiring != nil && *o.Expiring < 0 {
		return &OptionError{"expiring", o.Expiring.String(), "is in the past; 0 is what goes with the next clean-up"}
	}
	if o.Limit < 0 {
		return &OptionError{"limit", fmt.Sprint(o.Limit), "is negative; 0 lists all"}
	}
	if _, err := compileGlob(o.Repository); err != nil {
		return &OptionError{"repository", o.Repository, "is not a pattern such as team/* or team/**"}
	}
	return nil
}

func oneOf[T ~string](known []T) string { return fmt.Sprintf("is none of %v", known) }

// Row is a Blob or an Image.
type Row interface {
	rank(Sort) int64 // the larger comes first
	name() string    // decides between equal ranks, A to Z
	dgst() digest.Digest
	expires() time.Time // zero: never
	record() []string
}

// Write lists what a store holds, as it would live under a policy. The store is not held while the
// output is written, so a slow reader of a pipe delays nobody.
func Write(ctx context.Context, store index.Store, p index.Policy, o Options, out Output) error {
	if err := errors.Join(o.Check(), out.check()); err != nil {
		return err
	}
	o.setDefaults()
	o.onProgress = out.OnProgress
	l, err := newLifetimes(ctx, store, p)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out.To)
	to := out.printer(buffered, o, l)
	switch {
	case o.Histogram:
		err = writeHistogram(ctx, l, o, out, buffered)
	case o.isRecent():
		err = writeRecent(ctx, l, o, out.Format == JSON, to)
	default:
		err = writeSurvey(ctx, l, o, to)
	}
	return errors.Join(err, buffered.Flush())
}

// compare orders rows by their ranks and, where those are equal, by their names.
func (o Options) compare(rankA, rankB int64, nameA, nameB string) int {
	order := cmp.Or(cmp.Compare(rankB, rankA), strings.Compare(nameA, nameB))
	if o.Reverse {
		return -order
	}
	return order
}

func (o *Options) setDefaults() {
	if o.Kind == "" {
		o.Kind = Blobs
	}
	if o.Sort == "" && o.Expiring != nil {
		o.Sort = ByExpiry
	}
	if o.Sort == "" {
		o.Sort = ByAccess
	}
}

// lists says whether a row is asked for.
func (o Options) lists(row Row, now int64) bool {
	if o.Expiring == nil {
		return true
	}
	due := row.expires()
	return !due.IsZero() && !due.After(time.UnixMilli(now).Add(*o.Expiring))
}

// writeRecent writes the rows at once; what sums them up takes longer, and comes from a later state. Where the summary is
// written first it has to wait for that.
func writeRecent(ctx context.Context, l lifetimes, o Options, sumFirst bool, to printer) error {
	var f Figures
	var rows []Row
	sum := func(r index.Reader) error {
		s, err := takeSurvey(ctx, r, l, o, func(*survey, *blobUse) error { return nil })
		if err == nil {
			f = s.figures
			f.Rows = map[Kind]int64{Blobs: f.Blobs, Images: f.Images, Tags: f.Tags}[o.Kind]
		}
		return err
	}
	err := l.store.View(ctx, func(r index.Reader) (err error) {
		if sumFirst {
			err = sum(r)
		} else {
			f.Totals, err = r.Totals()
		}
		if err == nil {
			rows, err = findRecent(ctx, r, l, o)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	lines, err := newLines(rows, o, to)
	if err != nil {
		return err
	}
	if err := to.begin(f); err != nil {
		return err
	}
	for i := range lines {
		if err := to.line(&lines[i]); err != nil {
			return err
		}
	}
	return to.end(func() (Figures, error) {
		err := l.store.View(ctx, sum)
		return f, err
	})
}

// writeSurvey puts all rows in order before it writes the first.
func writeSurvey(ctx context.Context, l lifetimes, o Options, to printer) (err error) {
	rows := newSpool(o, to.measure)
	defer func() { err = errors.Join(err, rows.close()) }()
	var listed int64
	add := func(row Row) error {
		if !o.lists(row, l.now) {
			return nil
		}
		listed++
		l, err := newLine(row, o, to)
		if err != nil {
			return err
		}
		return rows.add(l)
	}
	var f Figures
	err = l.store.View(ctx, func(r index.Reader) error {
		s, err := surveyRows(ctx, r, l, o, add)
		if err == nil {
			f = s.figures
		}
		return err
	})
	if err != nil {
		return err
	}
	rows.settle()
	f.Rows = listed
	if err := to.begin(f); err != nil {
		return err
	}
	if err := rows.deliver(to.line); err != nil {
		return err
	}
	return to.end(func() (Figures, error) { return f, nil })
}

// newLines renders rows in the order of their digests, as a survey meets them, and leaves them in theirs.
func newLines(rows []Row, o Options, to printer) ([]line, error) {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rows[a].dgst(), rows[b].dgst()) })
	lines := make([]line, len(rows))
	for _, i := range order {
		var err error
		if lines[i], err = newLine(rows[i], o, to); err != nil {
			return nil, err
		}
		to.measure(&lines[i])
	}
	return lines, nil
}

func newLine(row Row, o Options, to printer) (line, error) {
	text, err := to.render(row)
	return line{Rank: row.rank(o.Sort), Name: row.name(), Text: text}, err
}
