package registry

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
)

// Content is what the registry serves: a store that reads and writes for clients, whatever holds its bytes. Its methods
// may be called concurrently. What they answer to be there stays for the grace; see package content for the laws.
type Content interface {
	// Blob finds a layer of a repository, and returns its size in bytes. content.ErrUnknown, *content.LeaseError.
	Blob(ctx context.Context, repo string, d digest.Digest, use content.Use) (size int64, err error)
	// Open opens a layer of a repository to be read. content.ErrUnknown.
	Open(ctx context.Context, repo string, d digest.Digest) (content.Body, error)
	// Mount makes a layer of one repository a layer of another, and returns its size in bytes; MountFromAny takes it
	// from any repository that has it. content.ErrUnknown, *content.LeaseError.
	Mount(ctx context.Context, repo, from string, d digest.Digest) (int64, error)
	MountFromAny(ctx context.Context, repo string, d digest.Digest) (int64, error)

	// Begin begins an upload whose digest will be of the algorithm; empty: not known yet. *content.FullError. Resume
	// goes on with one: content.ErrUnknown, content.ErrBusy. The caller closes the upload.
	Begin(ctx context.Context, repo string, algorithm digest.Algorithm) (content.Upload, error)
	Resume(repo, id string) (content.Upload, error)
	// UploadSize is how many bytes an upload has. It does not wait for the request that writes to it.
	// content.ErrUnknown.
	UploadSize(repo, id string) (int64, error)
	// HasUpload says whether an upload exists, or may exist.
	HasUpload(repo, id string) bool
	// Uploads counts the unfinished uploads that this process knows: those that a request writes to, and those to which
	// one wrote after since.
	Uploads(since time.Time) (active, waiting int)
	// Leases counts the uses so far.
	Leases() content.Leases

	// Manifest finds a manifest of a repository by tag or digest. One of more than most bytes is not read.
	// content.ErrUnknown, content.ErrUnreadable, *content.LargeError, *content.LeaseError.
	Manifest(ctx context.Context, repo, reference string, use content.Use, most int64) (*content.Manifest, error)
	// PutManifest makes a manifest part of a repository, which has all that it refers to, and points tags at it. All of
	// it survives a power loss then. *content.MissingError, *content.SizeError, *content.FullError.
	PutManifest(ctx context.Context, repo string, m content.Manifest, tags []string) error

	// DeleteLayer, DeleteTag and DeleteManifest remove names. A manifest is removed together with its tags, which
	// DeleteManifest returns. content.ErrUnknown, *index.ReferencedError,
	// *index.PinnedError, index.ErrGateClosed.
	DeleteLayer(ctx context.Context, repo string, d digest.Digest) error
	DeleteTag(ctx context.Context, repo, tag string) error
	DeleteManifest(ctx context.Context, repo string, d digest.Digest) (tags []string, err error)

	// Tags lists the tags of a repository that come after one, in the order of bytes, and Repositories lists the
	// repositories that have a manifest: at most so many, all for -1. more is the last name of a page that another one
	// follows. content.ErrUnknown for a repository that does not exist.
	Tags(ctx context.Context, repo, after string, most int) (tags []string, more string, err error)
	Repositories(ctx context.Context, after string, most int) (names []string, more string, err error)
	// Referrers calls f with each manifest whose subject is d and whose artifact type is the one asked for, unless that
	// is empty, in the order of digests after one, until f returns false. Before a manifest longer than
	// content.MaxCached is read, room is called with its length in bytes. whole is false while the index may not know
	// all of the repository.
	Referrers(ctx context.Context, repo string, d, after digest.Digest, artifactType string, room func(int64) error,
		f func(*content.Manifest) bool) (whole bool, err error)
}
