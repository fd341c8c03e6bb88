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

// Unfollow ends that: there is no Imprint.
func (t *Tree) Unfollow() { t.following.Store(nil) }

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

// counted removes the name of a directory by a function, and takes what that changes into the Imprint that t follows. A
// removal that fails changes nothing of it: whatever another process did in between differs from the Imprint.
func (t *Tree) counted(path string, remove func() error) error {
	f := t.following.Load()
	if f == nil {
		return remove()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.look(t.Dir, path)
	if err := remove(); err != nil {
		return err
	}
	after := f.look(t.Dir, path)
	f.count(t.Dir, before, minus)
	f.count(t.Dir, after, plus)
	// Another process may have made a directory there between the two looks: its name must not pass for known.
	if in := filepath.Dir(path); t.placeOf(in) != unkept && !before[in].LostOne(after[in], filepath.Base(path)) {
		f.lost = true
	}
	return nil
}

// look returns what the removal of a name may change: the versions of the directory that it is in, and of what it
// names.
func (f *followed) look(d Dir, path string) map[string]disk.Version {
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
	versions := map[string]disk.Version{}
	for name, path := range kept {
		v, err := disk.LinkVersion(path)
		if err == nil {
			versions[name] = v
		}
		f.lost = f.lost || err != nil && !Missing(err)
	}
	return versions
}

// count adds versions to the Imprint, or takes them away.
func (f *followed) count(d Dir, versions map[string]disk.Version, how uint64) {
	for name, v := range versions {
		f.version(name[len(d):], v, how)
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
