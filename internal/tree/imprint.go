package tree

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Imprint tells a tree from what it was before: no key gets a file, and no tag another one, without another Imprint. It
// is a sum over the times and identities of each directory in which the directory of a key can appear, and of the
// links of the tags, which older stock registries write in place. The directories of single blobs and links are not
// looked at: they are most of a tree. So an Imprint stands for a tree only if each of them has its file.
type Imprint struct {
	sum    [4]uint64 // its order does not matter, and a part can be replaced
	newest time.Time
}

// UntellableError says why it cannot be told whether a tree was changed.
type UntellableError struct{ Why string }

func (e *UntellableError) Error() string { return e.Why }

// String is the Imprint as it is stored.
func (i Imprint) String() string {
	sum := make([]byte, 0, 32)
	for _, part := range i.sum {
		sum = binary.BigEndian.AppendUint64(sum, part)
	}
	return hex.EncodeToString(sum)
}

// Imprint looks at the tree as it is now. *UntellableError.
func (d Dir) Imprint(ctx context.Context) (Imprint, error) {
	p := presser{dir: d, ctx: ctx}
	for _, step := range []func() error{p.system, p.mounts, p.tree} {
		err := step()
		if OfOnePath(err) {
			err = &UntellableError{err.Error()}
		}
		if err != nil {
			return Imprint{}, err
		}
	}
	return p.Imprint, nil
}

// place is the part of a tree that a directory is.
type place int

const (
	unkept       place = iota
	last               // a directory of which nothing below is kept
	top                // of the tree
	blobs              // holds algorithms
	prefixes           // an algorithm of blobs
	repositories       // a repository, or a part of its name, or all of them
	layers             // the links of a repository: holds algorithms
	manifests
	tags
)

// below is what a directory of this name is in one of this place.
func (p place) below(name string) place {
	switch {
	case p == top && name == "blobs":
		return blobs
	case p == top && name == "repositories", p == repositories && !strings.HasPrefix(name, "_"):
		return repositories
	case p == blobs:
		return prefixes
	case p == prefixes, p == layers:
		return last
	case p == repositories && name == "_layers", p == manifests && name == "revisions":
		return layers
	case p == repositories && name == "_manifests":
		return manifests
	case p == manifests && name == "tags":
		return tags
	}
	return unkept
}

// placeOf is the place of a path.
func (d Dir) placeOf(path string) place {
	root := d.Native(layout.Root)
	if path == root {
		return top
	}
	below, in := strings.CutPrefix(path, root+"/")
	if !in {
		return unkept
	}
	p := top
	for name := range strings.SplitSeq(below, "/") {
		p = p.below(name)
	}
	return p
}

// presser takes an Imprint of a tree.
type presser struct {
	Imprint
	dir    Dir
	ctx    context.Context
	device disk.Version // of the data directory
}

// system wants a file system that tells what was changed. The boot is a part of each Imprint: a power loss may have
// brought back an index that was changed before it.
func (p *presser) system() error {
	why, err := disk.TellsChanges(string(p.dir))
	if err != nil {
		return err
	}
	boot, err := disk.Boot()
	switch {
	case err != nil:
		return err
	case why != "":
		return &UntellableError{why}
	case boot == "":
		return &UntellableError{"the system does not tell when it was started"}
	}
	p.add(sha256.Sum256([]byte(boot)), plus)
	return nil
}

// mounts wants none in the tree: what one hides is not looked at.
func (p *presser) mounts() error {
	root, err := filepath.EvalSymlinks(p.dir.Native(layout.Root))
	if Missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	points, err := disk.MountPoints()
	for _, point := range points {
		if strings.HasPrefix(point, root+"/") {
			return &UntellableError{point + " is mounted in the tree"}
		}
	}
	return err
}

func (p *presser) tree() (err error) {
	if p.device, err = disk.VersionOf(string(p.dir)); err != nil {
		return err
	}
	return p.directory(p.dir.Native(layout.Root), top)
}

// directory adds a directory, and those below it that are kept. One that vanished is not there.
func (p *presser) directory(path string, at place) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	v, err := disk.LinkVersion(path)
	if Missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !v.SameDevice(p.device) {
		return &UntellableError{path + " is on another file system than the data directory"}
	}
	p.version(path[len(p.dir):], v, plus)
	if at == last {
		return nil
	}
	f, err := os.Open(path)
	if Missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if at == tags {
		return p.tags(f)
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below, in := filepath.Join(path, e.Name()), at.below(e.Name())
		if in != unkept && e.Type()&fs.ModeSymlink != 0 {
			return &UntellableError{below + " is a symbolic link"}
		}
		if in == unkept || !e.IsDir() {
			continue
		}
		if err := p.directory(below, in); err != nil {
			return err
		}
	}
	return nil
}

// current is the link of a tag below the directory of the tag.
const current = "current/link"

// tags adds the links of the tags in a directory.
func (p *presser) tags(dir *os.File) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		v, err := disk.VersionIn(dir, name+"/"+current)
		if err == nil {
			p.version(dir.Name()[len(p.dir):]+"/"+name, v, plus)
		} else if !Missing(err) {
			return err
		}
	}
	return nil
}

// What becomes of a part of an Imprint.
const (
	plus  uint64 = 1
	minus        = ^uint64(0)
)

// version adds the version of a path below the data directory, or takes it away.
func (i *Imprint) version(path string, v disk.Version, how uint64) {
	i.add(sha256.Sum256(append(v.Append(make([]byte, 0, 256)), path...)), how)
	if v.Newest().After(i.newest) {
		i.newest = v.Newest()
	}
}

func (i *Imprint) add(sum [32]byte, how uint64) {
	for n := range i.sum {
		i.sum[n] += how * binary.BigEndian.Uint64(sum[8*n:])
	}
}
