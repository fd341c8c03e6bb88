package main

import (
	"bytes"
	"io"
	"net/http/httputil"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name] || r.name == "" || r.what == "" {
			t.Errorf("row %q, %q", r.name, r.what)
		}
		seen[r.name] = true
	}
}

func TestRowsAreChosenByWholeNames(t *testing.T) {
	chosen := func(args ...string) (names []string) {
		o, _, err := parse(args)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if o.wants(r) {
				names = append(names, r.name)
			}
		}
		return names
	}
	if got := chosen("-rows", "get-blob"); len(got) != 1 {
		t.Errorf("-rows get-blob: %v", got)
	}
	if got := chosen("-rows", "gc-.*|inspect"); len(got) != 5 {
		t.Errorf("-rows gc-.*|inspect: %v", got)
	}
	if got := chosen(); len(got) != len(rows)-len(listings) {
		t.Errorf("the table: %v", got)
	}
	for _, args := range [][]string{{"-rows", "("}, {"-scale", "2k"}, {"-rows", "get-blob", "-doc", "docs"},
		{"-against", "dcs", "-doc", "docs"}, {"-rounds", "x"}} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestAnotherDCSTakesTurnsWithThisOne(t *testing.T) {
	b := &bench{options: options{DCS: "new", Against: "old"}}
	names := b.withBefore(dcs, stock, dcsLogin)
	if want := []string{dcs, report.Before + dcs, stock, dcsLogin, report.Before + dcsLogin}; !slices.Equal(names,
		want) {
		t.Errorf("%q, want %q", names, want)
	}
	for _, p := range b.programs() {
		named, who := b.called(p.as(dcs))
		if named != p || who != dcs {
			t.Errorf("%+v is called %q, which is %q of %+v", p, p.as(dcs), who, named)
		}
	}
	b.Against = ""
	if names := b.withBefore(dcs, stock); len(names) != 2 || len(b.programs()) != 1 {
		t.Errorf("without another one: %q, %+v", names, b.programs())
	}
}

// Each ttl is the end of one group: what is younger stays, and what is older has gone before.
func TestEachRoundHasAGroupToRemove(t *testing.T) {
	a := aged{groups: 10}
	for group := range a.groups {
		ttl, err := config.ParseDuration(a.ttl())
		if err != nil {
			t.Fatal(err)
		}
		if a.age(group) <= ttl || (group+1 < a.groups && a.age(group+1) >= ttl) || ttl <= monthly(28)+day {
			t.Errorf("round %d removes what is older than %v", group, ttl)
		}
	}
}

func TestSyncsOfTheIndexAreCountedByThemselves(t *testing.T) {
	const log = `812 fsync(7</data/docker/registry/v2/blobs/sha256/ab/abc/data>) = 0
813 fdatasync(9</data/.metadata/index.db-wal> <unfinished ...>
812 syncfs(8</data>) = 0
813 <... fdatasync resumed>) = 0
8120 +++ exited with 0 +++
812 fsync(9</data/.metadata/index.db>) = 0
812 fsync(9</data/.metadata>) = 0 (DELAYED)
`
	s, complete := parseSyncs(log, 812)
	if s != (syncs{index: 2, others: 3}) || complete {
		t.Errorf("%+v, complete: %t", s, complete)
	}
	if s, complete := parseSyncs(log+"812   +++ killed by SIGTERM +++\n", 812); !complete || s.others != 3 {
		t.Errorf("at the end: %+v, complete: %t", s, complete)
	}
}

func TestTheLargeLayerIsWhatItsDigestSays(t *testing.T) {
	body := largeBody(2*block, 1)
	data := slices.Concat(body.Pieces...)
	if digest.FromBytes(data) != body.Digest || int64(len(data)) != body.Size || body.Size <= 2*block {
		t.Errorf("%d bytes of %d, %s", len(data), body.Size, body.Digest)
	}
	sent, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(slices.Concat(body.Chunks...))))
	if err != nil || !bytes.Equal(sent, data) {
		t.Errorf("in chunks: %d bytes, %v", len(sent), err)
	}
	if other := largeBody(2*block, 2); other.Digest == body.Digest {
		t.Error("two layers are one")
	}
}
