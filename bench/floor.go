package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// gcAll expires a whole store beside an idle server, and removes a copy of it with rm, which nothing that removes the
// same files can be much faster than.
func gcAll(b *bench, r *report.Row) (err error) {
	disk, release, err := b.journaled(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	const who, rm = "dcs gc, beside a server", "rm -rf"
	shape := shapeOf(b.Scale.expire)
	var names []string
	for _, p := range b.programs() {
		names = append(names, p.as(who))
	}
	err = rounds(b, append(names, rm), func(_ int, name string) error {
		dir, err := os.MkdirTemp(disk, "all-")
		if err != nil {
			return err
		}
		var u process.Usage
		if name == rm {
			u, err = removeTree(dir, shape)
		} else {
			p, _ := b.called(name)
			u, err = b.expireTree(p, dir, shape)
		}
		r.Add(name, "blob", cost(float64(b.Scale.expire), u))
		return errors.Join(err, os.RemoveAll(dir))
	})
	r.AtMost(1.3, "x", "the time of rm -rf of a copy", r.Of(who).Seconds()/r.Of(rm).Seconds())
	r.AtMost(2.5, "x", "the CPU of rm -rf of a copy", r.Of(who).CPU()/r.Of(rm).CPU())
	return err
}

func removeTree(dir string, shape stores.Shape) (process.Usage, error) {
	if err := stores.Disk(tree.Dir(dir), shape); err != nil {
		return process.Usage{}, err
	}
	syscall.Sync() // what is new and what is removed at once may never be written
	return process.Measure(io.Discard, "rm", "-rf", dir)
}

// expireTree also charges what the server did while the gc ran.
func (b *bench) expireTree(p program, dir string, shape stores.Shape) (u process.Usage, err error) {
	old := func(int) time.Duration { return youngest }
	if err := b.stored(p, dir, shape, old); err != nil {
		return u, err
	}
	s, err := b.serveAged(p, dir)
	if err != nil {
		return u, err
	}
	defer s.end(&err)
	syscall.Sync()
	before, err := s.proc.CPU()
	if err != nil {
		return u, err
	}
	u, removed, err := p.gc(dir, "60d")
	if err == nil && removed != b.Scale.expire {
		err = fmt.Errorf("dcs gc removed %d blobs, want %d", removed, b.Scale.expire)
	}
	if err != nil {
		return u, err
	}
	after, err := s.proc.CPU()
	u.CPU += after - before
	return u, err
}
