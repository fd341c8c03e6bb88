//go:build !linux

package disk

import (
	"errors"
	"os"
)

// canSyncAll is false here; see Linux.
func canSyncAll(*os.File) (bool, error) { return false, nil }

func syncAll(*os.File) error { return errors.ErrUnsupported }
