package registry

import (
	"sync"
	"time"
)

// uploads counts the unfinished uploads that each client began at this server. What is left of a server
// before it is not counted, and goes with the grace.
type uploads struct {
	limit int               // for each client; 0: none
	open  func(upload) bool // whether it is still there, by a look at the disk

	mu    sync.Mutex // guards the rest; held over looks at the disk, as rarely as look says
	by    map[upload]*uploader
	who   map[string]*uploader
	sweep int // so many may be counted before all are looked at
}

// upload is one upload of a repository.
type upload struct{ repo, id string }

// uploader is a client with unfinished uploads.
type uploader struct {
	name   string
	n      int // those that are beginning included
	looked time.Time
}

// lookPause is how long a client at its limit is believed to be there, without a look at the disk.
const lookPause = time.Second

// minSweep is how many uploads are counted before all are looked at for the first time.
const minSweep = 4096

func newUploads(limit int, open func(upload) bool) *uploads {
	return &uploads{limit: limit, open: open, by: map[upload]*uploader{}, who: map[string]*uploader{}, sweep: minSweep}
}

// begin makes room for one more upload of a client. began has to follow.
func (u *uploads) begin(client string) (ok bool) {
	if u.limit == 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.who[client]
	if w == nil {
		w = &uploader{name: client}
		u.who[client] = w
	}
	if w.n >= u.limit && time.Since(w.looked) > lookPause {
		w.looked = time.Now()
		u.lookLocked(w)
	}
	if w.n >= u.limit {
		return false
	}
	w.n++
	u.who[client] = w // a look may have forgotten it
	return true
}

// began says what became of it: an upload, or none.
func (u *uploads) began(client string, up upload, is bool) {
	if u.limit == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.who[client]
	if !is {
		u.releaseLocked(w)
		return
	}
	u.by[up] = w
	if len(u.by) >= u.sweep { // of clients that do not come back
		u.lookLocked(nil)
		u.sweep = max(minSweep, 2*len(u.by))
	}
}

// ended is for an upload that is complete, or cancelled.
func (u *uploads) ended(up upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if w := u.by[up]; w != nil {
		delete(u.by, up)
		u.releaseLocked(w)
	}
}

// lookLocked forgets the uploads of a client that are there no more; nil: of all clients.
func (u *uploads) lookLocked(of *uploader) {
	for up, w := range u.by {
		if (of == nil || w == of) && !u.open(up) {
			delete(u.by, up)
			u.releaseLocked(w)
		}
	}
}

func (u *uploads) releaseLocked(w *uploader) {
	if w.n--; w.n == 0 {
		delete(u.who, w.name)
	}
}
