package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// Kind says what Inspect lists.
type Kind string

// The kinds. An image is a top-level manifest of a repository with its tags; its referrers, such as signatures, are
// part of it.
const (
	Images Kind = "images"
	Tags   Kind = "tags"
	Blobs  Kind = "blobs"
)

// Sort is the order in which Inspect lists. Rows that are equal in it are in the order of names.
type Sort string

// The orders.
const (
	ByAccess  Sort = "accessed" // last used first
	ByCreated Sort = "created"  // newest first
	BySize    Sort = "size"     // largest first
	ByName    Sort = "name"     // A to Z: repository and tag, or digest
)

// InspectOptions say what to list. The zero value lists all images, last used first.
type InspectOptions struct {
	// Kind is what to list. Default Images.
	Kind Kind
	// Sort is the order. Default ByAccess.
	Sort Sort
	// Reverse turns the order round.
	Reverse bool
	// Limit is how many rows are listed at most, after sorting. Default 0, all, which takes some hundred bytes of
	// memory for each. A list of up to 1000 rows that were used last costs what is listed; any other list is a pass
	// over the whole store, a second or so for 100,000 blobs.
	Limit int
	// Repository is a pattern such as "team/*", or "team/**" which crosses slashes; only the content of such
	// repositories is listed and counted. Default "": everything.
	Repository string
}

// Inspection is what Inspect found: one consistent state of the store.
type Inspection struct {
	// Complete is false while the index is being compared with the disk, after a start: the list may lack something.
	Complete bool
	// Summary counts the whole store, or with a pattern the repositories that match it. The limit does not change it.
	Summary Stats
	// One of these has the list, by the Kind.
	Images []Image
	Tags   []Image // each with one tag
	Blobs  []Blob
}

// Image is an image of a repository, or one of its tags.
type Image struct {
	Repository  string
	Tags        []string // A to Z; none: untagged
	Digest      string   // of the manifest
	MediaType   string
	Size        int64     // bytes of everything that it refers to, each blob once
	UniqueBytes int64     // bytes that are freed when it is removed
	LastAccess  time.Time // UTC, in milliseconds
	ExpiresAt   time.Time // from then on a run removes it, if it stays unused; zero: never
	KeptBy      string    // what keeps it: "tag", "parent", "subject", "grace", "ttl" or "rule"; empty: it is due
}

// Blob is a file with content: a layer, a configuration or a manifest.
type Blob struct {
	Digest       string
	Size         int64  // bytes
	Kind         string // "layer", "config", "manifest", "index" or "other"
	CreatedAt    time.Time
	LastAccess   time.Time
	ExpiresAt    time.Time // zero: never
	Repositories []string  // in which it can be pulled, A to Z
	Manifests    int       // how many refer to it
}

// Inspect lists what is stored. It does not count as use, and delays no request. It may be called at any time. When ctx
// ends it returns the error of ctx. An invalid option is an error, and so is a server that was shut down (ErrClosed).
func (s *Server) Inspect(ctx context.Context, o InspectOptions) (*Inspection, error) {
	kind := map[Kind]inspect.Kind{"": inspect.Images, Images: inspect.Images, Tags: inspect.Tags,
		Blobs: inspect.Blobs}[o.Kind]
	if kind == "" {
		return nil, fmt.Errorf("server.Inspect: there is no kind %q; list images, tags or blobs", o.Kind)
	}
	list, err := s.s.Inspect(ctx, inspect.Options{Kind: kind, Sort: inspect.Sort(o.Sort), Reverse: o.Reverse,
		Limit: o.Limit, Repository: o.Repository})
	if err != nil {
		return nil, fmt.Errorf("server.Inspect: %w", err)
	}
	found := &Inspection{Complete: list.Complete, Summary: Stats(list.Totals)}
	for _, row := range list.Rows {
		switch r := row.(type) {
		case inspect.Blob:
			found.Blobs = append(found.Blobs, newBlob(r))
		case inspect.Image:
			if kind == inspect.Tags {
				found.Tags = append(found.Tags, newImage(r))
			} else {
				found.Images = append(found.Images, newImage(r))
			}
		}
	}
	return found, nil
}

func newImage(i inspect.Image) Image {
	return Image{Repository: i.Repository, Tags: strings.Fields(i.Tag), Digest: i.Digest.String(),
		MediaType: i.MediaType, Size: i.Size,
		UniqueBytes: i.UniqueBytes, LastAccess: utc(i.LastAccess), ExpiresAt: utc(i.ExpiresAt), KeptBy: i.KeptBy}
}

func newBlob(b inspect.Blob) Blob {
	return Blob{Digest: b.Digest.String(), Size: b.Size, Kind: b.Kind, CreatedAt: utc(b.CreatedAt),
		LastAccess: utc(b.LastAccess),
		ExpiresAt:  utc(b.ExpiresAt), Repositories: b.Repositories, Manifests: b.Manifests}
}

func utc(t stamp.Time) time.Time {
	if time.Time(t).IsZero() {
		return time.Time{}
	}
	return time.Time(t).UTC()
}
