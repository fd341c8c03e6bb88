package main

import (
	"time"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

var touches = []row{
	{name: "first-touch-blob", what: "first touch: GET of blobs, each not used within the touch resolution",
		measure: firstTouch(blobs("GET"))},
	{name: "first-touch-manifest", what: "first touch: GET of manifests by tag", measure: firstTouch(byTag("GET"))},
}

// touchGrace gives a resolution of ten seconds: long enough for two passes, short enough to be waited for in every
// round.
const touchGrace = 40 * time.Second

// firstTouch asks for many things, each once, when the last use of each is older than the resolution, so that every use
// has to be written; and then once more, in the same order, while none is. Nothing else differs between the two passes:
// the caches of files and of the index are as warm in both. The server is charged until it is idle again, so that
// writes it put off count. A pass is so short that what it touched first is still fresh at the end of the second.
func firstTouch(of func(stores.Image) []load.Request) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) (err error) {
		shape := stores.Shape{Images: b.Scale.spare / 5, Repositories: 20, Layers: 4, Size: smallBlob}
		var images []stores.Image
		for i := range shape.Images {
			images = append(images, shape.Image(i))
		}
		requests := asking(images, of)
		servers := map[program]*server{}
		for _, p := range b.programs() {
			dir, derr := b.sub(p.own(r.Name))
			if derr != nil {
				return derr
			}
			if err := stores.Disk(tree.Dir(dir), shape); err != nil {
				return err
			}
			s, serr := b.serve(p, dir, open, "--cache.grace", touchGrace.String())
			if serr != nil {
				return serr
			}
			defer s.end(&err)
			if err := load.Verify(s.addr, nil, requests, time.Minute); err != nil {
				return err
			}
			servers[p] = s
		}
		resolution := policy.Resolution(touchGrace)
		const first, warm = "dcs, first touch", "dcs, warm"
		plans := load.Divide(requests, connections)
		err = rounds(b, b.programs(), func(_ int, p program) error {
			s := servers[p]
			time.Sleep(resolution + 100*time.Millisecond)
			done, err := b.pass(r, s, p.as(first), load.Loop{Addr: s.addr, Plans: plans, Once: true,
				For: resolution / 5})
			if err != nil {
				return err
			}
			again := make([][]load.Request, len(plans))
			for i, n := range done {
				again[i] = plans[i][:n]
			}
			_, err = b.pass(r, s, p.as(warm), load.Loop{Addr: s.addr, Plans: again, Once: true})
			return err
		})
		r.AtLeast(0.7, "x", "requests per CPU second when warm", r.Of(first).PerCPU()/r.Of(warm).PerCPU())
		return err
	}
}

// pass returns how many requests each connection made.
func (b *bench) pass(r *report.Row, s *server, who string, loop load.Loop) (done []int, err error) {
	sample, err := charged(s, true, func() (report.Sample, error) {
		got, err := loop.Run()
		done = got.Done
		return sampleOf(got), err
	})
	if err == nil {
		r.Add(who, "request", sample)
	}
	return done, err
}
