package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
	"github.com/sirupsen/logrus"
)

// The forms of dcs inspect's output.
const (
	formatTable = "table" // for people
	formatJSON  = "json"  // one object: the summary, then an array named after the kind
	formatCSV   = "csv"   // the keys of JSON, then a line for each row; lists are joined by a blank
)

var formats = []string{formatTable, formatJSON, formatCSV}

// display is the output for people, and what it can show.
type display struct {
	to       io.Writer
	width    int // columns; 0: unlimited
	colour   bool
	branches ui.Branches
}

// listed is a listing with all that its output needs.
type listed struct {
	*inspect.Listing
	options inspect.Options
	next    time.Time // of the next clean-up; zero: not known
}

// write writes the listing in a format: its rows, or the histogram in their place.
func (l listed) write(ctx context.Context, histogram bool, format string, to display) error {
	switch {
	case histogram:
		return l.writeHistogram(ctx, format, to)
	case format == formatJSON:
		return l.writeJSON(ctx, to.to)
	case format == formatCSV:
		return csvRows(to.to, csvColumns[l.Kind], l.Rows(ctx), record)
	}
	return l.writeTable(ctx, to)
}

// listSummary is what JSON says of the store.
type listSummary struct {
	inspect.Figures
	Next     stamp.Time `json:"next_cleanup_at,omitzero"`
	Complete bool       `json:"complete"` // the index knows all that is on disk
}

// summary computes the figures of the store, which may take seconds.
func (l listed) summary(ctx context.Context) (listSummary, error) {
	f, err := l.Figures(ctx)
	return listSummary{f, stamp.Time(l.next), l.Complete}, err
}

// writeJSON writes one object, with each row on a line of its own. Only one row is in memory at a time.
func (l listed) writeJSON(ctx context.Context, to io.Writer) error {
	s, err := l.summary(ctx)
	if err != nil {
		return err
	}
	head, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return jsonRows(to, `"summary":`+string(head)+",", string(l.Kind), l.Rows(ctx))
}

// jsonRows writes an object that ends with an array of rows, and begins with other keys: before has them, with their
// commas.
func jsonRows[T any](to io.Writer, before, name string, rows iter.Seq2[T, error]) error {
	w := bufio.NewWriter(to) // which keeps the first error of a write for Flush
	fmt.Fprintf(w, `{%s"%s":[`, before, name)
	separator := "\n"
	for row, err := range rows {
		if err != nil {
			return err
		}
		data, err := json.Marshal(row)
		if err != nil {
			return err
		}
		_, _ = w.WriteString(separator)
		if _, err := w.Write(data); err != nil {
			return err
		}
		separator = ",\n"
	}
	_, _ = w.WriteString("]}\n")
	return w.Flush()
}

// csvColumns are the keys of JSON.
var csvColumns = map[inspect.Kind][]string{
	inspect.Blobs: {"digest", "size", "kind", "created_at", "last_access", "expires_at", "repositories",
		"manifests"},
	inspect.Images: {"repository", "tag", "digest", "media_type", "size", "unique_bytes", "last_access",
		"expires_at", "kept_by", "tags"},
	inspect.Tags: {"repository", "tag", "digest", "media_type", "size", "unique_bytes", "last_access",
		"expires_at", "kept_by"},
	inspect.Repositories: {"repository", "images", "size", "unique_bytes", "last_access"},
}

// csvRows writes the columns, then a line for each row. Only one row is in memory at a time.
func csvRows[T any](to io.Writer, columns []string, rows iter.Seq2[T, error], record func(T) []string) error {
	w := csv.NewWriter(to) // which buffers, and keeps the first error of a write
	_ = w.Write(columns)
	for row, err := range rows {
		if err != nil {
			return err
		}
		if err := w.Write(record(row)); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// record returns the cells of a row in the order of csvColumns.
func record(row inspect.Row) []string {
	switch r := row.(type) {
	case inspect.Blob:
		return []string{r.Digest.String(), decimal(r.Size), r.Kind, r.CreatedAt.String(), r.LastAccess.String(),
			r.ExpiresAt.String(),
			strings.Join(r.Repositories, " "), strconv.Itoa(r.Manifests)}
	case inspect.Repository:
		return []string{r.Repository, decimal(r.Images), decimal(r.Size), decimal(r.UniqueBytes), r.LastAccess.String()}
	case inspect.Image:
		record := []string{r.Repository, r.Tag, r.Digest.String(), r.MediaType, decimal(r.Size), decimal(r.UniqueBytes),
			r.LastAccess.String(), r.ExpiresAt.String(), r.KeptBy}
		if r.Tags != nil { // it is an image, not a tag
			record = append(record, strings.Join(r.Tags, " "))
		}
		return record
	}
	return nil
}

// decimal formats a number for programs: no separators, no unit.
func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// incomplete is the first thing that people read while a server scans the disk.
const incomplete = "the index is being rebuilt from disk: what follows is incomplete"

// list writes what the flags ask for.
func (f inspectFlags) list(ctx context.Context, opener store.Opener, o inspect.Options, to display) (err error) {
	st, err := opener.Look(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	list, err := inspect.List(ctx, st.Index, st.Policy, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	if f.format == formatCSV && !list.Complete { // CSV has no place for it
		opener.Log.Warn(incomplete)
	}
	return listed{list, o, nextRun(ctx, st, opener.Log)}.write(ctx, f.histogram, f.format, to)
}

// nextRun is when the server of the store cleans up next. Zero: that is not known, or no server runs.
func nextRun(ctx context.Context, st *store.Store, log logrus.FieldLogger) time.Time {
	if st.Server == nil {
		return time.Time{}
	}
	at, err := st.Index.NextRun(ctx)
	if err != nil {
		log.WithError(err).Debug("cannot read when the next clean-up is")
	}
	return at
}
