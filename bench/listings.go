package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// Measurements that the table does not want: by name only.
var listings = []row{
	{name: "inspect", what: "dcs inspect on a million blobs", measure: inspect, extra: true},
	{name: "rebuild", what: "a server makes the index of a store that has none", measure: rebuild, extra: true},
}

// inspect lists the index of images of eleven layers, of which a hundred images share three.
func inspect(b *bench, r *report.Row) error {
	shape := stores.Shape{Repositories: 1000, Layers: 8, Shared: 3, Sharers: 100, Untagged: 2}
	shape.Images = b.indexedBlobs() / shape.Own()
	dirs := map[program]string{}
	for _, p := range b.programs() {
		dirs[p] = p.own(b.Dir + "/inspect")
		if err := b.indexed(p, dirs[p], shape, monthly); err != nil {
			return err
		}
	}
	type listing struct {
		program
		args string
	}
	var all []listing
	for _, args := range []string{
		"--limit 50", "--images --limit 50 --format csv", "--tags --limit 50 --format csv",
		"--format json", "--format csv", "--format table",
		"--images --format json", "--tags --format json", "--histogram",
	} {
		for _, p := range b.programs() {
			all = append(all, listing{p, args})
		}
	}
	first := map[listing][]float64{}
	err := rounds(b, all, func(_ int, l listing) error {
		f, sample, err := l.list(dirs[l.program], strings.Fields(l.args))
		first[l] = append(first[l], f.Seconds())
		r.Add(l.as("inspect "+l.args), "run", sample)
		return err
	})
	for _, l := range all {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: first row after %.2f s", l.as(l.args), report.Median(first[l])))
	}
	return err
}

// list runs dcs inspect, and returns when its first row came.
func (p program) list(dir string, args []string) (first time.Duration, sample report.Sample, err error) {
	out, in := io.Pipe()
	rows := make(chan error, 1)
	began := time.Now()
	go func() {
		rows <- func() error {
			lines := bufio.NewReaderSize(out, 1<<20)
			for range 2 { // the titles, or the summary, and a row
				if _, err := lines.ReadString('\n'); err != nil {
					return err
				}
			}
			first = time.Since(began)
			_, err := io.Copy(io.Discard, lines)
			return err
		}()
	}()
	u, err := process.Measure(in, p.path, append([]string{"inspect", "--storage.directory", dir}, args...)...)
	in.Close()
	if rerr := <-rows; err == nil {
		err = rerr
	}
	return first, cost(1, u), err
}

// rebuild starts a server on a store without an index, and waits until it has one. The server answers all the while.
func rebuild(b *bench, r *report.Row) error {
	size := b.Scale.stores[len(b.Scale.stores)-1]
	dir := tree.Dir(b.Dir + "/rebuild")
	if err := stores.Disk(dir, shapeOf(size)); err != nil {
		return err
	}
	who := on("dcs serve", size)
	return rounds(b, b.programs(), func(_ int, p program) (err error) {
		if err := os.RemoveAll(dir.Metadata()); err != nil {
			return err
		}
		cmd, addr, _, err := p.command(string(dir), open)
		if err != nil {
			return err
		}
		began := time.Now()
		s, err := started(cmd, addr)
		if err != nil {
			return err
		}
		defer s.end(&err)
		if err := s.awaitIndex(); err != nil {
			return err
		}
		sample := report.Sample{Count: float64(size), Seconds: time.Since(began).Seconds()}
		cpu, err := s.proc.CPU()
		if err != nil {
			return err
		}
		sample.CPU = cpu.Seconds()
		sample.Peak, err = s.proc.Peak()
		r.Add(p.as(who), "blob", sample)
		return err
	})
}
