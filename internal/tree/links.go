package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// LinkError says why a symbolic link of the tree is not followed, or that something is mounted in the tree.
type LinkError struct {
	Link    string // where the link is, or the mount
	Why     string
	Remedy  string // what the operator can do about it
	mounted bool
}

func (e *LinkError) Error() string {
	if e.mounted {
		return e.Why
	}
	return fmt.Sprintf("the symbolic link %s cannot be followed: %s", e.Link, e.Why)
}

// LinksError names all links of a tree that are not followed, and all mounts in it.
type LinksError struct{ Links []*LinkError }

func (e *LinksError) Error() string {
	s := e.Links[0].Error()
	if n := len(e.Links) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more: dcs inspect --check names all)", n)
	}
	return s
}

// links judges the symbolic links of a tree. What a link leads to outside of it is a part of the tree, as it is for a
// server. But each directory may be in the tree once only: else what has two names would be removed by one of them.
type links struct {
	dir    Dir
	mount  disk.Mount
	judged map[string]verdict
	places map[string]string // a real directory that is a part of the tree -> by which path
	above  map[string]string // a real directory that holds such a one -> the same path
	files  map[string]string // links to single files -> where they lead, with no link on the way
	order  []string          // of refused, as they were found
}

// verdict is what is known of a link. One that leads to a file where a directory should be, or the reverse, leads to
// nothing that a server serves: it is neither followed nor refused.
type verdict struct {
	directory, file bool
	refused         *LinkError
}

func newLinks(d Dir) (*links, error) {
	mount, err := disk.MountOf(string(d))
	if err != nil {
		return nil, err
	}
	l := &links{dir: d, mount: mount, judged: map[string]verdict{},
		places: map[string]string{}, above: map[string]string{}, files: map[string]string{}}
	for _, part := range []string{d.Native(layout.Root), d.Metadata()} {
		if real, err := filepath.EvalSymlinks(part); err == nil && !l.crossed(part) {
			l.occupy(real, part)
		}
	}
	return l, nil
}

// crossed says whether there is a link on the way to a path below the data directory. What that leads to becomes a part
// of the tree when it is found.
func (l *links) crossed(path string) bool {
	for ; len(path) > len(l.dir); path = filepath.Dir(path) {
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

func (l *links) occupy(real, by string) {
	l.places[real] = by
	for up := filepath.Dir(real); ; up = filepath.Dir(up) {
		if _, known := l.above[up]; !known {
			l.above[up] = by
		}
		if up == filepath.Dir(up) {
			return
		}
	}
}

// inside finds the part of the tree that a real path is in.
func (l *links) inside(real string) (by string, ok bool) {
	for up := real; ; up = filepath.Dir(up) {
		if by, ok := l.places[up]; ok {
			return by, true
		}
		if up == filepath.Dir(up) {
			return "", false
		}
	}
}

// judge looks where a link leads, once. The error is one of the system.
func (l *links) judge(link string) (v verdict, err error) {
	if v, known := l.judged[link]; known {
		return v, nil
	}
	defer func() {
		if err == nil {
			l.judged[link] = v
			if v.refused != nil {
				l.order = append(l.order, link)
			}
		}
	}()
	fi, err := os.Stat(link)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return refuse(link, "it closes a circle", "remove it"), nil
	case missing(err):
		to, _ := os.Readlink(link)
		return refuse(link, "it leads to "+to+", which is not there", "mount what it leads to, or remove the link"), nil
	case err != nil:
		return verdict{}, err
	}
	real, err := filepath.EvalSymlinks(link)
	if err != nil {
		return verdict{}, err
	}
	if !fi.IsDir() {
		if fi.Mode().IsRegular() {
			l.files[link] = real
		}
		return verdict{file: fi.Mode().IsRegular()}, nil
	}
	mount, err := disk.MountOf(real)
	if err != nil {
		return verdict{}, err
	}
	if mount != l.mount {
		of := &FileSystemError{Directory: real, Trash: l.dir.Trash()}
		return refuse(link, of.Error(), oneFileSystem), nil
	}
	by, taken := l.inside(real)
	if !taken {
		by, taken = l.above[real]
	}
	if taken {
		return refuse(link, l.twice(real, by), l.once()), nil
	}
	l.occupy(real, link)
	return verdict{directory: true}, nil
}

// oneFileSystem is the remedy for directories between which files cannot be renamed.
const oneFileSystem = "mount one file system for the whole data directory"

func refuse(link, why, remedy string) verdict {
	return verdict{refused: &LinkError{Link: link, Why: why, Remedy: remedy}}
}

func (l *links) twice(real, by string) string {
	if by == l.dir.Native(layout.Root) || by == l.dir.Metadata() {
		return fmt.Sprintf("it leads to %s, into the data directory itself", real)
	}
	return fmt.Sprintf("it leads to %s, to which %s leads too", real, by)
}

func (*links) once() string {
	return "remove it, or put a copy of what it leads to in its place: " +
		"what has two names would be removed under both of them"
}

// refuseMounts finds what is mounted below parts of the tree. A mount may be a second name for another part, too.
func (l *links) refuseMounts() error {
	points, err := disk.MountPoints()
	for _, point := range points {
		by, taken := l.inside(filepath.Dir(point))
		if !taken || by == l.dir.Metadata() || l.judged[point].refused != nil {
			continue
		}
		of := &FileSystemError{Directory: point, Trash: l.dir.Trash()}
		l.judged[point] = verdict{refused: &LinkError{Link: point, Why: of.Error(), Remedy: oneFileSystem,
			mounted: true}}
		l.order = append(l.order, point)
	}
	return err
}

// refusal is a *LinksError if any link was refused, or anything is mounted. A link to a single file is refused if that
// file is in the tree by another name.
func (l *links) refusal() error {
	if err := l.refuseMounts(); err != nil {
		return err
	}
	for _, link := range slices.Sorted(maps.Keys(l.files)) {
		real := l.files[link]
		if by, taken := l.inside(real); taken && l.judged[link].refused == nil {
			l.judged[link] = refuse(link, l.twice(real, by), l.once())
			l.order = append(l.order, link)
		}
	}
	if len(l.order) == 0 {
		return nil
	}
	e := &LinksError{}
	for _, link := range l.order {
		e.Links = append(e.Links, l.judged[link].refused)
	}
	return e
}
