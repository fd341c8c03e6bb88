//go:build !linux

package disk

// Straight knows nothing here; see Linux.
func Straight(string) bool { return false }
