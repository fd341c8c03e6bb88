package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
)

// row is a line of the table.
type row struct {
	name, what string
	measure    func(*bench, *report.Row) error
	extra      bool // not part of the table: only by name
}

// rows are measured in this order: what only reads first, then what writes.
var rows = slices.Concat(reads, touches, pushes, expiries, starts, listings)

// bench is a run. Servers that only read are started when a row first wants them, and serve all rows.
type bench struct {
	options
	ctx     context.Context
	servers map[string]*server
	images  *library // what the read rows ask for; nil: not made yet
	secure  *certificate
	chart   *report.Chart
}

func newBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp(o.Dir, "bench-")
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	return &bench{options: o, ctx: ctx, servers: map[string]*server{}}, nil
}

func (b *bench) close() error {
	var errs []error
	for _, s := range b.servers {
		errs = append(errs, s.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(b.Dir))...)
}

func (b *bench) run(r row) (*report.Row, error) {
	start := time.Now()
	fmt.Fprintf(os.Stderr, "%s ", r.name)
	row := &report.Row{Name: r.name, What: r.what}
	if err := r.measure(b, row); err != nil {
		fmt.Fprintln(os.Stderr)
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%.0fs\n", time.Since(start).Seconds())
	for _, c := range row.Checks {
		fmt.Fprintf(os.Stderr, "  %s: %.3g%s, %s\n", c.What, float64(c.Value), c.Unit, c.Mark())
	}
	return row, nil
}

// rounds calls f for each of all in each round, in another order each time: the first one has the colder machine.
func rounds[T any](b *bench, all []T, f func(round int, one T) error) error {
	for round := range b.Rounds {
		for i := range all {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			if err := f(round, all[(i+round)%len(all)]); err != nil {
				return err
			}
		}
		fmt.Fprint(os.Stderr, ".")
	}
	return nil
}

// charged runs what is measured, and adds what the server was charged for it. With settle it counts what the server put
// off.
func charged(s *server, settle bool, f func() (report.Sample, error)) (report.Sample, error) {
	s.proc.ResetPeak()
	before, err := s.proc.CPU()
	if err != nil {
		return report.Sample{}, err
	}
	sample, err := f()
	if err != nil {
		return sample, err
	}
	if settle {
		if err := s.proc.Settle(300*time.Millisecond, 10*time.Second); err != nil {
			return sample, err
		}
	}
	after, err := s.proc.CPU()
	if err != nil {
		return sample, err
	}
	sample.CPU = (after - before).Seconds()
	sample.Peak, err = s.proc.Peak()
	return sample, err
}

// sub makes a directory below that of the run.
func (b *bench) sub(name string) (string, error) {
	dir := filepath.Join(b.Dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// machine says what was measured, on what.
func (b *bench) machine() map[string]string {
	first := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			return "not there"
		}
		return line
	}
	m := map[string]string{
		"machine":  fmt.Sprintf("%d cores, %s", runtime.NumCPU(), model()),
		"kernel":   first("uname", "-sr"),
		"dcs":      strings.TrimPrefix(first(b.DCS, "version"), "dcs "),
		"registry": strings.TrimPrefix(first(b.Registry, "--version"), b.Registry+" "),
		"nginx":    strings.TrimPrefix(first(b.Nginx, "-v"), "nginx version: "),
		"client":   runtime.Version(),
	}
	if b.Against != "" {
		m["before"] = strings.TrimPrefix(first(b.Against, "version"), "dcs ")
	}
	return m
}

func model() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}

// cost makes a sample of a program that ran once.
func cost(count float64, u process.Usage) report.Sample {
	return report.Sample{Count: count, Seconds: u.Wall.Seconds(), CPU: u.CPU.Seconds(), Peak: u.Peak}
}
