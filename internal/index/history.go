package index

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// The index remembers for Policy.GoneFor what was removed, what runs of gc did, and how pulls went. That is history:
// nothing depends on it, and an index that is lost takes it along.

// MostRemembered is how many removals are remembered, and how many runs: the oldest are forgotten first. A removal
// takes about 200 bytes, so this is 20 MB of a full index.
const MostRemembered = 100_000

// Why an image was removed. The first three are gc's.
const (
	ReasonTTL      = "ttl"      // it was unused for the ttl
	ReasonUntagged = "untagged" // it had no tag, nothing referred to it, and it was unused for as long
	ReasonRule     = "rule"     // it was unused for the time that a rule gives it
	ReasonSize     = "size"     // there was no room for it, and what stayed was used later
	ReasonDeleted  = "deleted"  // a client deleted it
	ReasonMissing  = "missing"  // its file was gone from the disk: another program, or a run that was killed
)

// Removal is an image that was removed: a tag, or a manifest that had none.
type Removal struct {
	At          time.Time // set by the index
	Repository  string
	Tag         string // empty: untagged
	Digest      digest.Digest
	LastAccess  time.Time
	Reason      string // one of the Reason constants
	Rule        int    // the number of the rule that decided, from 1; 0: none did
	RuleName    string // what the rule is for, as it was then
	UniqueBytes int64  // bytes that no other image referred to; Unmeasured: not known
	PushedBy    string // the user who pushed it; empty: not known
}

// Unmeasured is the UniqueBytes of an image that was not measured before it went.
const Unmeasured = -1

// Run is what is remembered of a run of gc.
type Run struct {
	ID        int64 // set by NoteRun; 0: the run is new
	StartedAt time.Time
	Took      time.Duration // whole milliseconds
	Ended     bool          // false: it is under way, or was killed
	By        string        // one of the By constants

	Images     int64 // that it removed
	Tags       int64
	Manifests  int64
	Blobs      int64 // files, manifests included
	Uploads    int64
	FreedBytes int64
	Error      string // why it ended early; empty: it did not
	HeldBy     string // why nothing could be removed; empty: it could
}

// Who did a run.
const (
	ByServer = "server"
	ByGC     = "gc" // the command
)

// Pulls are the requests of clients for content in one hour. A request is a GET of a manifest or a blob.
type Pulls struct {
	Hour   time.Time // its beginning, UTC
	Hits   int64     // that were answered with the content
	Misses int64     // that were answered with 404
	Bytes  int64     // of content that was sent
}
