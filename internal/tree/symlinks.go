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

// SymlinkError says why a symbolic link of the tree is not followed, or that something is mounted in the tree.
type SymlinkError struct {
	Path    string // of the symbolic link, or of the mount
	Why     string
	Remedy  string // what the operator can do about it
	mounted bool
}

func (e *SymlinkError) Error() string {
	if e.mounted {
		return e.Why
	}
	return fmt.Sprintf("the symbolic link %s cannot be followed: %s", e.Path, e.Why)
}

// SymlinksError names all symbolic links of a tree that are not followed, and all mounts in it.
type SymlinksError struct{ Refused []*SymlinkError }

func (e *SymlinksError) Error() string {
	text := e.Refused[0].Error()
	if n := len(e.Refused) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more: dcs inspect --check names all)", n)
	}
	return text
}

// symlinks judges the symbolic links of a tree. What one leads to outside of it is a part of the tree, as it is for a
// server. But each directory may be in the tree once only: else what has two names would be removed by one of them.
type symlinks struct {
	dir    Dir
	mount  disk.Mount
	judged map[string]verdict
	places map[string]string // a real directory that is a part of the tree -> by which path
	above  map[string]string // a real directory that holds such a one -> the same path
	files  map[string]string // a symbolic link to a single file -> where it leads, with none on the way
	order  []string          // of refused, as they were found
}

// verdict is what is known of a symbolic link. One that leads to a file where a directory should be, or the reverse,
// leads to nothing that a server serves: it is neither followed nor refused.
type verdict struct {
	directory, file bool
	refused         *SymlinkError
}

func newSymlinks(d Dir) (*symlinks, error) {
	mount, err := disk.MountOf(string(d))
	if err != nil {
		return nil, err
	}
	s := &symlinks{dir: d, mount: mount, judged: map[string]verdict{},
		places: map[string]string{}, above: map[string]string{}, files: map[string]string{}}
	for _, part := range []string{d.Native(layout.Root), d.Metadata()} {
		if real, err := filepath.EvalSymlinks(part); err == nil && !s.crossed(part) {
			s.occupy(real, part)
		}
	}
	return s, nil
}

// crossed says whether there is a symbolic link on the way to a path below the data directory. What that leads to
// becomes a part of the tree when it is found.
func (s *symlinks) crossed(path string) bool {
	for ; len(path) > len(s.dir); path = filepath.Dir(path) {
		if fi, err := os.Lstat(path); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

func (s *symlinks) occupy(real, by string) {
	s.places[real] = by
	for up := filepath.Dir(real); ; up = filepath.Dir(up) {
		if _, known := s.above[up]; !known {
			s.above[up] = by
		}
		if up == filepath.Dir(up) {
			return
		}
	}
}

// inside finds the part of the tree that a real path is in.
func (s *symlinks) inside(real string) (by string, ok bool) {
	for up := real; ; up = filepath.Dir(up) {
		if by, ok := s.places[up]; ok {
			return by, true
		}
		if up == filepath.Dir(up) {
			return "", false
		}
	}
}

// judge finds out once whether a symbolic link is followed. The error is one of the system.
func (s *symlinks) judge(path string) (verdict, error) {
	if v, known := s.judged[path]; known {
		return v, nil
	}
	v, err := s.look(path)
	if err != nil {
		return verdict{}, err
	}
	s.judged[path] = v
	if v.refused != nil {
		s.order = append(s.order, path)
	}
	return v, nil
}

// look sees where a symbolic link leads. A directory that may be followed becomes a part of the tree.
func (s *symlinks) look(path string) (verdict, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return refuse(path, "it closes a circle", "remove it"), nil
	case missing(err):
		to, _ := os.Readlink(path)
		return refuse(path, "it leads to "+to+", which is not there", "mount what it leads to, or remove the link"), nil
	case err != nil:
		return verdict{}, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return verdict{}, err
	}
	if !fi.IsDir() {
		if fi.Mode().IsRegular() {
			s.files[path] = real
		}
		return verdict{file: fi.Mode().IsRegular()}, nil
	}
	mount, err := disk.MountOf(real)
	if err != nil {
		return verdict{}, err
	}
	if mount != s.mount {
		of := &FileSystemError{Directory: real, Trash: s.dir.Trash()}
		return refuse(path, of.Error(), oneFileSystem), nil
	}
	by, taken := s.inside(real)
	if !taken {
		by, taken = s.above[real]
	}
	if taken {
		return refuse(path, s.twice(real, by), oneName), nil
	}
	s.occupy(real, path)
	return verdict{directory: true}, nil
}

// oneFileSystem is the remedy for directories between which files cannot be renamed.
const oneFileSystem = "mount one file system for the whole data directory"

// oneName is the remedy for a second name.
const oneName = "remove it, or put a copy of what it leads to in its place: " +
	"what has two names would be removed under both of them"

func refuse(path, why, remedy string) verdict {
	return verdict{refused: &SymlinkError{Path: path, Why: why, Remedy: remedy}}
}

func (s *symlinks) twice(real, by string) string {
	if by == s.dir.Native(layout.Root) || by == s.dir.Metadata() {
		return fmt.Sprintf("it leads to %s, into the data directory itself", real)
	}
	return fmt.Sprintf("it leads to %s, to which %s leads too", real, by)
}

// refuseMounts finds what is mounted below parts of the tree. A mount may be a second name for another part, too.
func (s *symlinks) refuseMounts() error {
	points, err := disk.MountPoints()
	for _, point := range points {
		by, taken := s.inside(filepath.Dir(point))
		if !taken || by == s.dir.Metadata() || s.judged[point].refused != nil {
			continue
		}
		of := &FileSystemError{Directory: point, Trash: s.dir.Trash()}
		s.judged[point] = verdict{refused: &SymlinkError{Path: point, Why: of.Error(), Remedy: oneFileSystem,
			mounted: true}}
		s.order = append(s.order, point)
	}
	return err
}

// refusal is a *SymlinksError if any symbolic link was refused, or anything is mounted. One to a single file is refused
// if that file is in the tree by another name.
func (s *symlinks) refusal() error {
	if err := s.refuseMounts(); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		real := s.files[path]
		if by, taken := s.inside(real); taken && s.judged[path].refused == nil {
			s.judged[path] = refuse(path, s.twice(real, by), oneName)
			s.order = append(s.order, path)
		}
	}
	if len(s.order) == 0 {
		return nil
	}
	e := &SymlinksError{}
	for _, path := range s.order {
		e.Refused = append(e.Refused, s.judged[path].refused)
	}
	return e
}
