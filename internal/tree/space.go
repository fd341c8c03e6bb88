package tree

import "golang.org/x/sys/unix"

// Space is how many bytes the file system of the data directory has free for its owner, and its size in bytes.
func (d Dir) Space() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(string(d), &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}
