//go:build !linux

package owner

import "io/fs"

// become does nothing on this system: only Linux has ids and capabilities for each thread.
func become(string, fs.FileInfo) error { return nil }

func asRoot(f func() error) error { return f() }
