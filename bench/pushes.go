package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
)

var pushes = []row{
	{name: "push-small", what: "push of images of 5 layers of 4 KiB, 8 clients", measure: pushSmall},
	{name: "push-slow-1", what: "push of such images where a sync takes 3 ms, 1 client", measure: pushSlow(1, 10)},
	{name: "push-slow-8", what: "push of such images where a sync takes 3 ms, 8 clients", measure: pushSlow(8, 5)},
	{name: "push-syncs", what: "sync calls for such an image, 1 client", measure: pushSyncs},
	{name: "push-large", what: "push of 1 GiB, POST, PATCH in chunks, PUT", measure: pushLarge(load.Chunked)},
	{name: "push-large-length", what: "push of 1 GiB, POST, PATCH with its length, PUT",
		measure: pushLarge(load.Length)},
	{name: "push-large-parts", what: "push of 1 GiB, POST, 16 PATCHes, PUT", measure: pushLarge(load.Parts)},
	{name: "push-large-put", what: "push of 1 GiB, POST, PUT with the bytes", measure: pushLarge(load.Put)},
	{name: "push-large-post", what: "push of 1 GiB, POST with digest and bytes", measure: pushLarge(load.Post)},
}

// pushShape are the images of the pushes; every number is another image.
var pushShape = stores.Shape{Repositories: 1, Layers: 5, Size: smallBlob}

// pushed are the servers of a row. One that is not there is left out, and the row says so.
func (b *bench) pushed(r *report.Row, names ...string) []string {
	if slices.Contains(names, olareg) && !there(r, b.Olareg) {
		names = slices.DeleteFunc(names, func(name string) bool { return name == olareg })
	}
	return b.withBefore(names...)
}

// pusher returns a server with an empty store below a directory, and what ends both. The server runs under a command,
// if one is given.
func (b *bench) pusher(name, dir string, under ...string) (s *server, end func() error, err error) {
	own, err := os.MkdirTemp(dir, "push-")
	if err != nil {
		return nil, nil, err
	}
	cmd, addr, err := b.pushCommand(name, own)
	if err != nil {
		return nil, nil, err
	}
	if len(under) > 0 {
		env := cmd.Env
		cmd = exec.Command(under[0], slices.Concat(under[1:], []string{"--"}, cmd.Args)...)
		cmd.Env = env
	}
	if s, err = started(cmd, addr); err != nil {
		return nil, nil, err
	}
	_, who := b.called(name)
	s.clean = who == dcs
	end = func() error { return errors.Join(s.stop(), os.RemoveAll(own)) }
	if err := s.proc.Settle(300*time.Millisecond, 10*time.Second); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return s, end, nil
}

func (b *bench) pushCommand(name, dir string) (cmd *exec.Cmd, addr string, err error) {
	switch p, who := b.called(name); who {
	case dcs:
		cmd, addr, _, err = p.command(dir, open)
	case stock:
		cmd, addr, err = b.stockCommand(dir, "")
	case olareg:
		cmd, addr, err = b.olaregCommand(dir)
	}
	return cmd, addr, err
}

func pushSmall(b *bench, r *report.Row) error {
	err := b.pushMany(r, 8)
	perSecond, perCPU := r.Of(dcs).PerSecond(), r.Of(dcs).PerCPU()
	r.AtLeast(3, "x", "stock's images per second", perSecond/r.Of(stock).PerSecond())
	r.AtLeast(2.5, "x", "stock's images per CPU second", perCPU/r.Of(stock).PerCPU())
	r.AtLeast(0.5, "x", "the images per second of olareg, which never syncs", perSecond/r.Of(olareg).PerSecond())
	return err
}

// pushSlow measures where syncs are slow. CPU is not held against anything: strace has its part in it.
func pushSlow(clients int, times float64) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) (err error) {
		if there(r, "strace") {
			err = b.pushMany(r, clients, slowSyncs()...)
		}
		perSecond := r.Of(dcs).PerSecond()
		r.AtLeast(times, "x", "stock's images per second", perSecond/r.Of(stock).PerSecond())
		if never := perSecond / r.Of(olareg).PerSecond(); !math.IsNaN(never) {
			r.Notes = append(r.Notes, fmt.Sprintf("%.2fx the images per second of olareg, which never syncs", never))
		}
		return err
	}
}

// pushMany pushes small images into servers by turns.
func (b *bench) pushMany(r *report.Row, clients int, under ...string) (err error) {
	dir, release, err := b.journaled(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	servers := map[string]*server{}
	names := b.pushed(r, dcs, stock, olareg)
	for _, name := range names {
		s, end, perr := b.pusher(name, dir, under...)
		if perr != nil {
			return perr
		}
		defer func() { err = errors.Join(err, end()) }()
		servers[name] = s
	}
	return rounds(b, names, func(round int, name string) error {
		syscall.Sync() // what the other one left to be written is not this one's
		sample, err := charged(servers[name], true, func() (report.Sample, error) {
			return pushFor(servers[name].addr, clients, 3*b.For, round)
		})
		r.Add(name, "image", sample)
		return err
	})
}

// pushFor pushes images with some clients, each into its own repository, until the time is over.
func pushFor(addr string, clients int, d time.Duration, round int) (report.Sample, error) {
	var count atomic.Int64
	errs := make([]error, clients)
	start := time.Now()
	var pushing sync.WaitGroup
	for client := range clients {
		pushing.Go(func() {
			errs[client] = pushImages(addr, client, func(n int) bool { return time.Since(start) < d },
				func(n int) stores.Image {
					count.Add(1)
					return pushShape.Image((round*clients+client)*1_000_000 + n)
				})
		})
	}
	pushing.Wait()
	return report.Sample{Count: float64(count.Load()), Seconds: time.Since(start).Seconds()}, errors.Join(errs...)
}

func pushImages(addr string, client int, more func(n int) bool, image func(n int) stores.Image) error {
	p, err := load.NewPusher(addr, fmt.Sprintf("push/client-%d", client))
	if err != nil {
		return err
	}
	defer p.Close()
	for n := 0; more(n); n++ {
		im := image(n)
		for _, blob := range im.Blobs {
			if err := p.Blob(load.Chunked, load.NewBody(blob.Digest, blob.Data)); err != nil {
				return err
			}
		}
		if err := p.Manifest(im.Tag, v1.MediaTypeImageManifest, im.Manifest.Data); err != nil {
			return err
		}
	}
	return nil
}

// pushLarge pushes a layer in one form into servers whose stores are empty.
func pushLarge(form load.Form) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) (err error) {
		dir, release, err := b.journaled(r)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		var (
			last = -1
			body load.Body
		)
		err = rounds(b, b.withBefore(dcs, stock), func(round int, name string) error {
			if round != last { // the same bytes for all
				last, body = round, largeBody(b.Layer, uint64(round))
			}
			s, end, err := b.pusher(name, dir)
			if err != nil {
				return err
			}
			syscall.Sync()
			sample, err := charged(s, true, func() (report.Sample, error) {
				return pushOne(s.addr, formFor(name, form), body)
			})
			r.Add(name, "layer", sample)
			return errors.Join(err, end())
		})
		if form == load.Post {
			r.Notes = append(r.Notes, "stock takes no bytes with a POST: a PUT with the bytes is measured of it")
		}
		r.AtLeast(1.3, "x", "stock's throughput", r.Of(stock).Seconds()/r.Of(dcs).Seconds())
		r.AtMost(0.75, "x", "stock's CPU per GiB", r.Of(dcs).CPUPerGiB()/r.Of(stock).CPUPerGiB())
		return err
	}
}

// formFor is the form that a server takes.
func formFor(name string, form load.Form) load.Form {
	if name == stock && form == load.Post {
		return load.Put
	}
	return form
}

const block = 4 << 20

// largeBody is too large to be kept: one block of noise over and over, behind a first piece that makes it new.
func largeBody(size int64, seed uint64) load.Body {
	noise := make([]byte, block)
	_, _ = rand.NewChaCha8([32]byte{'p'}).Read(noise) // never fails
	first, chunks := fmt.Appendf(nil, "layer %d\n", seed), load.Chunks(noise)
	body := load.Body{Size: int64(len(first)), Pieces: [][]byte{first}, Chunks: [][]byte{load.Chunks(first)}}
	hash := digest.Canonical.Digester()
	hash.Hash().Write(first)
	for range max(1, int(size/block)) {
		hash.Hash().Write(noise)
		body.Size += block
		body.Pieces, body.Chunks = append(body.Pieces, noise), append(body.Chunks, chunks)
	}
	body.Digest, body.Chunks = hash.Digest(), append(body.Chunks, load.End)
	return body
}

func pushOne(addr string, form load.Form, body load.Body) (report.Sample, error) {
	p, err := load.NewPusher(addr, "push/large")
	if err != nil {
		return report.Sample{}, err
	}
	defer p.Close()
	start := time.Now()
	err = p.Blob(form, body)
	return report.Sample{Count: 1, Bytes: body.Size, Seconds: time.Since(start).Seconds()}, err
}
