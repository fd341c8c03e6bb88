package tree

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Met remembers the symbolic links on the ways to files that are served. A comparison of the index with the tree judges
// all symbolic links of a tree. One that appears afterwards, or leads elsewhere since, may be a second name for a file,
// and what is removed under one name would be missing under the other. Its methods may be called concurrently.
type Met struct {
	dir Dir

	mu        sync.Mutex        // guards the rest; held over no I/O
	comparing bool              // or a comparison failed: nothing is removed
	judged    map[string]string // symbolic link -> where it led in the last comparison
	unjudged  map[string]string // those that were met since that began, and were not judged
}

// NewMet is for a tree that was never compared.
func NewMet(d Dir) *Met { return &Met{dir: d, comparing: true, unjudged: map[string]string{}} }

// Compare is called before a comparison begins.
func (m *Met) Compare() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.comparing = true
	clear(m.unjudged) // the comparison judges what is there
}

// Judge takes the symbolic links that a comparison followed. False: others were met since it began, and it must be
// repeated.
func (m *Met) Judge(followed map[string]string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.judged = followed
	for path, real := range m.unjudged {
		if followed[path] != real {
			return false
		}
	}
	m.comparing = false
	return true
}

// Meet looks for symbolic links on the ways to the files of some keys, at each directory at most once. It says whether
// there is one that the last comparison did not judge, and returns those of them that are met for the first time since
// then. It finds none as long as a comparison is under way, which Judge ends.
func (m *Met) Meet(ks ...layout.Key) (first []string, found bool) {
	files := make([]string, 0, 2)
	for _, k := range ks {
		file := m.dir.File(k.Path())
		asked := false
		for up := file; len(up) > len(m.dir) && !leadsTo(up, files); up = filepath.Dir(up) {
			fi, err := os.Lstat(up)
			if err != nil {
				continue
			}
			if fi.Mode()&fs.ModeSymlink == 0 {
				if !asked && disk.Straight(up) {
					break // no directory above is one either
				}
				asked = true
				continue
			}
			real, err := filepath.EvalSymlinks(up)
			if err != nil {
				continue
			}
			strange, never := m.strange(up, real)
			if found = found || strange; strange && never {
				first = append(first, up)
			}
		}
		files = append(files, file)
	}
	return first, found
}

// leadsTo says whether a directory is on the way to one of the files.
func leadsTo(dir string, files []string) bool {
	return slices.ContainsFunc(files, func(file string) bool {
		return len(file) > len(dir) && file[len(dir)] == '/' && strings.HasPrefix(file, dir)
	})
}

// strange says whether a symbolic link was not judged, and whether it was not met before.
func (m *Met) strange(path, real string) (strange, never bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.judged[path] == real {
		return false, false
	}
	never = m.unjudged[path] != real
	m.unjudged[path] = real
	return !m.comparing, never
}

// Followed are the symbolic links that were followed, with where they lead.
func (w *Walk) Followed() map[string]string {
	followed := maps.Clone(w.symlinks.files)
	for real, by := range w.symlinks.places {
		if w.symlinks.judged[by].directory {
			followed[by] = real
		}
	}
	return followed
}
