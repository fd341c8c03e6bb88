package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestADirectoryTellsHowManyAreInIt, also where two changes come in one tick of the clock.
func TestADirectoryTellsHowManyAreInIt(t *testing.T) {
	dir := t.TempDir()
	if why, err := TellsChanges(dir); why != "" || err != nil {
		t.Skip(why, err)
	}
	for _, name := range []string{"a", "b"} {
		before, err := LinkVersion(dir)
		made := os.Mkdir(filepath.Join(dir, name), 0o755)
		after, err2 := LinkVersion(dir)
		if err := errors.Join(err, made, err2); err != nil {
			t.Fatal(err)
		}
		after.modified, after.changed = before.modified, before.changed
		if after == before {
			t.Error("a new directory shows in the times only")
		}
	}
}
