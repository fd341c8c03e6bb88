package disk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileKeepsTheModeOfWhatItReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := WriteFile(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	data, rerr := os.ReadFile(path)
	if err != nil || rerr != nil || fi.Mode().Perm() != 0o640 || string(data) != "two" {
		t.Errorf("%v %q %v %v", fi.Mode(), data, err, rerr)
	}
}
