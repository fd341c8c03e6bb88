// Package inspect reads what a store holds, as values: rows, figures, and one image as a tree. It renders nothing.
//
// Its law: it changes nothing, so looking never counts as use. A claim (a row whose file has not come) is not listed
// and not counted, but keeps what it refers to, as it does in a run of gc.
//
// The last access of a row is its effective last use: a part of an image was used when the image was. The time of
// expiry is the time from which a run of gc would remove it if it were not used any more.
//
// List finds rows: blobs, images, tags or repositories. The images, tags or blobs that were used last are found
// directly, and cost what is listed. Everything else is one pass over the store. ReadTree reads one image, Sum only the
// figures.
package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Kind says what the rows are.
type Kind string

// The kinds of rows.
const (
	Blobs  Kind = "blobs"
	Images Kind = "images" // one for each repository and top-level manifest
	Tags   Kind = "tags"

	Repositories Kind = "repositories"
)

// Kinds are the kinds that there are.
var Kinds = []Kind{Blobs, Images, Tags, Repositories}

// Sort is an order of rows. Rows that are equal in it are ordered by name.
type Sort string

// The orders.
const (
	ByAccess  Sort = "accessed" // last used first
	ByCreated Sort = "created"  // newest first
	BySize    Sort = "size"     // largest first
	ByName    Sort = "name"     // A to Z
	ByExpiry  Sort = "expires"  // what is removed next first, what never expires last
)

// Sorts are the orders that there are.
var Sorts = []Sort{ByAccess, ByCreated, BySize, ByName, ByExpiry}

// Options say what to list. The zero value lists all blobs, last used first.
type Options struct {
	Kind       Kind   // default Blobs
	Sort       Sort   // default ByAccess, with Expiring ByExpiry; of Repositories neither ByCreated nor ByExpiry
	Reverse    bool   // turns the order round
	Limit      int    // rows after sorting; 0: all
	Repository string // a glob; only what is in such repositories. Empty: everything

	// Expiring lists only what is removed within this time if it is not used; 0: at the next clean-up. Nil: everything.
	Expiring *time.Duration
	// OnProgress is called now and then during a pass over the store, which may take seconds, and with done and total
	// equal at its end. Nil is fine.
	OnProgress func(done, total int64)
}

// progress reports how many of the blobs of the store were read.
func (o Options) progress(done, total int64) {
	if o.OnProgress != nil {
		o.OnProgress(done, total)
	}
}

// OptionError says that an option has a value that makes no sense.
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
		return &OptionError{"sort", string(o.Sort), fmt.Sprintf("is none of %v", Sorts)}
	}
	if o.Kind == Repositories && o.Expiring != nil {
		return &OptionError{"expiring", o.Expiring.String(), "is asked of a repository, which does not expire"}
	}
	if o.Kind == Repositories && (o.Sort == ByCreated || o.Sort == ByExpiry) {
		return &OptionError{"sort", string(o.Sort), "is no order of repositories"}
	}
	if o.Expiring != nil && *o.Expiring < 0 {
		return &OptionError{"expiring", o.Expiring.String(),
			"is in the past; 0 lists what is removed at the next clean-up"}
	}
	if o.Limit < 0 {
		return &OptionError{"limit", fmt.Sprint(o.Limit), "is negative; 0 lists all"}
	}
	if err := rule.Check(o.Repository); err != nil {
		return &OptionError{"repository", o.Repository, err.Error()}
	}
	return nil
}

// setDefaults fills in what was not asked for: blobs, those that were used last first. What expires is in the order of
// its expiry.
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

// compare orders rows by their ranks and, where those are equal, by their names.
func (o Options) compare(a, b Row) int {
	order := cmp.Or(cmp.Compare(b.rank(o.Sort), a.rank(o.Sort)), strings.Compare(a.name(), b.name()))
	if o.Reverse {
		return -order
	}
	return order
}

// lists says whether a row is asked for.
func (o Options) lists(row Row, now int64) bool {
	if o.Expiring == nil {
		return true
	}
	due := row.expires()
	return !due.IsZero() && !due.After(time.UnixMilli(now).Add(*o.Expiring))
}

// List finds the rows that were asked for, as they would live under a policy. The caller closes the listing. The index
// is not held while the caller reads the rows, so a slow reader of the output delays no server.
func List(ctx context.Context, store index.Store, p index.Policy, o Options) (*Listing, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o.setDefaults()
	x, err := newExpiry(ctx, store, p)
	if err != nil {
		return nil, err
	}
	l := &Listing{Kind: o.Kind, Complete: x.whole, Now: time.UnixMilli(x.now), options: o, expiry: x,
		rows: sorted{Options: o}}
	if o.isLatest() {
		err = l.findLatest(ctx)
	} else {
		err = l.survey(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
