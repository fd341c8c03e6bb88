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
// Write does all of it: read, order, print. Read hands the rows to a Sink.
package inspect

import (
	"context"
	"fmt"
	"slices"
	"time"

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
)

// Sorts and Formats are what --sort and --format take.
var (
	Sorts   = []Sort{ByAccess, ByCreated, BySize, ByName}
	Formats = []Format{Table, JSON, CSV}
)

// Options say what to list. The zero value lists all blobs, last used first.
type Options struct {
	Kind       Kind   // default Blobs
	Sort       Sort   // default ByAccess
	Reverse    bool   // turns the order round
	Limit      int    // rows after sorting; 0: all
	Repository string // a glob; only what is in such repositories. Empty: everything
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
	if o.Limit < 0 {
		return &OptionError{"limit", fmt.Sprint(o.Limit), "is negative; 0 lists all"}
	}
	if _, err := compileGlob(o.Repository); err != nil {
		return &OptionError{"repository", o.Repository, "is not a pattern such as team/* or team/**"}
	}
	return nil
}

func oneOf[T ~string](known []T) string { return fmt.Sprintf("is none of %v", known) }

// Head is what is known before the first row.
type Head struct {
	Kind    Kind
	Summary index.Totals // of the whole store, or of the repositories that were asked for
	Rows    int          // before the limit
	Now     time.Time    // the store's
}

// Row is a Blob or an Image.
type Row interface {
	rank(Sort) int64 // the larger comes first
	record() []string
}

// Sink takes what Read found: the head, the rows in order, and the end.
type Sink interface {
	Begin(Head) error
	Row(Row) error
	End() error
}

// Read lists what a store holds, as it would live under a policy, into a sink. The store is not held
// while the sink works, so a slow reader of a pipe delays nobody.
func Read(ctx context.Context, store index.Store, p index.Policy, o Options, to Sink) error {
	if err := o.Check(); err != nil {
		return err
	}
	if o.Kind == Images || o.Kind == Tags {
		return readImages(ctx, store, p, o, to)
	}
	o.Kind = Blobs
	return readBlobs(ctx, store, p, o, to)
}

func readBlobs(ctx context.Context, store index.Store, p index.Policy, o Options, to Sink) error {
	rows := newSelection(o, Blob.compareName)
	g, err := load(ctx, store, p, o, func(g *graph, u use) {
		if u.selected {
			rows.add(g.blob(u))
		}
	})
	if err != nil {
		return err
	}
	return rows.deliver(g.head(o.Kind), to)
}

func readImages(ctx context.Context, store index.Store, p index.Policy, o Options, to Sink) error {
	g, err := load(ctx, store, p, o, (*graph).account)
	if err != nil {
		return err
	}
	rows := newSelection(o, Image.compareName)
	if o.Kind == Tags {
		g.tagRows(rows.add)
	} else {
		g.imageRows(rows.add)
	}
	return rows.deliver(g.head(o.Kind), to)
}

// selection orders rows and keeps the first of them.
type selection[T Row] struct {
	limit   int // 0: all
	compare func(a, b T) int
	rows    []T
	seen    int
}

func newSelection[T Row](o Options, byName func(a, b T) int) *selection[T] {
	if o.Sort == "" {
		o.Sort = ByAccess
	}
	compare := func(a, b T) int {
		if d := b.rank(o.Sort) - a.rank(o.Sort); d != 0 {
			return int(max(-1, min(1, d)))
		}
		return byName(a, b)
	}
	if o.Reverse {
		return &selection[T]{limit: o.Limit, compare: func(a, b T) int { return compare(b, a) }}
	}
	return &selection[T]{limit: o.Limit, compare: compare}
}

func (s *selection[T]) add(r T) {
	s.rows = append(s.rows, r)
	s.seen++
	if s.limit > 0 && len(s.rows) >= 2*s.limit {
		s.cut() // twice the limit, so that sorting costs little a row
	}
}

func (s *selection[T]) cut() {
	slices.SortFunc(s.rows, s.compare)
	if s.limit > 0 && len(s.rows) > s.limit {
		clear(s.rows[s.limit:])
		s.rows = s.rows[:s.limit]
	}
}

func (s *selection[T]) deliver(h Head, to Sink) error {
	s.cut()
	h.Rows = s.seen
	if err := to.Begin(h); err != nil {
		return err
	}
	for _, r := range s.rows {
		if err := to.Row(r); err != nil {
			return err
		}
	}
	return to.End()
}
