package disk

import (
	"errors"
	"os"
	"testing"
)

func TestAFlagIsRaisedForAllOthers(t *testing.T) {
	dir := t.TempDir()
	flags := make([]*Flag, 3)
	for i := range flags {
		var err error
		if flags[i], err = OpenFlag(dir); err != nil {
			t.Fatal(err)
		}
	}
	want := func(after string, all ...bool) {
		t.Helper()
		for i, f := range flags {
			if got, err := f.Raised(); err != nil || got != all[i] {
				t.Errorf("%s: the flag of %d is raised: %v, %v", after, i, got, err)
			}
		}
	}
	want("at first", false, false, false)
	if err := errors.Join(flags[0].Raise(), flags[0].Raise()); err != nil {
		t.Fatal(err)
	}
	want("raised by 0", false, true, true)
	if err := flags[1].Raise(); err != nil {
		t.Fatal(err)
	}
	want("raised by 0 and 1", true, true, true)
	f, err := os.Open(dir) // closing it would end another sort of lock
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), flags[0].Lower()); err != nil {
		t.Fatal(err)
	}
	want("raised by 1", true, false, true)
	if err := flags[1].Close(); err != nil {
		t.Fatal(err)
	}
	flags = flags[:1]
	want("after 1 ended", false)
	if _, err := OpenFlag(dir + "/none"); !os.IsNotExist(err) {
		t.Errorf("a flag of no directory: %v", err)
	}
}
