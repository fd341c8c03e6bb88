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
	shape.Images = b.Scale.index / shape.Own()
	dir := tree.Dir(b.Dir + "/inspect")
	if err := stores.Index(b.ctx, dir, shape, monthly); err != nil {
		return err
	}
	listings := []string{
		"--limit 50", "--images --limit 50 --format csv", "--tags --limit 50 --format csv",
		"--format json", "--format csv", "--format table", "--images --format json", "--tags --format json", "--histogram",
	}
	first := map[string][]float64{}
	err := b.rounds(listings, func(_ int, args string) error {
		f, sample, err := b.list(string(dir), strings.Fields(args))
		first[args] = append(first[args], f.Seconds())
		r.Add("inspect "+args, "run", sample)
		return err
	})
	for _, args := range listings {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: first row after %.2f s", args, report.Median(first[args])))
	}
	return err
}

// list runs dcs inspect, and returns when its first row came.
func (b *bench) list(dir string, args []string) (first time.Duration, sample report.Sample, err error) {
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
	u, err := process.Measure(in, b.DCS, append([]string{"inspect", "--storage.directory", dir}, args...)...)
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
	return b.rounds([]string{who}, func(int, string) (err error) {
		if err := os.RemoveAll(dir.Metadata()); err != nil {
			return err
		}
		cmd, addr, _, err := b.dcsCommand(string(dir), open)
		if err != nil {
			return err
		}
		began := time.Now()
		s, err := started(cmd, addr)
		if err != nil {
			return err
		}
		defer s.end(&err)
		err = s.proc.Await(time.Hour, func() error {
			if !strings.Contains(s.proc.Output(), "index matches the disk") {
				return fmt.Errorf("no index yet")
			}
			return nil
		})
		if err != nil {
			return err
		}
		sample := report.Sample{Count: float64(size), Seconds: time.Since(began).Seconds()}
		cpu, err := s.proc.CPU()
		if err != nil {
			return err
		}
		sample.CPU = cpu.Seconds()
		sample.Peak, err = s.proc.Peak()
		r.Add(who, "blob", sample)
		return err
	})
}
