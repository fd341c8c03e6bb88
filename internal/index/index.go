// Package index says what dcs knows about a store: when each row was last used, and what refers to what.
//
// The nouns. A row stands for a blob (per digest), for a layer link or a manifest (per repository and digest), or for a
// tag (per repository and name); its key names it. A row is placed when its file is known to be on disk, and a claim
// until then. A claim is written before its file, so no file is without a row. A lease is a recorded use; what was
// leased stays for the grace. A server keeps leases in memory for the resolution, so a lease may be that much younger
// than its row. The last use of a manifest or tag is the effective one: it is written to all that lives with an image,
// so no row is older than its owners. To adopt is to record what was found on disk. A victim is a key and the time
// since which it must be unused; to retire it is to remove its row and its file in one conditional transaction. The
// gate is open while the index knows all that is on disk: only then are rows retired. A hold keeps every row until a
// time. Each server owes the grace that it promised, also after it ended; only watched time pays.
//
// The law. Disk is the truth about what exists; the index is the truth about recency and references. A row that is
// missing does not mean that a file may be removed, and a row never proves that a file exists. All but recency can be
// rebuilt from disk.
//
// A Store is the protocol over these rows. A client's writer claims, then places; a reader leases, then looks at the
// disk; only internal/gc retires. Each of these is one short transaction that excludes other writers of its rows, in
// this process and in others: a claim also those of the rows that it refers to. A file is renamed inside the
// transaction that changes its row. The functions that callers pass in run inside such a transaction, or inside a View.
// They may rename and stat files; they must not sync, wait, or call the Store, and a function that is called for each
// row of a list must not read from the Reader either.
//
// An engine is in a package below this one and must pass the suite in indextest. Who compares the index with the disk,
// and when, is the property of a store's form: over local files, which anybody may change while no server runs, each
// start closes the gate and opens it when all was seen.
package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Claim announces a blob, a link or a manifest that is about to be placed.
type Claim struct {
	Key      layout.Key
	Size     int64              // of the blob or the manifest, in bytes
	Disk     int64              // what was found to be taken on disk, as in Row; 0 before it is placed
	Manifest *manifest.Manifest // manifests only, and required there
	// WithBlob says that the blob of a link or a manifest is placed with it: its row is written too, with Size.
	WithBlob bool

	// Naming are the tags that the writer is going to place after this claim. Tags have no claims: after a kill
	// Reader.Naming says which they were. It replaces what an earlier claim said; empty: that stays.
	Naming []layout.Key

	// UploadStarted is when the upload of this layer began. Links of the repository that were in lease then are
	// renewed: they may be the other layers of the same push, which sends its manifest last. Zero: no upload.
	UploadStarted time.Time
}

// Placing is a file that is about to get its name: that of a claim, or the link of a tag.
type Placing struct {
	Claim               // of a tag its key alone
	To    digest.Digest // tags: the manifest that it is going to point to. That is a use of both
	// Rename looks at what the content refers to, and renames its file into place.
	Rename func() error
	// Taken is asked after Rename what the file takes, and the directories above it. Nil: that is not recorded.
	Taken Taken
}

// Taken says what a file or directory of the tree takes of the disk itself, as du counts it, in bytes. It is named by
// its path below layout.Root. False: it does not exist.
type Taken func(path string) (bytes int64, there bool)

// Adoption is what was found on disk under a key. The index does not know it, or knows it otherwise.
type Adoption struct {
	Claim
	Digest digest.Digest // what a tag points to; empty: its link names nothing, and the tag only waits to expire
	At     time.Time     // last use of what had no row; zero, or later than now: now
	Bytes  Bytes         // blobs only
}

// Bytes says whether the bytes of a blob were read, and whether they have its digest.
type Bytes uint8

// A blob whose bytes were not read counts as damaged if the index knows another size. The size of a damaged blob is
// the size that it should have, in its row and in its adoption.
const (
	NotRead Bytes = iota
	Right         // the bytes have the digest
	Damaged       // they have not
)

// Policy is what a server promises. The index keeps it, so that other processes keep it too.
type Policy struct {
	TTL        time.Duration // for how long an unused image stays; 0: for ever
	Grace      time.Duration // for how long anything stays that dcs said to exist
	Resolution time.Duration // how much younger a lease in memory may be than its row
	Rules      rule.Rules    // exceptions to TTL; only those of the server that joined last count
	GoneFor    time.Duration // how long history is kept, as the server that joined last wants it; 0: none is written
	Budget     rule.Budget   // bounds all that is stored; likewise
}

// Row is what the index knows about a key.
type Row struct {
	Key        layout.Key
	Digest     digest.Digest // the key's own, or what the tag points to
	Size       int64         // blobs and manifests, in bytes
	Disk       int64         // blobs: bytes that file and directory take; tags: the history beyond one entry
	Placed     bool          // its file is on disk; false: it is a claim
	CreatedAt  time.Time
	AccessedAt time.Time     // last use; of manifests and tags the effective one
	MediaType  string        // manifests
	Artifact   string        // manifests: artifact type
	Config     digest.Digest // manifests
	Subject    digest.Digest // manifests
	Detached   bool          // manifests: the subject does not keep it, since that would close a circle
}

// Totals counts what is on disk as far as the index knows. Blobs includes manifests: it counts files.
type Totals struct {
	Tags      int64 `json:"tags"`
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	Bytes     int64 `json:"bytes"`
}

// Footprint is what du shows of all that has a row and a file. A link takes a directory and a link, and a tag takes
// five directories and two links. These are in no sum: what they take depends on the file system alone.
type Footprint struct {
	Bytes int64 // blobs, the directories of them, and all that hold several others, histories of tags
	Links int64 // of layers and manifests
	Tags  int64
}

var (
	// ErrSkip is returned by a Remove or a Look: the row stays as it is.
	ErrSkip = errors.New("skipped")
	// ErrGateClosed says that not all references are known, so nothing that may be referred to can be removed.
	ErrGateClosed = errors.New("the index is being rebuilt from disk")
	// ErrPinsUnknown is an ErrGateClosed: what is pinned is not known, and must not go.
	ErrPinsUnknown = fmt.Errorf("%w: what is pinned is not known", ErrGateClosed)
	// ErrNewer says that the index was written by a newer dcs.
	ErrNewer = errors.New("the index was written by a newer version of dcs")
	// ErrOlder says that the index was written by an older dcs. It can be read once a process that may change it has
	// migrated it.
	ErrOlder = errors.New("the index was written by an older version of dcs")
	// ErrCorrupt says that the index cannot be read. It can be deleted: it is rebuilt from disk.
	ErrCorrupt = errors.New("the index is damaged")
	// ErrBusy says that another process has held the index for as long as this one waited.
	ErrBusy = errors.New("another process has held the index")
	// ErrFull says that the disk has no room for the index to write.
	ErrFull = errors.New("no space left for the index")
	// ErrDisk says that the files of the index cannot be read or written: whatever is asked of it next fails, too.
	ErrDisk = errors.New("the files of the index cannot be used")
)

// HeldError says that nothing may be retired yet: images were adopted with the dates of their files, and the index that
// was lost may have promised any of them a moment before.
type HeldError struct{ Until time.Time }

func (e *HeldError) Error() string {
	return "images were adopted with their file dates; nothing is removed before " + e.Until.Format(time.RFC3339)
}

// ReferencedError refuses to delete what a manifest of the same repository refers to.
type ReferencedError struct {
	Key layout.Key
	By  digest.Digest
}

func (e *ReferencedError) Error() string {
	return fmt.Sprintf("%s is needed by manifest %s", e.Key, e.By)
}

// Store is one index. Its methods may be called concurrently, and by several processes on one index. Times are whole
// milliseconds of the store's clock, read while the transaction excludes other writers.
type Store interface {
	// Claim records that blobs, links or manifests are about to be placed, and their use, all or none. It always
	// writes: it is never answered from the memory of leases. What a manifest names counts as referenced from here on.
	Claim(ctx context.Context, cs ...Claim) error
	// Unclaim removes claims whose content was refused. A row that was placed since stays.
	Unclaim(ctx context.Context, ks ...layout.Key) error
	// Place gives files their names, in one transaction and in this order: of each it records a use, renews the claim
	// if its row was removed, and calls its Rename. It returns what became of each. One whose Rename fails leaves the
	// index as it was, and the others go on: one that needs it finds it missing.
	//
	// Other writers wait for the transaction, so it is short, however many there are. Place comes at least to the
	// first; the caller places the rest again, those behind the errors that it returned. If the transaction fails, none
	// is recorded, though files may have been renamed.
	Place(ctx context.Context, ps ...Placing) []error

	// Lease records a use of each key, and returns for each what the index knows about it now. A key without a row
	// gets none: the caller looks on disk, and adopts what is there.
	//
	// A use of a manifest, here and above, is also a use of the tags that point to it, of its children and referrers,
	// of the tags that are about any of these by their names (sha256-HEX.sig), and of what those tags point to. It is
	// recency, and no more, for tags of other repositories that are about these, at most a hundred at a time.
	Lease(ctx context.Context, ks ...layout.Key) ([]Leased, error)
	// LeaseBytes records that the bytes of a link are read. That is a use of one image of the repository that holds the
	// link: of those whose manifests name it, the last used one, with what names that. An image that is read lazily is
	// used by nothing else for weeks, and one pull of a common base must not keep a whole repository. The image keeps
	// the link, whose own use is recorded only if there is none. An image that was used after a time is not written.
	//
	// The first that is returned is the link, Found or not. Others follow that the same manifest names: to read one of
	// them would be a use of the same image, which was recorded At.
	LeaseBytes(ctx context.Context, repo string, d digest.Digest, after time.Time) ([]Leased, error)
	// Adopt records what was found on disk. Each look runs inside the transaction and returns what is on disk now. If
	// it reports false, a tag's row is removed; any other row is kept as a claim. So is the row of a damaged blob.
	// Only what had no row is used by being found.
	Adopt(ctx context.Context, looks ...Look) error

	// Measure records what directories of the tree take, that hold those of rows. One that does not exist is forgotten.
	// A directory that got the first file of its kind is measured by Place.
	Measure(ctx context.Context, taken Taken, dirs ...string) error

	// RetireAll removes the rows of victims in one transaction. A row is removed if its last use is before UnusedSince,
	// nothing refers to it, no pin keeps it, and no server still owes it grace: UnusedSince counts as no later than
	// that. Otherwise it stays. A pin keeps a tag, a placed manifest, and the tags that are about what it keeps by
	// their names. For each row that is removed, remove removes the file. What the row referred to takes its last use.
	//
	// RetireAll first lets other writers go that wait, also those of other processes. It ends its transaction about a
	// millisecond after another one begins to wait. It returns what became of those victims that it came to, at least
	// of the first; the caller asks again with the rest. Victims are distinct, and one that another victim of its kind
	// refers to may stay. What remove says of an image is remembered in the same
	// transaction. On an error no row is removed, though remove may have removed files: callers count by what is
	// returned. ErrGateClosed, *HeldError.
	RetireAll(ctx context.Context, vs []Victim, remove Remove) ([]Retired, error)

	// DeleteTag, DeleteManifest and DeleteLayer remove a name at a client's request, and by remove its files. The tags
	// of a manifest are removed with it. *ReferencedError, *PinnedError, ErrGateClosed.
	DeleteTag(ctx context.Context, repo, tag string, remove func() error) error
	DeleteManifest(ctx context.Context, repo string, d digest.Digest, remove func(tags []string) error) error
	DeleteLayer(ctx context.Context, repo string, d digest.Digest, remove func() error) error

	// CloseGate begins a rebuild: nothing is retired until OpenGate is called with the same token. A later CloseGate,
	// by any process, makes the token void: OpenGate then returns false. Unread are the repositories that could not
	// be read as a whole. Of these nothing is retired behind the open gate, and no content deleted; nor is any blob,
	// which a link among them may refer to.
	CloseGate(ctx context.Context) (token string, err error)
	OpenGate(ctx context.Context, token string, unread ...string) (bool, error)
	GateOpen(ctx context.Context) (bool, error)
	// BarGate records why a rebuild could not end, unless its token is void. Barred returns that until the next
	// CloseGate, and nil at other times.
	BarGate(ctx context.Context, token string, b Bar) error
	Barred(ctx context.Context) (*Bar, error)
	// LeaveGate closes the gate for a server that ends: no process sees what is changed on disk from then on. Whole
	// says whether the index knows what was on disk when a server last watched: false only from a CloseGate until its
	// OpenGate.
	LeaveGate(ctx context.Context) error
	Whole(ctx context.Context) (bool, error)
	// MarkClean records that the index knows all of a tree, by what tells that tree from what it becomes later. It is
	// for the process that opened the gate with the token, when it ends. False: the gate was closed since, or something
	// could not be read. CloseGate, with which all who change a store begin, lifts the mark. Clean returns what was
	// recorded; empty: there is no mark.
	MarkClean(ctx context.Context, token, tree string) (bool, error)
	Clean(ctx context.Context) (string, error)

	// SetPins replaces all pins, those of what has no row too. Until it is called for the first time, and after
	// LosePins, the index does not know the pins: the gate is shut, whatever OpenGate says, and no tag is deleted.
	// A pin that has ended keeps nothing, and is forgotten by the next change that it could have refused.
	SetPins(ctx context.Context, ps ...Pin) error
	// LosePins records that the file with the pins cannot be read, and why. Barred returns that until SetPins.
	LosePins(ctx context.Context, b Bar) error
	// PinsKnown says whether the index knows the pins.
	PinsKnown(ctx context.Context) (bool, error)

	// Hold keeps every row from being retired until d of watched time has passed. A hold is never shortened. Held
	// returns when it ends if the store is watched until then; zero: nothing is held.
	Hold(ctx context.Context, d time.Duration) error
	Held(ctx context.Context) (time.Time, error)

	// BeginRun records that a run of gc begins to remove, unless an earlier run is recorded that never ended. EndRun
	// records the end. UnfinishedRun returns when the recorded run began; zero: there is none.
	BeginRun(ctx context.Context) error
	EndRun(ctx context.Context) error
	UnfinishedRun(ctx context.Context) (time.Time, error)
	// SetLastRun records that the server's clean-up ended now. LastRun returns that time, also after a restart.
	SetLastRun(ctx context.Context) error
	LastRun(ctx context.Context) (time.Time, error)
	// SetNextRun records when the server's next clean-up begins; zero: unknown. It means nothing after that server
	// ended.
	SetNextRun(ctx context.Context, at time.Time) error
	NextRun(ctx context.Context) (time.Time, error)
	// NoteRun remembers a run of gc, or what has become of one that it remembers. NotePulls adds to what is remembered
	// of this hour; the Hour of n means nothing. Forget forgets what is older, in short transactions; 0: everything.
	NoteRun(ctx context.Context, r *Run) error
	NotePulls(ctx context.Context, n Pulls) error
	Forget(ctx context.Context, older time.Duration) error

	// Promise registers this process as a server with a policy. Each server owes its own grace: what it and other
	// servers promised stays in force until watched time after their last heartbeats has paid it.
	Promise(ctx context.Context, p Policy) error
	// Promised returns the policy of the server that joined last, and the largest grace and resolution that any server
	// still owes; false: no server ever joined.
	Promised(ctx context.Context) (last, owed Policy, ok bool, err error)
	// Beat records that the store is watched, and the time. A server's Beat renews what it promised.
	Beat(ctx context.Context) error

	// View reads one consistent state of the index. Reading never holds up writers.
	View(ctx context.Context, read func(Reader) error) error
	// Now is the store's time: never behind a time that it returned before, nor behind the last heartbeat of any
	// process.
	Now() time.Time
	// Back returns the time that lies d of watched time before Now. Time in which no server watched, or which a step of
	// the clock made up, is not counted.
	Back(d time.Duration) time.Time
	// Due is the inverse of Back: the time at which t will lie d of watched time before Now, if the store is watched
	// from now on.
	Due(t time.Time, d time.Duration) time.Time
	// ID is the random identity that the index was created with.
	ID() string
	Close() error
}

// Unread are repositories that a rebuild could not read as a whole: each by its name, or with a slash at its end
// together with all repositories below it.
type Unread []string

// Has says whether a repository is one of them.
func (u Unread) Has(repo string) bool {
	return slices.ContainsFunc(u, func(name string) bool {
		return repo == name || strings.HasSuffix(name, "/") && strings.HasPrefix(repo+"/", name)
	})
}

// Spares says whether a row stays because of them: a row of theirs, or any blob.
func (u Unread) Spares(k layout.Key) bool {
	return len(u) > 0 && (k.Kind == layout.Blob || u.Has(k.Repository))
}

// Bar is why the gate stays shut, and what the operator can do.
type Bar struct{ Why, Hint string }

// Leased is what the index knows about a key whose use it recorded.
type Leased struct {
	Found  bool          // the key has a row; nothing was recorded otherwise, and the other fields are zero
	At     time.Time     // the last use that the row has now, or the image by which it was leased
	Placed bool          // the key's own file is on disk, and so is its blob, as far as the index knows
	Size   int64         // of its blob, in bytes; 0 when the index does not know, and for tags
	Digest digest.Digest // what a tag points to, or the digest of the key
}

// Victim is a key to retire, and the time since which it must be unused.
type Victim struct {
	Key         layout.Key
	UnusedSince time.Time // a use at this time, or later, keeps the row; zero: it is never removed
	Claim       bool      // the row must still be a claim: a placed manifest is judged by other rules
}

// Remove removes the file of a row that is being retired, inside the transaction, and returns what it removed. On
// ErrSkip, as on any error, the row stays.
type Remove func(Row) (Removed, error)

// Removed is what became of the file of a row.
type Removed struct {
	File  bool     // there was a file; a claim has none
	Bytes int64    // that its removal frees
	Image *Removal // to be remembered when the row is removed; nil: nothing is
}

// Retired is what became of a victim.
type Retired struct {
	Row     *Row    // as it was; nil: it stays
	Removed Removed // what Remove returned
	Err     error   // why it could not be removed; nil also for ErrSkip
}

// Look returns what is on disk under a key at the moment, and whether anything is. The key is set in any case.
type Look func() (Adoption, bool, error)

// Reader reads one state of the index. Lists are in no particular order unless the method says so.
type Reader interface {
	Totals() (Totals, error)
	// Footprint is what du shows of all rows. Measured says whether a directory is in that, and EachDirectory calls f
	// with each that is.
	Footprint() (Footprint, error)
	Measured(dir string) (bool, error)
	EachDirectory(f func(path string) error) error
	// Row returns nil when there is none.
	Row(k layout.Key) (*Row, error)
	// Rows calls f with the row of each of some keys that has one, in their order, and with how many rows refer to it:
	// links and manifests to a blob, manifests that name it to a link or a manifest. It counts at most so many of each
	// sort. The keys are distinct, and of one kind, which is not Tag.
	Rows(ks []layout.Key, most int, f func(r Row, owners int) error) error
	// IdleTags calls f with each tag that was last used before a time, oldest first. A tag was used when its manifest
	// was.
	IdleTags(before time.Time, f func(Row) error) error
	// Unreferenced calls f with each row of a kind (not Tag) that nothing refers to and that was last used before a
	// time, oldest first. Of manifests it lists those that are placed; Claims lists the others.
	Unreferenced(kind layout.Kind, before time.Time, f func(Row) error) error
	Claims(before time.Time, f func(Row) error) error
	// Naming returns the tags of the last claim that had any. Most of them were placed since.
	Naming() ([]layout.Key, error)
	// References returns the digests that a manifest of a repository names, without its subject. Its row in another
	// repository may have others, or none: its file could not be read when that row was written.
	References(repo string, d digest.Digest) ([]digest.Digest, error)
	// EachTag calls f with each tag of a repository. About returns the manifests, of all repositories, that a tag is
	// about by its name (sha256-HEX.sig).
	EachTag(repo string, f func(Row) error) error
	About(tag string) ([]Row, error)
	// Tags returns the tags of a repository that point to a digest, Parents the manifests that name it (at most so
	// many, 0 for all: thousands may share a base layer), Referrers the manifests whose subject it is.
	Tags(repo string, d digest.Digest) ([]Row, error)
	Parents(repo string, d digest.Digest, most int) ([]Row, error)
	Referrers(repo string, d digest.Digest) ([]Row, error)
	// ReferrersAfter returns the placed referrers after a digest, in the order of digests, at most so many; 0 for all.
	// An artifact type that is not empty limits them to that type.
	ReferrersAfter(repo string, d, after digest.Digest, artifactType string, most int) ([]Row, error)
	// Owners returns the layer links and manifests of all repositories that refer to a blob, at most so many of each;
	// 0 for all.
	Owners(d digest.Digest, most int) ([]Row, error)
	// ListImages, ListTags, ListBlobs and ListRepositories call f with each image, tag, blob and repository. With
	// latest they call it only with those that were used last: so many, and all that were used at the same time as the
	// last. 0: with all.
	ListImages(latest int, f func(Image) error) error
	ListTags(latest int, f func(Image) error) error
	ListBlobs(o BlobListing, f func(Blob) error) error
	ListRepositories(f func(Repository) error) error
	// Names returns the tags of a repository after one, in the order of bytes, at most so many, without those that
	// point to nothing. Repositories returns the repositories that have a manifest likewise. HasRepository says whether
	// a repository has a manifest or a link.
	Names(repo, after string, most int) ([]string, error)
	Repositories(after string, most int) ([]string, error)
	HasRepository(repo string) (bool, error)
	// Unread returns the repositories that the last rebuild could not read as a whole.
	Unread() (Unread, error)
	// Removals, RunHistory and PullHistory call f with what is remembered since a time, newest first. An error of f
	// ends the reading, and is returned.
	Removals(since time.Time, f func(Removal) error) error
	RunHistory(since time.Time, f func(Run) error) error
	PullHistory(since time.Time, f func(Pulls) error) error
	// Pins returns all pins, in the order of repository, tag and digest, also those that have ended.
	Pins() ([]Pin, error)
	// Each calls f with every row of a kind: manifests in the order of digest and repository, tags in that of digest,
	// repository and name.
	Each(kind layout.Kind, f func(Row) error) error
}
