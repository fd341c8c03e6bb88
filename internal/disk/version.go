package disk

import (
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// Version tells the content of a file from what it was before, and from that of another file of its name. The size and
// the time of modification alone do not: an editor may keep both. The time of change is the kernel's own.
type Version struct {
	device, inode     uint64
	size              int64
	modified, changed int64 // in nanoseconds
}

// VersionOf asks for the version of a path.
func VersionOf(path string) (Version, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Version{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return versionOf(&st), nil
}

func versionOf(st *unix.Stat_t) Version {
	return Version{uint64(st.Dev), uint64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// Size is how many bytes the file has.
func (v Version) Size() int64 { return v.size }

// resolution is the coarsest clock of a file system worth following: NFS and FAT, 2s.
const resolution = 2 * time.Second

// Settled says whether a version that was asked for now is told from every later one: what is written within the
// resolution of a file system's clock may carry the same times.
func (v Version) Settled(now time.Time) bool {
	return now.Sub(time.Unix(0, max(v.modified, v.changed))) > resolution
}
