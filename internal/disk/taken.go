package disk

import (
	"io/fs"
	"syscall"
)

// sector is what the system counts blocks in, whatever file system they are on: bytes.
const sector = 512

// Taken is how many bytes of its disk a file takes, as du counts them: whole blocks, also those in which the file
// system notes where the others are. Of a symbolic link it is what the link itself takes. A regular file counts for no
// less than its size: some file systems do not know its blocks yet.
func Taken(fi fs.FileInfo) int64 {
	taken := fi.Sys().(*syscall.Stat_t).Blocks * sector
	if fi.Mode().IsRegular() {
		taken = max(taken, (fi.Size()+sector-1)/sector*sector)
	}
	return taken
}
