package tree

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Taken is how many bytes of the disk a file or directory of the tree takes itself, which is named by its path below
// layout.Root. False: it does not exist, or cannot be looked at.
func (d Dir) Taken(path string) (bytes int64, there bool) {
	fi, err := os.Lstat(string(d) + layout.Root + "/" + path)
	if err != nil {
		return 0, false
	}
	return disk.Taken(fi), true
}

// TakenBy is how many bytes the file of a key takes, with its directory.
func (d Dir) TakenBy(k layout.Key) int64 {
	file := layout.Below(k.Path().String())
	bytes, _ := d.Taken(file)
	dir, _ := d.Taken(filepath.Dir(file))
	return bytes + dir
}

// TakenInAll is how many bytes a path on this machine takes, with all that is below it. What vanishes or cannot be read
// counts for nothing.
func TakenInAll(path string) (bytes int64) {
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			if fi, err := e.Info(); err == nil {
				bytes += disk.Taken(fi)
			}
		}
		return nil
	})
	return bytes
}

// TakenByHistory is how many bytes the history of a tag takes beyond the one entry that dcs keeps. Stock registries
// keep one for each push.
func (d Dir) TakenByHistory(k layout.Key) (bytes int64) {
	history := d.Native(layout.TagIndexDir(k.Repository, k.Tag))
	index, err := os.Lstat(history)
	if err != nil {
		return 0
	}
	grown := int64(0) // a directory of an algorithm is as small as the history, unless it held many entries
	one := single(index)
	for _, alg := range []string{"sha256", "sha384", "sha512"} {
		if fi, err := os.Lstat(filepath.Join(history, alg)); err == nil {
			grown += disk.Taken(fi) - disk.Taken(index)
			one = one && single(fi)
		}
	}
	if one {
		return max(grown, 0)
	}
	dirs := entries(history)
	if len(dirs) > 1 {
		grown = TakenInAll(history) - 2*disk.Taken(index) - TakenInAll(dirs[0])
	}
	return max(grown, 0)
}

// single says whether a directory is known to hold one other directory: its own two names and the name above it in that
// one are its links. Some file systems do not count those.
func single(dir fs.FileInfo) bool { return dir.IsDir() && dir.Sys().(*syscall.Stat_t).Nlink == 3 }

// LinkCosts is what a directory with one link in it takes, the two apart. It is found out by making one. Where that is
// not possible, each is taken for a block.
func (t *Tree) LinkCosts() (dir, link int64) {
	made := filepath.Join(t.Temp(), unique())
	file := filepath.Join(made, "link")
	err := t.mkdir(made)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Repeat("0", longestLink)), fileMode)
	}
	var both [2]fs.FileInfo
	for i, path := range []string{made, file} {
		if err == nil {
			both[i], err = os.Lstat(path)
		}
	}
	_ = os.RemoveAll(made)
	if err != nil {
		return t.BlockCosts()
	}
	return disk.Taken(both[0]), disk.Taken(both[1])
}

// BlockCosts is what a directory with one link in it takes where each takes a block, the two apart.
func (d Dir) BlockCosts() (dir, link int64) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil || st.Frsize <= 0 {
		return 4096, 4096
	}
	return st.Frsize, st.Frsize
}

// longestLink is the length of the link to a digest of sha512.
const longestLink = len("sha512:") + 128
