// Command bench measures dcs beside the stock registry, nginx and a bare Go handler. `make bench` runs it.
//
// Every server is a process of its own, started with an access log switched off and warm caches, and is asked the same
// by the same client. The servers take turns within each round, so that what else the machine does hits all of them;
// every figure is a median over the rounds, and a ratio is one of two medians of the same run. Nothing is asserted: the
// table has marks. docs/performance.md has the figures and what they mean.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// options say what to measure and how long. Their defaults are those of `make bench`.
type options struct {
	Rounds   int
	Rows     *regexp.Regexp // names of rows; nil: all that belong to the table
	Scale    scale
	For      time.Duration // of one server in one round, for rows that are asked as fast as they answer
	Layer    int64         // of the large layer that is pushed, in bytes
	Blob     int64         // of the large blob that is pulled, in bytes
	DCS      string        // programs
	Against  string        // the dcs that rows are compared with; empty: none
	Registry string
	Olareg   string
	Nginx    string
	Dir      string // where stores are made, and removed at the end
	JSON     string // file; empty: none
	Doc      string // directory of performance.md and its chart; empty: none
}

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case process.Verb:
			os.Exit(process.Helper(os.Args[2:]))
		case bareVerb:
			fail(http.ListenAndServe(os.Args[2], bareHandler()))
		case "generate":
			fail(generate(os.Args[2:]))
			return
		case "figures":
			fail(figures(os.Stdout, os.Args[2]))
			return
		}
	}
	o, list, err := parse(os.Args[1:])
	fail(err)
	if list {
		for _, r := range rows {
			fmt.Printf("%-22s %s\n", r.name, r.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP,
		syscall.SIGPIPE) // which a reader sends who has seen enough, as head does
	defer stop()
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, list bool, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.Rounds, "rounds", 5, "`rounds`, of which the medians are taken")
	only := f.String("rows", "", "`regexp` of the rows to run; empty is the whole table")
	size := f.String("scale", "100k", "small, 100k or 1m: the largest store on disk")
	f.DurationVar(&o.For, "for", time.Second, "`duration` of one server in one round")
	f.Int64Var(&o.Layer, "layer", 1<<30, "`bytes` of the large layer that is pushed")
	f.Int64Var(&o.Blob, "blob", 256<<20, "`bytes` of the large blob that is pulled")
	f.StringVar(&o.DCS, "dcs", "bin/dcs", "`program`")
	f.StringVar(&o.Against, "against", "", "`program`: another dcs, which takes turns on its own stores; empty is none")
	f.StringVar(&o.Registry, "registry", "registry", "`program`: the stock registry, v3.1.2")
	f.StringVar(&o.Olareg, "olareg", "olareg", "`program`")
	f.StringVar(&o.Nginx, "nginx", "nginx", "`program`")
	f.StringVar(&o.Dir, "dir", "", "`directory` in which stores are made; empty is TMPDIR")
	f.StringVar(&o.JSON, "json", "", "`file` for all samples")
	f.StringVar(&o.Doc, "doc", "", "`directory` of performance.md, into which the tables and the chart go")
	f.BoolVar(&list, "list", false, "list the rows and run none")
	if err := f.Parse(args); err != nil {
		return o, false, err
	}
	if *only != "" {
		if o.Rows, err = regexp.Compile("^(" + *only + ")$"); err != nil {
			return o, false, err
		}
	}
	if o.Doc != "" && o.Rows != nil {
		return o, false, fmt.Errorf("a document wants the whole table: -doc without -rows")
	}
	if o.Doc != "" && o.Against != "" {
		return o, false, fmt.Errorf("a document is about one dcs: -doc without -against")
	}
	o.Scale, err = scaleOf(*size)
	return o, list, err
}

// generate makes a store, or the index of one, in the directory that the arguments name.
func generate(args []string) error {
	f := flag.NewFlagSet("generate", flag.ContinueOnError)
	blobs := f.Int("blobs", 100_000, "`number` of blobs")
	index := f.Bool("index", false, "only the index that dcs would have of it")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return fmt.Errorf("usage: bench generate [-blobs N] [-index] DIRECTORY")
	}
	dir, err := tree.At(f.Arg(0))
	if err != nil {
		return err
	}
	if *index {
		return stores.Index(context.Background(), dir, shapeOf(*blobs), monthly)
	}
	return stores.Disk(dir, shapeOf(*blobs))
}

// run measures, prints as it goes, and writes down what was asked for.
func run(ctx context.Context, o options) (err error) {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := b.close(); err == nil {
			err = cerr
		}
	}()
	rep := &report.Report{Began: time.Now().UTC(), Machine: b.machine(), Rounds: o.Rounds, Scale: o.Scale.name}
	for _, r := range rows {
		if !o.wants(r) {
			continue
		}
		row, err := b.run(r)
		if err != nil {
			return fmt.Errorf("row %s: %w", r.name, err)
		}
		rep.Rows = append(rep.Rows, row)
		rep.Chart, rep.Took = b.chart, time.Since(rep.Began).Seconds()
		if err := write(o.JSON, rep); err != nil { // what is measured stays, whatever the next row does
			return err
		}
	}
	fmt.Println()
	if err := rep.Measurements(os.Stdout); err != nil {
		return err
	}
	fmt.Println()
	if err := rep.Checks(os.Stdout); err != nil {
		return err
	}
	if err := document(o.Doc, rep); err != nil || o.Against == "" {
		return err
	}
	fmt.Println()
	return rep.Comparison(os.Stdout)
}

func write(path string, rep *report.Report) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(rep, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func document(dir string, rep *report.Report) error {
	if dir == "" {
		return nil
	}
	if rep.Chart != nil {
		f, err := os.Create(filepath.Join(dir, report.ChartFile))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := rep.Chart.SVG(f); err != nil {
			return err
		}
	}
	return rep.Document(filepath.Join(dir, "performance.md"))
}

func (o options) wants(r row) bool {
	if o.Rows == nil {
		return !r.extra
	}
	return o.Rows.MatchString(r.name)
}

// scale says how large stores are. The largest of those on disk has five files and directories for each blob.
type scale struct {
	name   string
	stores []int // blobs on disk; expiry is measured on each
	index  int   // blobs of an index alone
	remove int   // blobs that the expiry removes
	expire int   // blobs that it removes at once, beside a server
	spare  int   // distinct blobs for the first touch
}

func scaleOf(name string) (scale, error) {
	for _, s := range []scale{
		{"small", []int{2500, 5000, 10_000}, 25_000, 200, 1000, 5000},
		{"100k", []int{10_000, 30_000, 100_000}, 1_000_000, 1000, 10_000, 20_000},
		{"1m", []int{10_000, 100_000, 1_000_000}, 1_000_000, 1000, 10_000, 20_000},
	} {
		if s.name == name {
			return s, nil
		}
	}
	return scale{}, fmt.Errorf("no scale %s: small, 100k or 1m", strconv.Quote(name))
}

// shapeOf is a store of so many blobs: images of a manifest, a config and three layers, all tagged.
func shapeOf(blobs int) stores.Shape {
	return stores.Shape{Images: blobs / 5, Repositories: max(1, blobs/250), Layers: 3}
}

// monthly spreads the last uses of images over 29 days.
func monthly(image int) time.Duration {
	return time.Duration(image%29)*day + time.Hour
}
