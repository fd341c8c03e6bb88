package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
	{name: "push-fsync", what: "fsyncs of a push", measure: pushFsync},
	{name: "push-large", what: "push of one layer of 1 GiB", measure: pushLarge},
}

// pushed are the images of the pushes; every number is another image.
var pushed = stores.Shape{Repositories: 1, Layers: 5, Size: smallBlob}

const pushClients = 8

// pusher returns a server with an empty store, and what ends both.
func (b *bench) pusher(name string) (s *server, end func() error, err error) {
	dir, err := os.MkdirTemp(b.Dir, "push-")
	if err != nil {
		return nil, nil, err
	}
	if p, who := b.called(name); who == dcs {
		s, err = b.serve(p, dir, open)
	} else {
		s, err = b.stock(dir, "")
	}
	return s, func() error { return errors.Join(s.stop(), os.RemoveAll(dir)) }, err
}

func pushSmall(b *bench, r *report.Row) (err error) {
	servers := map[string]*server{}
	names := b.withBefore(dcs, stock)
	for _, name := range names {
		s, end, perr := b.pusher(name)
		if perr != nil {
			return perr
		}
		defer func() { err = errors.Join(err, end()) }()
		servers[name] = s
	}
	err = rounds(b, names, func(round int, name string) error {
		syscall.Sync() // what the other one left to be written is not this one's
		sample, err := charged(servers[name], true, func() (report.Sample, error) {
			return pushFor(servers[name].addr, 3*b.For, round)
		})
		r.Add(name, "image", sample)
		return err
	})
	r.AtLeast(2, "x", "stock's images per second", r.Of(dcs).PerSecond()/r.Of(stock).PerSecond())
	r.AtLeast(2, "x", "stock's images per CPU second", r.Of(dcs).PerCPU()/r.Of(stock).PerCPU())
	return err
}

// pushFor pushes images with all clients, each into its own repository, until the time is over.
func pushFor(addr string, d time.Duration, round int) (report.Sample, error) {
	var count atomic.Int64
	errs := make([]error, pushClients)
	start := time.Now()
	var pushing sync.WaitGroup
	for client := range pushClients {
		pushing.Go(func() {
			errs[client] = pushImages(addr, client, func(n int) bool { return time.Since(start) < d },
				func(n int) stores.Image {
					count.Add(1)
					return pushed.Image((round*pushClients+client)*1_000_000 + n)
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
			if err := pushBlob(p, blob); err != nil {
				return err
			}
		}
		if err := p.Manifest(im.Tag, v1.MediaTypeImageManifest, im.Manifest.Data); err != nil {
			return err
		}
	}
	return nil
}

func pushBlob(p *load.Pusher, b stores.Blob) error {
	wire := append(load.Chunks(b.Data), load.End...)
	return p.Blob(b.Digest, func(write func([]byte) error) error { return write(wire) })
}

func pushLarge(b *bench, r *report.Row) error {
	var (
		round   = -1
		content *large
	)
	err := rounds(b, b.withBefore(dcs, stock), func(now int, name string) error {
		if now != round { // the same bytes for all
			round, content = now, newLarge(b.Layer, uint64(now))
		}
		s, end, err := b.pusher(name)
		if err != nil {
			return err
		}
		syscall.Sync()
		sample, err := charged(s, true, func() (report.Sample, error) { return content.push(s.addr) })
		r.Add(name, "layer", sample)
		return errors.Join(err, end())
	})
	r.AtLeast(1.2, "x", "stock's throughput", r.Of(stock).Seconds()/r.Of(dcs).Seconds())
	r.AtMost(0.8, "x", "stock's CPU per GiB", r.Of(dcs).CPUPerGiB()/r.Of(stock).CPUPerGiB())
	return err
}

// large is a layer that is too large to be kept: one block of noise over and over, behind a first one that makes it
// new.
type large struct {
	size         int64
	first, block []byte // chunks, ready for the wire
	blocks       int
	digest       digest.Digest
}

const block = 4 << 20

func newLarge(size int64, seed uint64) *large {
	noise := make([]byte, block)
	_, _ = rand.NewChaCha8([32]byte{'p'}).Read(noise) // never fails
	first := fmt.Appendf(nil, "layer %d\n", seed)
	l := &large{first: load.Chunks(first), block: load.Chunks(noise), blocks: max(1, int(size/block))}
	l.size = int64(len(first) + l.blocks*len(noise))
	hash := digest.Canonical.Digester()
	hash.Hash().Write(first)
	for range l.blocks {
		hash.Hash().Write(noise)
	}
	l.digest = hash.Digest()
	return l
}

func (l *large) push(addr string) (report.Sample, error) {
	p, err := load.NewPusher(addr, "push/large")
	if err != nil {
		return report.Sample{}, err
	}
	defer p.Close()
	start := time.Now()
	err = p.Blob(l.digest, func(write func([]byte) error) error {
		if err := write(l.first); err != nil {
			return err
		}
		for range l.blocks {
			if err := write(l.block); err != nil {
				return err
			}
		}
		return write(load.End)
	})
	return report.Sample{Count: 1, Bytes: l.size, Seconds: time.Since(start).Seconds()}, err
}
