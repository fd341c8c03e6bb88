// Package content says what a store of content takes from clients and gives to them, whatever holds its bytes.
//
// It has the words that a store and its callers share: a manifest, an unfinished upload, an open blob, a use, and
// the errors that a client is told of. The package that serves clients declares which methods it needs; a package
// below this one implements them (files: rows in an index, bytes in local files). All of them keep these laws:
//
//   - What a client was told to exist stays for the grace: its use is recorded (leased) before the store looks
//     whether it exists, never after.
//   - Nothing is named before everything that it refers to is named and durable.
//   - A manifest that was answered survives a power loss, with all that it refers to. A layer survives a kill.
//   - A store removes names only, at a client's request. Bytes are removed by internal/gc.
package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Use says what a caller does with what it asks for, and so how strictly its use is recorded.
type Use uint8

const (
	// Read is for bytes that are in hand: they are served even when their use cannot be recorded.
	Read Use = iota
	// Promise is for an answer that is worth nothing without its lease, such as that a blob exists.
	Promise
	// Maintenance is no use: nothing is recorded.
	Maintenance
)

// Manifest is a manifest as it was pushed.
type Manifest struct {
	Digest digest.Digest
	Data   []byte // its bytes, of which Digest is the digest
	*manifest.Manifest
}

// MaxCached is how long a manifest may be, in bytes, to be kept in memory by a store. Most have a few kilobytes.
const MaxCached = 32 << 10

// AnyLength is the bound for a caller that has room for any manifest.
const AnyLength = math.MaxInt64

// Leases counts uses by clients since the store was opened. A use is fresh if one was written within the resolution.
type Leases struct{ Fresh, Written, Failed int64 }

// Body is a blob that is open for one reader. The caller closes it.
type Body interface {
	io.ReadSeekCloser
	// Size is the length of the blob in bytes.
	Size() int64
	// File is the local file that holds the bytes, at the offset of the reader, so that the kernel can send it; nil if
	// there is none. It belongs to the body: Close closes it.
	File() *os.File
}

// Upload is an unfinished upload in the hands of one request, which ends with Close. It must not be used
// concurrently.
type Upload interface {
	Repository() string
	ID() string
	// Size is how many bytes the upload has, those of earlier requests included.
	Size() int64
	// Over says that the upload was finished or cancelled: no request can go on with it.
	Over() bool

	// Expect announces the algorithm of the digest. It has an effect only before the first byte.
	Expect(digest.Algorithm)
	// Receive appends what r gives until its end. announced is how many bytes that will be, negative if the client did
	// not say. It reads nothing for which there is no room. On an error the bytes that came before it stay. *FullError,
	// *WriteError if they could not be stored.
	Receive(ctx context.Context, r io.Reader, announced int64) error
	// Finish makes the upload a layer of its repository. A power loss may take it until a manifest that refers to it is
	// answered, or a moment passed. An upload whose bytes have another digest is removed:
	// *DigestError.
	Finish(ctx context.Context, d digest.Digest) error
	// Cancel removes the upload.
	Cancel()
	// Close lets other requests go on with the upload.
	Close()
}

var (
	// ErrUnknown says that the repository has no such blob, manifest, tag or upload.
	ErrUnknown = errors.New("unknown")
	// ErrUnreadable says that a manifest exists, and is damaged or of a kind that is not served any more.
	ErrUnreadable = errors.New("the manifest cannot be read")
	// ErrBusy says that another request is writing to the upload.
	ErrBusy = errors.New("another request is writing to this upload")
)

// LeaseError says that a use could not be recorded, and so a promise is not made.
type LeaseError struct{ Err error }

func (e *LeaseError) Error() string { return "record a use in the index: " + e.Err.Error() }

// Unwrap is for errors.Is.
func (e *LeaseError) Unwrap() error { return e.Err }

// LargeError says that a manifest is longer than its reader has room for.
type LargeError struct{ Size int64 } // in bytes

func (e *LargeError) Error() string { return fmt.Sprintf("the manifest has %d bytes", e.Size) }

// DigestError says that an upload's bytes are not what the client said.
type DigestError struct{ Want, Got digest.Digest }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the uploaded bytes have the digest %s, not %s", e.Got, e.Want)
}

// WriteError says that what a client sent could not be written.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "write upload: " + e.Err.Error() }

// Unwrap is for errors.Is.
func (e *WriteError) Unwrap() error { return e.Err }

// MissingError refuses a manifest that refers to blobs or manifests that the repository does not have, or not as
// what the manifest calls them. It names at most a hundred.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%d referenced blobs or manifests are missing, such as %s", len(e.Digests), e.Digests[0])
}

// SizeError refuses a manifest that gives another size for a blob or manifest than that has.
type SizeError struct {
	Part manifest.Part
	Size int64 // in bytes
}

func (e *SizeError) Error() string {
	said := fmt.Sprintf("that it has %d", e.Part.Size)
	if e.Part.Size < 0 {
		said = "no size, or more than one"
	}
	return fmt.Sprintf("%s has %d bytes, and the manifest says %s", e.Part.Digest, e.Size, said)
}
