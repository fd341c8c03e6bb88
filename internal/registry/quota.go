package registry

import (
	"sync"
	"time"
)

// uploads count the unfinished uploads of each client, in whatever form they are sent: those that it began at this
// server, and those of an earlier server from their next request on.
type uploads struct {
	limit  int               // for each client; 0: none
	exists func(upload) bool // looks at the disk

	mu    sync.Mutex // guards the rest; held over looks at the disk, which lookPause and sweep make rare
	by    map[upload]uploader
	count map[uploader]*tally
	sweep int // how many may be counted before all are looked at
}

// upload is one upload of a repository.
type upload struct{ repo, id string }

// uploader is a client: a user, or one that is not logged in, at an address.
type uploader struct{ user, address string }

// tally is what an uploader has.
type tally struct {
	n      int // its uploads, reserved ones included
	looked time.Time
}

// lookPause is how long the uploads of a client at its limit are taken to exist, without a look at the disk.
const lookPause = time.Second

// minSweep is how many uploads are counted before all are looked at for the first time.
const minSweep = 4096

func newUploads(limit int, exists func(upload) bool) *uploads {
	return &uploads{limit: limit, exists: exists, sweep: minSweep,
		by: map[upload]uploader{}, count: map[uploader]*tally{}}
}

// reserve makes room for one more upload of a client; false: the client has as many as it may. The caller must call
// release with the upload that it made, or with the zero upload if it made none.
func (u *uploads) reserve(w uploader) (release func(upload), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.count[w]; t != nil && u.limit > 0 && t.n >= u.limit {
		if time.Since(t.looked) > lookPause {
			t.looked = time.Now()
			u.forgetGoneLocked(func(other uploader) bool { return other == w })
		}
		if t.n >= u.limit {
			return nil, false
		}
	}
	u.addLocked(w)
	return func(made upload) { u.release(w, made) }, true
}

func (u *uploads) release(w uploader, made upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if made == (upload{}) {
		u.subtractLocked(w)
		return
	}
	u.by[made] = w
	if len(u.by) >= u.sweep { // of clients that do not come back
		u.forgetGoneLocked(func(uploader) bool { return true })
		u.sweep = max(minSweep, 2*len(u.by))
	}
}

// resumed counts an upload for the client that goes on with it, unless it is counted. It may do so whatever the limit.
func (u *uploads) resumed(w uploader, up upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, counted := u.by[up]; !counted {
		u.addLocked(w)
		u.by[up] = w
	}
}

// ended is for an upload that is complete, or cancelled.
func (u *uploads) ended(up upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forgetLocked(up)
}

// ownedBy says whether a user is known to have begun an upload. It is false where no login is needed.
func (u *uploads) ownedBy(user string, up upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	w, ok := u.by[up]
	return ok && user != "" && w.user == user
}

// forgetGoneLocked forgets uploads that do not exist any more, of the clients that were chosen.
func (u *uploads) forgetGoneLocked(chosen func(uploader) bool) {
	for up, w := range u.by {
		if chosen(w) && !u.exists(up) {
			u.forgetLocked(up)
		}
	}
}

func (u *uploads) forgetLocked(up upload) {
	if w, counted := u.by[up]; counted {
		delete(u.by, up)
		u.subtractLocked(w)
	}
}

func (u *uploads) addLocked(w uploader) {
	t := u.count[w]
	if t == nil {
		t = &tally{}
		u.count[w] = t
	}
	t.n++
}

func (u *uploads) subtractLocked(w uploader) {
	if u.count[w].n--; u.count[w].n == 0 {
		delete(u.count, w)
	}
}
