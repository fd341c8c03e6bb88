package disk

import (
	"encoding/binary"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Version tells the content of a file or directory from what it was before, and from that of another one of its name.
// The size and the time of modification alone do not: an editor may keep both. The time of change is the kernel's own.
type Version struct {
	device, inode     uint64
	links             uint64 // of a directory on most file systems: how many directories are in it
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

// VersionIn asks for the version of a path below an open directory. A symbolic link is not followed.
func VersionIn(dir *os.File, path string) (Version, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return Version{}, &fs.PathError{Op: "stat", Path: dir.Name() + "/" + path, Err: err}
	}
	return versionOf(&st), nil
}

// LinkVersion asks for the version of a path. A symbolic link is not followed.
func LinkVersion(path string) (Version, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Version{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return versionOf(&st), nil
}

func versionOf(st *unix.Stat_t) Version {
	//nolint:unconvert // not all systems have 64 bits for these
	return Version{uint64(st.Dev), uint64(st.Ino), uint64(st.Nlink), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// Size is how many bytes the file has.
func (v Version) Size() int64 { return v.size }

// SameDevice says whether two files are on one file system.
func (v Version) SameDevice(o Version) bool { return v.device == o.device }

// LostOne says whether a directory can have lost one directory of a name, and got none, since it had this version. Most
// file systems count the directories in one; btrfs adds up the lengths of their names, twice. Others do not tell, such
// as an ext4 with more than 65,000: false.
func (v Version) LostOne(after Version, name string) bool {
	if v.links == 1 && after.links == 1 {
		return v.size == after.size+2*int64(len(name))
	}
	return v.links == after.links+1
}

// Newest is the later one of the times of the version.
func (v Version) Newest() time.Time { return time.Unix(0, max(v.modified, v.changed)) }

// Append appends what tells the version from others.
func (v Version) Append(b []byte) []byte {
	for _, n := range []uint64{v.device, v.inode, v.links, uint64(v.size), uint64(v.modified), uint64(v.changed)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// resolution is the coarsest clock of a file system worth following: NFS and FAT, 2s.
const resolution = 2 * time.Second

// Settled says whether a version that was asked for now is told from every later one: what is written within the
// resolution of a file system's clock may carry the same times.
func (v Version) Settled(now time.Time) bool {
	return now.Sub(v.Newest()) > resolution
}
