//go:build !linux

package disk

import "os"

// BeginSync does nothing here; see Linux.
func BeginSync(*os.File, int64, int64) error { return nil }

// AwaitSync does nothing here; see Linux.
func AwaitSync(*os.File, int64, int64) error { return nil }
