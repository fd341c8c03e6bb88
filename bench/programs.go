package main

import (
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// program is a dcs that is measured: the one that was built, or the one that it is compared with.
type program struct {
	path   string
	before bool
}

// programs are those that take turns in each round: one, or two with -against.
func (b *bench) programs() []program {
	all := []program{{path: b.DCS}}
	if b.Against != "" {
		all = append(all, program{b.Against, true})
	}
	return all
}

// as is what a series of the program is called.
func (p program) as(who string) string {
	if p.before {
		return report.Before + who
	}
	return who
}

// called returns the program of a series, and what the series would be called without -against.
func (b *bench) called(name string) (p program, who string) {
	if who, before := strings.CutPrefix(name, report.Before); before {
		return program{b.Against, true}, who
	}
	return program{path: b.DCS}, name
}

// withBefore adds the other program to those servers that are dcs.
func (b *bench) withBefore(names ...string) (all []string) {
	for _, name := range names {
		all = append(all, name)
		if b.Against != "" && slices.Contains([]string{dcs, dcsLogin, dcsTLS}, name) {
			all = append(all, report.Before+name)
		}
	}
	return all
}

// own is a program's own directory, where the first one has the given one.
func (p program) own(dir string) string {
	if p.before {
		return dir + "-before"
	}
	return dir
}

// adoptGrace is that of servers on a store that its program adopted. What was adopted counts as used for so long.
const adoptGrace = 4 * time.Second

// adopted makes a store on disk and lets the program make its index, with the dates of the files: two programs may have
// indexes of two versions. It returns when what is old may be removed.
func (b *bench) adopted(p program, dir string, shape stores.Shape, age func(image int) time.Duration) (err error) {
	if err := stores.Aged(tree.Dir(dir), shape, age); err != nil {
		return err
	}
	s, err := b.serve(p, dir, open, "--cache.adopt_age", "mtime", "--cache.grace", adoptGrace.String())
	if err != nil {
		return err
	}
	defer s.end(&err)
	err = s.awaitIndex()
	time.Sleep(adoptGrace * 3 / 2)
	return err
}

// indexed makes a store with an index: an index alone for one program, and one on disk for each of two, which is
// smaller.
func (b *bench) indexed(p program, dir string, shape stores.Shape, age func(image int) time.Duration) error {
	if b.Against == "" {
		return stores.Index(b.ctx, tree.Dir(dir), shape, age)
	}
	return b.adopted(p, dir, shape, age)
}

// indexedBlobs is how many blobs such a store has.
func (b *bench) indexedBlobs() int {
	if b.Against == "" {
		return b.Scale.index
	}
	return b.Scale.stores[len(b.Scale.stores)-1]
}
