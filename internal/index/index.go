// Package index says what dcs knows about a store: when each thing was last used, and what refers to what.
//
// Disk is the truth about what exists; the index is the truth about recency and references. Absence
// from the index never means dead, and a row never proves existence. All of it but recency can be
// rebuilt from disk.
//
// A row stands for a blob (per digest), for a layer link or a manifest (per repository and digest), or
// for a tag (per repository and name). A Store is the two-sided protocol over these rows. Writers
// Claim, then Place; promisers Lease, then look; only internal/gc calls Retire. Each of these is one
// short transaction that excludes every other writer, in this process and in others, and a file is
// renamed inside the transaction that changes its row. The functions that callers pass in run inside
// such a transaction: they may rename and stat, and must not sync, wait or call the Store.
//
// An engine lives in a package below this one and must pass the suite in indextest.
package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/opencontainers/go-digest"
)

// Claim announces content of a kind other than Tag that is about to be placed.
type Claim struct {
	Key     layout.Key
	Size    int64              // of the blob or the manifest, in bytes
	Content *manifest.Manifest // manifests only, and required there
	// Blob says that the blob of a link or a manifest comes with it: its row is written along, with Size.
	Blob bool

	// UploadStarted is when the upload of this layer began. Links of the repository that were in lease
	// then are renewed: they may be the rest of the same push, whose manifest comes last. Zero: no upload.
	UploadStarted time.Time
}

// Adoption is content found on disk that the index does not know, or knows otherwise.
type Adoption struct {
	Claim
	Digest digest.Digest // what a tag points to; empty: its link says nothing, and it waits for its end
	At     time.Time     // last use; zero: now
	Bytes  Bytes         // blobs only
}

// Bytes says whether those of a blob were read, and what they are.
type Bytes uint8

// A blob that was not read is damaged if the index knows another size. The size of a damaged one is what it
// should be, in its row and in an adoption that says so.
const (
	NotRead Bytes = iota
	Right         // they have its digest
	Damaged       // they do not
)

// Policy is what a server promises, kept in the index so that other processes keep it too.
type Policy struct {
	TTL        time.Duration // 0: never expire
	Grace      time.Duration
	Resolution time.Duration // a lease in memory may be younger than its row by this much
}

// Cutoffs say how old is old enough. Rows last used before them go, once nothing alive refers to them.
type Cutoffs struct {
	Names   time.Time // tags and manifests; zero: never
	Content time.Time // links, blobs, and claims whose file never came
}

// Row is what the index knows about a key.
type Row struct {
	Key        layout.Key
	Digest     digest.Digest // the key's own, or what the tag points to
	Size       int64         // blobs and manifests, in bytes
	Placed     bool          // false: claimed, the file has not come
	CreatedAt  time.Time
	AccessedAt time.Time
	MediaType  string        // manifests
	Artifact   string        // manifests: artifact type
	Config     digest.Digest // manifests
	Subject    digest.Digest // manifests
}

// Use is a blob with what uses it, in all repositories. The manifests whose file it is are not in it.
type Use struct {
	Blob  Row
	Links []Link
	Named []Naming // by repository and manifest
}

// Link is a layer link.
type Link struct {
	Repository string
	Placed     bool
	AccessedAt time.Time
}

// Naming says which manifest of which repository names something.
type Naming struct {
	Repository string
	Manifest   digest.Digest
}

// Totals counts what is on disk as far as the index knows. Blobs includes manifests: it counts files.
type Totals struct {
	Tags      int64 `json:"tags"`
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	Bytes     int64 `json:"bytes"`
}

var (
	// ErrSkip is returned by a function passed to Retire, or by a Look: the row stays as it is.
	ErrSkip = errors.New("skipped")
	// ErrGateClosed says that references are not complete yet, so nothing that may be needed can go.
	ErrGateClosed = errors.New("the index is being rebuilt from disk")
	// ErrNewer says that the index was written by a newer dcs.
	ErrNewer = errors.New("the index was written by a newer version of dcs")
	// ErrOlder says that the index was written by an older dcs, and cannot be read before one that may change
	// it has brought it up to date.
	ErrOlder = errors.New("the index was written by an older version of dcs")
	// ErrCorrupt says that the index cannot be read. It can be deleted: it is rebuilt from disk.
	ErrCorrupt = errors.New("the index is damaged")
	// ErrBusy says that another process holds the index, and did for as long as it was waited for.
	ErrBusy = errors.New("another process has held the index")
	// ErrFull says that the disk has no room for the index to write.
	ErrFull = errors.New("no space left for the index")
)

// HeldError says that nothing may be retired yet: images were adopted with the dates of their files, and a lost
// index may have promised any of them a moment before.
type HeldError struct{ Until time.Time }

func (e *HeldError) Error() string {
	return "images were adopted with their file dates; nothing is removed before " + e.Until.Format(time.RFC3339)
}

// ReferencedError refuses to delete what a manifest of the same repository needs.
type ReferencedError struct {
	Key layout.Key
	By  digest.Digest
}

func (e *ReferencedError) Error() string {
	return fmt.Sprintf("%s is needed by manifest %s", e.Key, e.By)
}

// Store is one index. Its methods may be called concurrently, and by several processes on one index.
// Times are milliseconds or finer, read from the store's clock while the write lock is held.
type Store interface {
	// Claim records that content is about to be placed, and its use. It is never relaxed. A manifest's
	// references are held from here on.
	Claim(ctx context.Context, c Claim) error
	// Unclaim takes a claim back whose content was refused, unless somebody placed it meanwhile.
	Unclaim(ctx context.Context, k layout.Key) error
	// Place renews the claim if it is gone and calls rename, which looks at what the content refers to
	// and renames its file into place. When rename fails the index is unchanged.
	Place(ctx context.Context, c Claim, rename func() error) error
	// MoveTag points a tag at a manifest: its row, and by rename its link. What it pointed to before
	// inherits its last use.
	MoveTag(ctx context.Context, repo, tag string, to digest.Digest, rename func() error) error

	// Lease records a use of each key, and returns for each what the index knows about it now. A key without a row
	// gets none: the caller looks on disk, and adopts what is there. Using a manifest, here and above, also refreshes
	// its cosign-style tags (sha256-HEX.sig) and those of its children and referrers, so a signature never expires
	// before its image.
	Lease(ctx context.Context, ks ...layout.Key) ([]Leased, error)
	// Adopt records content found on disk. For each adoption look runs inside the transaction and
	// returns it as it is now; false: it is gone, and the row of a tag goes too while that of content
	// becomes a claim whose file never came. So does that of a damaged blob.
	Adopt(ctx context.Context, looks ...Look) error

	// Retire removes the row of k and whatever is dead with it (tags and manifests that only refer to
	// each other) if all of it was last used before the cutoffs, nothing alive refers to it, and the gate
	// is open (else ErrGateClosed) and nothing is held (else *HeldError); and calls remove with the rows, parents first, to remove their files. What they referred
	// to inherits their last use. It returns nil rows when k is wanted.
	Retire(ctx context.Context, k layout.Key, cut Cutoffs, remove func([]Row) error) ([]Row, error)

	// RetireAll is Retire for one key after another, in one transaction that ends after a few milliseconds,
	// since others wait for it. It returns what became of the keys that it came to, at least the first.
	RetireAll(ctx context.Context, ks []layout.Key, cut Cutoffs, remove func([]Row) error) ([]Retired, error)

	// DeleteTag, DeleteManifest and DeleteLayer remove a name at a client's request, with the files that
	// remove removes. A manifest goes with its tags. *ReferencedError, ErrGateClosed.
	DeleteTag(ctx context.Context, repo, tag string, remove func() error) error
	DeleteManifest(ctx context.Context, repo string, d digest.Digest, remove func(tags []string) error) error
	DeleteLayer(ctx context.Context, repo string, d digest.Digest, remove func() error) error

	// CloseGate begins a rebuild: nothing is retired until OpenGate is called with the same token. A
	// later CloseGate, by any process, makes the token void: OpenGate then returns false. Of the unread
	// repositories nothing is retired by the open gate and no content deleted, nor any blob: a link that
	// nobody has seen may need it.
	CloseGate(ctx context.Context) (token string, err error)
	OpenGate(ctx context.Context, token string, unread ...string) (bool, error)
	GateOpen(ctx context.Context) (bool, error)
	// BarGate says why a rebuild came to no end, unless its token is void. Barred returns that until the
	// next CloseGate, and nil at other times.
	BarGate(ctx context.Context, token string, b Bar) error
	Barred(ctx context.Context) (*Bar, error)
	// LeaveGate closes the gate for a server that ends: what happens from then on is not seen. Whole says
	// whether the index knows what was on disk when somebody watched it last: false only from a CloseGate
	// until its OpenGate.
	LeaveGate(ctx context.Context) error
	Whole(ctx context.Context) (bool, error)

	// Hold keeps everything from being retired until d of watched time has passed. A hold is never
	// shortened. Held returns when it ends, if somebody watches until then; zero: nothing is held.
	Hold(ctx context.Context, d time.Duration) error
	Held(ctx context.Context) (time.Time, error)

	// BeginRun records that a run begins to remove, unless one that never came to its end has begun already, and
	// EndRun that a run came to its end. UnfinishedRun returns when that one began; zero: there is none.
	BeginRun(ctx context.Context) error
	EndRun(ctx context.Context) error
	UnfinishedRun(ctx context.Context) (time.Time, error)
	// SetLastRun records that the server's cleaner did its work now, which a restart does not forget.
	SetLastRun(ctx context.Context) error
	LastRun(ctx context.Context) (time.Time, error)
	// SetNextRun records when the server's cleaner does its work next, zero: nobody knows. It means nothing
	// once that server is gone.
	SetNextRun(ctx context.Context, at time.Time) error
	NextRun(ctx context.Context) (time.Time, error)

	// Promise registers the policy of a server that begins to serve. What earlier servers promised and
	// still owe stays in force.
	Promise(ctx context.Context, p Policy) error
	// Promised returns the policy that was promised last, and the largest grace and resolution that any
	// server still owes; false: no server ever ran.
	Promised(ctx context.Context) (last, owed Policy, ok bool, err error)
	// Beat records that the store is being watched, and the time. A server's renews what it promised.
	Beat(ctx context.Context) error

	// View reads a consistent state of the index. Reading never holds up writers.
	View(ctx context.Context, read func(Reader) error) error
	// Now is the store's time: never behind a time that it returned before, nor behind the last heartbeat
	// of any process.
	Now() time.Time
	// Back returns the time that lies d of watched time before Now. Time in which nobody watched, or
	// which a step of the clock made up, is not counted.
	Back(d time.Duration) time.Time
	// Due is the inverse of Back: the time at which t will lie d of watched time before Now, if somebody
	// watches from now on.
	Due(t time.Time, d time.Duration) time.Time
	// ID is the random identity that the index got when it was created.
	ID() string
	Close() error
}

// Unseen are repositories of which a rebuild could not read everything: each by its name, or with a slash at
// its end together with all below it.
type Unseen []string

// Has says whether a repository is one of them.
func (u Unseen) Has(repo string) bool {
	return slices.ContainsFunc(u, func(name string) bool {
		return repo == name || strings.HasSuffix(name, "/") && strings.HasPrefix(repo+"/", name)
	})
}

// Spares says whether a row stays for their sake: one of theirs, or any blob.
func (u Unseen) Spares(k layout.Key) bool {
	return len(u) > 0 && (k.Kind == layout.Blob || u.Has(k.Repository))
}

// Bar is why the gate stays shut, and what somebody can do.
type Bar struct{ Why, Hint string }

// Leased is what the index knows about a key whose use it recorded.
type Leased struct {
	Found  bool          // the key has a row; nothing was recorded otherwise, and the other fields are zero
	At     time.Time     // the last use that the row has now
	Placed bool          // the key's own file is on disk, and so is its blob, as far as the index knows
	Size   int64         // of its blob, in bytes; 0 when the index does not know, and for tags
	Digest digest.Digest // what a tag points to, or the digest of the key
}

// Retired is what became of one key: the rows that went, none when it is wanted, or why it could not go.
type Retired struct {
	Rows []Row
	Err  error
}

// Look returns content as it is on disk at the moment, and whether it is there at all. Its key is set
// even when it is not.
type Look func() (Adoption, bool, error)

// Reader reads one state of the index. Lists are in no particular order unless said otherwise.
type Reader interface {
	Totals() (Totals, error)
	// Row returns nil when there is none.
	Row(k layout.Key) (*Row, error)
	// IdleTags calls f with each tag that was, like its manifest, last used before the time, oldest first.
	IdleTags(before time.Time, f func(Row) error) error
	// Loose calls f with each row of the kind (not Tag) that nothing refers to, last used before its
	// cutoff: that of content, but for a manifest whose file came; and with a member of each circle of
	// manifests that only keep each other.
	Loose(kind layout.Kind, cut Cutoffs, f func(Row) error) error
	// References returns what the manifest names, without its subject.
	References(d digest.Digest) ([]digest.Digest, error)
	// Tags, Parents and Referrers return the rows that keep or are kept by a manifest or layer of a
	// repository: the tags that point at it, the manifests that name it (at most so many, 0 for all:
	// thousands may share a base layer), the manifests whose subject it is.
	Tags(repo string, d digest.Digest) ([]Row, error)
	Parents(repo string, d digest.Digest, most int) ([]Row, error)
	Referrers(repo string, d digest.Digest) ([]Row, error)
	// ReferrersAfter returns the referrers whose file came, and whose artifact type is the one asked for, unless
	// that is empty: in the order of digests after one, at most so many; 0 for all.
	ReferrersAfter(repo string, d, after digest.Digest, artifactType string, most int) ([]Row, error)
	// Holders returns the layer links and manifests of all repositories that keep a blob, at most so many
	// of each; 0 for all.
	Holders(d digest.Digest, most int) ([]Row, error)
	// Latest reads the rows of a kind, last used first; of blobs only those whose file came and that no
	// link and no manifest keeps.
	Latest(kind layout.Kind) (Cursor, error)
	// Namings returns which manifests of all repositories name a thing, in the order of repository and
	// manifest, at most so many; 0 for all. Named counts them, each digest once.
	Namings(d digest.Digest, most int) ([]Naming, error)
	Named(d digest.Digest) (int, error)
	// Nested calls f with each pair of digests of which one, a manifest, names the other, a manifest too.
	Nested(f func(parent, child digest.Digest) error) error
	// Uses calls f with each blob whose file came, in the order of digests, in one pass. The slices are
	// only valid until f returns.
	Uses(f func(Use) error) error
	// Names returns the tags of a repository that point to something and come after one in the order of bytes, at most so many;
	// Repositories does so with the repositories that have a manifest. HasRepository says whether
	// a repository has anything.
	Names(repo, after string, most int) ([]string, error)
	Repositories(after string, most int) ([]string, error)
	HasRepository(repo string) (bool, error)
	// Unread are the repositories of which the last rebuild could not read everything.
	Unread() (Unseen, error)
	// Each calls f with every row of a kind: manifests in the order of digest and repository, tags in that
	// of digest, repository and name.
	Each(kind layout.Kind, f func(Row) error) error
}

// Cursor reads rows one at a time. It must be closed before its View ends.
type Cursor interface {
	Next() (row Row, ok bool, err error)
	Close()
}
