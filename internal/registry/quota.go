package registry

import (
	"sync"
	"time"
)

// uploads counts the unfinished uploads of each client, in whatever form they are sent: those that it began at
// this server, and those of a server before it from when they are gone on with.
type uploads struct {
	limit int               // for each client; 0: none
	open  func(upload) bool // whether it is still there, by a look at the disk

	mu    sync.Mutex // guards the rest; held over looks at the disk, as rarely as look says
	by    map[upload]uploader
	count map[uploader]*tally
	sweep int // so many may be counted before all are looked at
}

// upload is one upload of a repository.
type upload struct{ repo, id string }

// uploader is a client: a user, or nobody, at an address.
type uploader struct{ user, address string }

// tally is what an uploader has.
type tally struct {
	n      int // those that are beginning included
	looked time.Time
}

// lookPause is how long the uploads of a client at its limit are believed to be there, without a look at the disk.
const lookPause = time.Second

// minSweep is how many uploads are counted before all are looked at for the first time.
const minSweep = 4096

func newUploads(limit int, open func(upload) bool) *uploads {
	return &uploads{limit: limit, open: open, by: map[upload]uploader{}, count: map[uploader]*tally{}, sweep: minSweep}
}

// begin makes room for one more upload of a client. If it does, began or failed has to follow.
func (u *uploads) begin(w uploader) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.count[w]; t != nil && u.limit > 0 && t.n >= u.limit {
		if time.Since(t.looked) > lookPause {
			t.looked = time.Now()
			u.lookLocked(func(other uploader) bool { return other == w })
		}
		if t.n >= u.limit {
			return false
		}
	}
	u.addLocked(w)
	return true
}

// began says which upload it is for which there was room.
func (u *uploads) began(w uploader, up upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.by[up] = w
	if len(u.by) >= u.sweep { // of clients that do not come back
		u.lookLocked(func(uploader) bool { return true })
		u.sweep = max(minSweep, 2*len(u.by))
	}
}

// failed gives the room back.
func (u *uploads) failed(w uploader) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.releaseLocked(w)
}

// resumed counts an upload for who goes on with it, unless it is counted. What was begun goes on, whatever the limit.
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

// ownedBy says whether a user is known to have begun an upload. Nobody is known where nobody logs in.
func (u *uploads) ownedBy(user string, up upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	w, ok := u.by[up]
	return ok && user != "" && w.user == user
}

// lookLocked forgets the uploads of some clients that are there no more.
func (u *uploads) lookLocked(of func(uploader) bool) {
	for up, w := range u.by {
		if of(w) && !u.open(up) {
			u.forgetLocked(up)
		}
	}
}

func (u *uploads) forgetLocked(up upload) {
	if w, counted := u.by[up]; counted {
		delete(u.by, up)
		u.releaseLocked(w)
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

func (u *uploads) releaseLocked(w uploader) {
	if u.count[w].n--; u.count[w].n == 0 {
		delete(u.count, w)
	}
}
