package tree

import (
	"path/filepath"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/disk"
)

// followed is the Imprint of a tree as the changes of this process leave it. What others change is not in it.
type followed struct {
	mu sync.Mutex // guards the rest; held while a name is removed
	Imprint
	lost bool
}

// Follow has what t removes from now on taken into account in an Imprint of its tree. It must not place files then.
func (t *Tree) Follow(i Imprint) { t.following.Store(&followed{Imprint: i}) }

// Followed is the Imprint of the tree if only t changed it since Follow, once no later change can carry the times that
// it has. False: there is none.
func (t *Tree) Followed() (Imprint, bool, error) {
	f := t.following.Load()
	if f == nil || f.lost {
		return Imprint{}, false, nil
	}
	later, err := disk.Outwait(t.GCLock(), f.newest)
	return f.Imprint, later, err
}

// counted removes a name by a function, and takes what that changes into the Imprint that t follows.
func (t *Tree) counted(path string, remove func() error) error {
	f := t.following.Load()
	if f == nil {
		return remove()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(t.Dir, path, minus)
	err := remove()
	f.count(t.Dir, path, plus)
	return err
}

// count adds or takes away what the removal of a name changes: the directory that it is in, and what it names.
func (f *followed) count(d Dir, path string, how uint64) {
	in := filepath.Dir(path)
	kept := map[string]string{} // by which name -> what is looked at
	if d.placeOf(in) != unkept {
		kept[in] = in
	}
	if d.placeOf(path) != unkept {
		kept[path] = path
	}
	if d.placeOf(in) == tags {
		kept[path] = filepath.Join(path, current)
	}
	for name, path := range kept {
		v, err := disk.LinkVersion(path)
		if err == nil {
			f.version(name[len(d):], v, how)
		}
		f.lost = f.lost || err != nil && !Missing(err)
	}
}

// left says that a directory stays without its file. A file may appear in it unseen.
func (t *Tree) left() {
	if f := t.following.Load(); f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lost = true
	}
}
