package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// What is too much for memory comes in the same order as what is not, and leaves no file behind.
func TestLinesThatDoNotFitIntoMemoryAreSorted(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, o := range []Options{{}, {Reverse: true}, {Limit: 7}, {Limit: 1000}} {
		rnd := rand.New(rand.NewPCG(1, 1))
		inMemory, onDisk := sorted(t, o, 1<<20, rnd.Int64()), sorted(t, o, 200, rnd.Int64())
		rnd = rand.New(rand.NewPCG(1, 1))
		again := sorted(t, o, 200, rnd.Int64())
		if !slices.Equal(inMemory, again) {
			t.Errorf("%+v: in memory\n%v, on disk\n%v", o, inMemory, again)
		}
		if len(onDisk) != len(inMemory) || slices.Equal(onDisk, inMemory) {
			t.Errorf("%+v: other lines give the same list", o)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func sorted(t *testing.T, o Options, most int, seed int64) (lines []string) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	var stay []string
	s := newSpool(o, func(l *line) { stay = append(stay, string(l.Text)) })
	s.most = most
	for range 300 {
		n := rnd.IntN(40) // some ranks are equal
		name := fmt.Sprint(rnd.IntN(1 << 30))
		if err := s.add(line{Rank: int64(n), Name: name, Text: []byte(fmt.Sprint(n, " ", name))}); err != nil {
			t.Fatal(err)
		}
	}
	s.settle()
	if s.file == nil && most < 1000 && o.Limit == 0 {
		t.Fatal("nothing went to disk")
	}
	err := s.deliver(func(l *line) error {
		lines = append(lines, string(l.Text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(stay)
	if all := slices.Sorted(slices.Values(lines)); !slices.Equal(stay, all) {
		t.Fatalf("measured\n%v, delivered\n%v", stay, all)
	}
	return lines
}

// A table shows as much of a digest as it takes to tell it from the others.
func TestDigestsAreToldApart(t *testing.T) {
	told := telling{length: 12}
	a := "sha256:" + strings.Repeat("a", 64)
	for _, d := range []string{a[:22] + "0" + a[23:], a[:22] + "1" + a[23:], a[:22] + "1" + a[23:], "sha512:" + strings.Repeat("a", 128)} {
		told.add(d)
	}
	if told.length != 16 {
		t.Errorf("%d characters", told.length)
	}
}

// Without room for the file there is an error of its own type, and not half a list.
func TestATemporaryDirectoryThatIsMissing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	s := newSpool(Options{}, func(*line) {})
	s.most = 10
	err := s.add(line{Text: []byte("longer than that")})
	if _, ok := errors.AsType[*SortError](err); !ok || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
