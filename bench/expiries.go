package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

var expiries = []row{
	{name: "gc-nothing", what: "dcs gc with nothing to remove, an index of 1,000,000 blobs", measure: gcNothing},
	{name: "gc-remove", what: "dcs gc removing 1,000 blobs of a store", measure: gcRemove},
	{name: "gc-all", what: "dcs gc removing a store of 10,000 blobs beside an idle server", measure: gcAll},
	{name: "gc-busy", what: "pulls at half the capacity while dcs gc removes 10,000 blobs", measure: gcBusy},
}

// gc runs dcs gc, and says what it cost and how many blobs it removed.
func (p program) gc(dir, ttl string) (u process.Usage, removed int, err error) {
	var out bytes.Buffer
	u, err = process.Measure(&out, p.path, gcArgs(dir, ttl)...)
	if err != nil {
		return u, 0, err
	}
	var said struct{ Removed struct{ Blobs int } }
	err = json.Unmarshal(out.Bytes(), &said)
	return u, said.Removed.Blobs, err
}

func gcArgs(dir, ttl string) []string {
	return []string{"gc", "--storage.directory", dir, "--ttl", ttl, "--format", "json"}
}

// million is a program's directory with the index of a million blobs and nothing else. What changes it must use a copy.
// With -against there are files, and fewer of them.
func (b *bench) million(p program) (tree.Dir, error) {
	dir := tree.Dir(p.own(b.Dir + "/index"))
	if _, err := os.Stat(dir.Index()); err == nil {
		return dir, nil
	}
	return dir, b.indexed(p, string(dir), shapeOf(b.indexedBlobs()), monthly)
}

// beside holds a directory as a server does that has nothing to do.
func (b *bench) beside(p program, dir tree.Dir) (release func() error, err error) {
	if b.Against == "" {
		return stores.StandIn(b.ctx, dir)
	}
	s, err := b.serve(p, string(dir), open, "--cache.grace", adoptGrace.String())
	if err != nil {
		return nil, err
	}
	return s.stop, nil
}

func gcNothing(b *bench, r *report.Row) (err error) {
	dirs := map[program]string{}
	for _, p := range b.programs() {
		dir, merr := b.million(p)
		if merr != nil {
			return merr
		}
		release, merr := b.beside(p, dir)
		if merr != nil {
			return merr
		}
		defer func() { err = errors.Join(err, release()) }()
		dirs[p] = string(dir)
	}
	const who = "dcs gc"
	err = rounds(b, b.programs(), func(_ int, p program) error {
		u, removed, err := p.gc(dirs[p], "60d")
		if removed != 0 {
			err = errors.Join(err, fmt.Errorf("%d blobs were removed", removed))
		}
		r.Add(p.as(who), "run", cost(1, u))
		return err
	})
	r.AtMost(0.3, " s", "CPU", r.Of(who).CPU())
	r.AtMost(64, " MB", "memory", r.Of(who).Peak()/1e6)
	r.Notes = append(r.Notes, fmt.Sprintf("an index of %d blobs, held as by a server beside it", b.indexedBlobs()))
	return err
}

// aged is a store in which something is left to be removed in each round: behind the images that stay, groups of images
// of which each was last used some days before the one after it.
type aged struct {
	program
	dir    string
	stay   int // blobs
	remove int // blobs of one group
	groups int
	next   int // group
}

const (
	day      = 24 * time.Hour
	youngest = 100 * day // the age of the last group
	apart    = 10 * day  // between two groups
)

func (b *bench) aged(p program, dir string, stay, remove, groups int) (*aged, error) {
	dir = p.own(dir)
	a := &aged{program: p, dir: dir, stay: stay, remove: remove, groups: groups}
	shape := shapeOf(stay)
	kept := shape.Images
	shape.Images += groups * remove / shape.Own()
	ages := func(i int) time.Duration {
		if i < kept {
			return monthly(i)
		}
		return a.age((i - kept) * shape.Own() / remove)
	}
	return a, b.stored(p, dir, shape, ages)
}

// stored makes a store on disk with an index.
func (b *bench) stored(p program, dir string, shape stores.Shape, age func(image int) time.Duration) error {
	if b.Against != "" {
		return b.adopted(p, dir, shape, age)
	}
	if err := stores.Disk(tree.Dir(dir), shape); err != nil {
		return err
	}
	return stores.Index(b.ctx, tree.Dir(dir), shape, age)
}

// serveAged serves a store of which all that expires is removed by dcs gc.
func (b *bench) serveAged(p program, dir string) (*server, error) {
	flags := []string{open, "--cache.ttl", "0"}
	if b.Against != "" {
		flags = append(flags, "--cache.grace", adoptGrace.String())
	}
	return b.serve(p, dir, flags...)
}

// age is that of a group.
func (a *aged) age(group int) time.Duration {
	return youngest + apart*time.Duration(a.groups-1-group)
}

// ttl is that of which the next group dies.
func (a *aged) ttl() string {
	ttl := a.age(a.next) - apart/2
	a.next++
	return fmt.Sprintf("%.0fh", ttl.Hours())
}

func removeGroup(r *report.Row, a *aged, who string) error {
	u, removed, err := a.gc(a.dir, a.ttl())
	if err == nil && removed != a.remove {
		err = fmt.Errorf("%s removed %d blobs, want %d", a.as(who), removed, a.remove)
	}
	r.Add(a.as(who), "blob", cost(float64(removed), u))
	return err
}

// gcRemove removes the same number of blobs from stores of several sizes, beside a server and without one, and lets the
// stock registry look for what it would remove from them.
func gcRemove(b *bench, r *report.Row) (err error) {
	disk, release, err := b.journaled(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	var beside, alone, offline report.Line
	beside.Name, alone.Name, offline.Name = "dcs gc, beside a server", "dcs gc, no server", "stock garbage-collect -m"
	for _, size := range b.Scale.stores {
		// half of the rounds before the store has its size, half after
		stay := max(size-b.Rounds*b.Scale.remove, b.Scale.remove)
		var all []*aged
		for _, p := range b.programs() {
			a, err := b.aged(p, fmt.Sprint(disk, "/store-", size), stay, b.Scale.remove, 2*b.Rounds)
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		if err := b.gcStores(r, all, size); err != nil {
			return err
		}
		for _, l := range []*report.Line{&beside, &alone, &offline} {
			l.Points = append(l.Points, report.Point{X: float64(size), Y: r.Of(on(l.Name, size)).Seconds()})
		}
		for _, a := range all {
			if err := os.RemoveAll(a.dir); err != nil {
				return err
			}
		}
	}
	small, large := b.Scale.stores[0], b.Scale.stores[len(b.Scale.stores)-1]
	r.AtMost(0.3, " s", fmt.Sprintf("%s: CPU, %d blobs", nothingDue, large), r.Of(on(nothingDue, large)).CPU())
	for _, l := range []report.Line{beside, alone} {
		s := r.Of(on(l.Name, large))
		r.AtMost(1.5, "x", l.Name+fmt.Sprintf(": CPU, %d blobs beside %d", large, small),
			s.CPU()/r.Of(on(l.Name, small)).CPU())
		r.AtMost(1.5, "x", l.Name+fmt.Sprintf(": time, %d blobs beside %d", large, small),
			s.Seconds()/r.Of(on(l.Name, small)).Seconds())
		r.AtLeast(100, "x", l.Name+": as fast as stock's garbage-collect -m",
			r.Of(on(offline.Name, large)).Seconds()/s.Seconds())
	}
	b.chart = &report.Chart{Title: fmt.Sprintf("Time to remove %d blobs", b.Scale.remove), X: "blobs in the store",
		Y:     "seconds",
		Lines: []report.Line{offline, alone, beside}}
	return nil
}

func on(who string, size int) string { return fmt.Sprintf("%s, %d blobs", who, size) }

// gcStores removes groups from the same store of each program.
func (b *bench) gcStores(r *report.Row, all []*aged, size int) error {
	var servers []*server
	for _, a := range all { // a start and a clean stop first, as in the life of any store
		s, err := b.serveAged(a.program, a.dir)
		if err != nil {
			return err
		}
		if err := s.stop(); err != nil {
			return err
		}
		if s, err = b.serveAged(a.program, a.dir); err != nil {
			return err
		}
		servers = append(servers, s)
	}
	remove := func(who string) error {
		return rounds(b, all, func(_ int, a *aged) error { return removeGroup(r, a, on(who, size)) })
	}
	err := remove("dcs gc, beside a server")
	for _, s := range servers {
		err = errors.Join(err, s.stop())
	}
	if err != nil {
		return err
	}
	if err := b.stockGC(r, all[0].dir, on("stock garbage-collect -m", size)); err != nil { // which changes nothing
		return err
	}
	if size == b.Scale.stores[len(b.Scale.stores)-1] {
		if err := b.gcClean(r, all, on(nothingDue, size)); err != nil {
			return err
		}
	}
	return remove("dcs gc, no server")
}

const nothingDue = "dcs gc, no server, nothing due"

// gcClean runs dcs gc on stores of which nothing is old enough, and whose servers have stopped.
func (b *bench) gcClean(r *report.Row, all []*aged, who string) error {
	return rounds(b, all, func(_ int, a *aged) error {
		u, removed, err := a.gc(a.dir, "3650d")
		if err == nil && removed != 0 {
			err = fmt.Errorf("%s removed %d blobs", a.as(who), removed)
		}
		r.Add(a.as(who), "run", cost(1, u))
		return err
	})
}

// longStockGC is from where on one round of stock's garbage collection has to do, since it takes a minute.
const longStockGC = 20 * time.Second

// stockGC measures a dry run, which is the lesser part: nothing is removed.
func (b *bench) stockGC(r *report.Row, dir, who string) error {
	config, err := b.stockConfigFile(dir, "127.0.0.1:0", "")
	if err != nil {
		return err
	}
	if err := os.Setenv("OTEL_TRACES_EXPORTER", "none"); err != nil {
		return err
	}
	for round := 0; round < b.Rounds; round++ {
		u, err := process.Measure(io.Discard, b.Registry, "garbage-collect", "--dry-run", "-m", config)
		if err != nil {
			return err
		}
		r.Add(who, "run", cost(1, u))
		if u.Wall > longStockGC {
			break
		}
	}
	return nil
}
