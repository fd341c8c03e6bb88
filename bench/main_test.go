package main

import (
	"slices"
	"testing"

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
	if got := chosen("-rows", "gc-.*|inspect"); len(got) != 4 {
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

func TestCallsThatStraceCounted(t *testing.T) {
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.009000          30       300           fsync
 10.00    0.001000          20        50         2 fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    0.010000          28       350         2 total
`
	if n, complete := parseCounts(table); n != 350 || !complete {
		t.Errorf("%d calls, complete: %t", n, complete)
	}
	if _, complete := parseCounts(table[:len(table)-40]); complete {
		t.Error("half a table is complete")
	}
	if n, complete := parseCounts(""); n != 0 || complete {
		t.Error("no table is one")
	}
}

func TestTheLargeLayerIsWhatItsDigestSays(t *testing.T) {
	a, b := newLarge(2*block, 1), newLarge(2*block, 2)
	if a.digest == b.digest || a.blocks != 2 || a.size <= 2*block {
		t.Errorf("%+v\n%+v", a.digest, b.digest)
	}
}
