package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

func newSorter(t *testing.T) *Sorter {
	t.Helper()
	s, err := NewSorter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A text may have any bytes. The larger rank comes first, and of equal ranks the smaller name.
func TestASorterPutsTextsInOrder(t *testing.T) {
	type row struct {
		rank       int64
		name, text string
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	s := newSorter(t)
	var want []row
	for i := range 500 {
		r := row{rnd.Int64N(20) - 10, fmt.Sprint(rnd.Int64()), fmt.Sprint(i, "\n\x00\xff")}
		want = append(want, r)
		if err := s.Add(r.rank, r.name, r.text); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(want, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.rank, a.rank),
			strings.Compare(a.name, b.name))
	})
	for _, reverse := range []bool{false, true, false} {
		var got, texts []string
		for _, r := range want {
			texts = append(texts, r.text)
		}
		if reverse {
			slices.Reverse(texts)
		}
		err := s.Each(reverse, func(text string) error {
			got = append(got, text)
			return nil
		})
		if err != nil || !slices.Equal(got, texts) {
			t.Errorf("reverse %t: %v; got\n%q\nwant\n%q", reverse, err, got, texts)
		}
	}
}

// Its file is nobody's but its own: it has no name that is left over, and is full when its disk is.
func TestASorterWithoutRoomSaysSo(t *testing.T) {
	s := newSorter(t)
	if err := s.q.exec("PRAGMA max_page_count = 10"); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = s.Add(0, "name", strings.Repeat("x", 1000))
	}
	if !errors.Is(err, index.ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestASorterEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := NewSorter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if err := s.Add(0, "name", "text"); err == nil {
		t.Error("it goes on")
	}
}
