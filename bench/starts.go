package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

var starts = []row{
	{name: "start", what: "start to /readyz with 1,000,000 blobs, after a clean stop", measure: start},
	{name: "index-size", what: "index size", measure: indexSize},
}

// start measures a start and the memory that an idle server has, on an index alone: each round has its own copy, since
// a server that compares it with the disk will find nothing there.
func start(b *bench, r *report.Row) error {
	const who = "dcs serve"
	err := rounds(b, b.programs(), func(round int, p program) error {
		dir, err := b.million(p)
		if err != nil {
			return err
		}
		if b.Against != "" { // it finds all there
			sample, err := startOn(p, string(dir))
			r.Add(p.as(who), "start", sample)
			return err
		}
		own := tree.Dir(fmt.Sprint(b.Dir, "/start-", round))
		if err := copyIndex(dir, own); err != nil {
			return err
		}
		sample, err := startOn(p, string(own))
		r.Add(who, "start", sample)
		return errors.Join(err, os.RemoveAll(string(own)))
	})
	r.AtMost(1, " s", "start to /readyz", r.Of(who).Seconds())
	r.AtMost(80, " MB", "idle memory", r.Of(who).Peak()/1e6)
	return err
}

// idleTime is how long a server may take to come to rest.
const idleTime = time.Minute

// startOn starts a server. The peak of the sample is what it has when it is idle, the CPU what it took to get there.
func startOn(p program, dir string) (sample report.Sample, err error) {
	cmd, _, debug, err := p.command(dir, open)
	if err != nil {
		return sample, err
	}
	began := time.Now()
	s, err := process.Start(cmd)
	if err != nil {
		return sample, err
	}
	defer s.Stop()
	err = s.Await(10*time.Minute, func() error {
		resp, err := http.Get("http://" + debug + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	sample.Count, sample.Seconds = 1, time.Since(began).Seconds()
	if err := errors.Join(err, s.Settle(2*time.Second, idleTime)); err != nil {
		return sample, err
	}
	cpu, err := s.CPU()
	if err != nil {
		return sample, err
	}
	sample.CPU = cpu.Seconds()
	sample.Peak, err = s.RSS()
	return sample, err
}

// copyIndex makes a directory with the same index.
func copyIndex(from, to tree.Dir) error {
	for _, d := range []string{to.Metadata(), to.Native(layout.Blobs)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(from.Index() + "*")
	if err != nil {
		return err
	}
	for _, name := range files {
		if err := copyFile(filepath.Join(to.Metadata(), filepath.Base(name)), name); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func indexSize(b *bench, r *report.Row) error {
	for _, p := range b.programs() {
		dir, err := b.million(p)
		if err != nil {
			return err
		}
		fi, err := os.Stat(dir.Index())
		if err != nil {
			return err
		}
		blobs := b.indexedBlobs()
		if !p.before {
			r.AtMost(400, " bytes", "per blob", float64(fi.Size())/float64(blobs))
		}
		r.Notes = append(r.Notes, p.as(fmt.Sprintf("%.0f MB for %d blobs in images of %d, all tagged",
			float64(fi.Size())/1e6, blobs, shapeOf(blobs).Own())))
	}
	return nil
}
