// Package event says what happens in a server: each request that was answered, each file that gc removed, each run of
// gc that ended.
//
// There is one type of events for all that listen: metrics, the log, the observers of a program. An event is published
// once, after what it tells of, by the goroutine that did it. A subscriber gets all events and picks those that it
// needs. It must be quick and must not block, since the request waits for it; it cannot change what happened.
package event

import (
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// Kind says what happened.
type Kind string

// The kinds. A request is a Pull when it asked for a blob or manifest and got it, or heard that there is none; it is a
// Push when it stored a blob or manifest, or mounted a blob; any other request is just Answered.
const (
	Pull     Kind = "pull"
	Push     Kind = "push"
	Answered Kind = "answered"
	Removal  Kind = "removal" // gc removed the file of a blob
	Run      Kind = "run"     // gc ended a run that was allowed to remove something
	Gone     Kind = "gone"    // gc removed a tag, or a manifest without a tag, in a run that ended
	// OverBudget says that more was used than the budget allows, for the time that Result.Took has.
	OverBudget Kind = "over budget"
)

// Event is one thing that happened. Fields that say nothing about its kind are zero.
type Event struct {
	Kind Kind

	// Repository, Tag and Digest say what it is about. Tag is empty when a manifest was named by its digest; Digest is
	// empty when a pull named a tag that does not exist.
	Repository string
	Tag        string
	Digest     digest.Digest
	// Size is that of the whole blob or manifest in bytes, also when less of it was asked for.
	Size int64
	// Hit says that a pull found what it asked for.
	Hit bool
	// Manifest is what the manifest says that was stored or found. It must not be changed. Nil: it was a blob.
	Manifest *manifest.Manifest

	Request Request // of a Pull, a Push, and what was Answered
	Result  Result  // of a Run
	Why     Why     // of what is Gone
}

// Fetched says that a client wanted the content itself: a Pull by GET. Only these count as hits and misses. With a HEAD
// clients ask before each push what they have to send, and before a pull what they will GET next.
func (e Event) Fetched() bool { return e.Kind == Pull && e.Request.Method == "GET" }

// Request is a request and its answer.
type Request struct {
	Method, Path, Agent string // as the client sent them
	Route               string // base, catalog, tags, referrers, manifest, blob, upload, other

	Peer   string     // the other end of the connection, with its port
	Client netip.Addr // the client, as trusted proxies name it; invalid when it has no address
	Login  Login      // empty where no login is needed, and for what no route answers
	User   string     // who is logged in
	Tried  string     // the name of a login that failed

	Status   int
	Received int64 // bytes of the request's body that were read
	Sent     int64 // bytes of the answer's body
	Took     time.Duration
}

// Why says why an image was removed, in a word of gc's report, and how long after its last use.
type Why struct {
	Reason string
	Age    time.Duration
}

// Login is the result of a request's login, in a word for metrics and log.
type Login string

// The results. A Challenged request brought no login: clients ask first, to hear how. A Malformed one is no Basic
// login. A program around the server Rejected its user. The client of an Abandoned one left before the result.
const (
	LoggedIn      Login = "ok"
	Challenged    Login = "challenged"
	Malformed     Login = "malformed"
	UnknownUser   Login = "unknown_user"
	WrongPassword Login = "wrong_password"
	Rejected      Login = "rejected"
	Abandoned     Login = "abandoned"
)

// Logins are all results of a login.
var Logins = []Login{LoggedIn, Challenged, Malformed, UnknownUser, WrongPassword, Rejected, Abandoned}

// Failed says whether the request brought a login that was refused.
func (l Login) Failed() bool {
	return l == Malformed || l == UnknownUser || l == WrongPassword || l == Rejected
}

// Result is what a run of gc did.
type Result struct {
	Failed                          bool
	Tags, Manifests, Blobs, Uploads int64 // that it removed; a manifest counts as a blob, too
	Skipped                         int64 // rows of the plan that stayed, since a client used them
	Freed                           int64 // bytes of the files of blobs
	Took                            time.Duration
}

// Stream passes each event on to its subscribers, one after another, in the goroutine that publishes it.
type Stream []func(Event)

// Publish tells the subscribers.
func (s Stream) Publish(e Event) {
	for _, tell := range s {
		tell(e)
	}
}
