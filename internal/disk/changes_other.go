//go:build !linux

package disk

// TellsChanges never relies on it here; see Linux.
func TellsChanges(string) (why string, err error) {
	return "this system need not tell when a directory was changed", nil
}

// Boot is not known here; see Linux.
func Boot() (string, error) { return "", nil }
