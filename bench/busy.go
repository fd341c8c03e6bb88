package main

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/process"
	"github.com/jc-lab/docker-cache-server/bench/report"
)

// busyTime is how long pulls go on without a run of gc, and at most beside one.
const busyTime = 8

// gcBusy pulls whole images at half the rate that the server can stand, with and without a gc beside it. A run that is
// not done when the time is over is interrupted, which leaves everything consistent, and is said.
func gcBusy(b *bench, r *report.Row) (err error) {
	stores, servers := map[program]*aged{}, map[program]*server{}
	for _, p := range b.programs() {
		a, aerr := b.aged(p, "busy", b.Scale.busy/2, b.Scale.busy, b.Rounds)
		if aerr != nil {
			return aerr
		}
		s, serr := a.serve(b)
		if serr != nil {
			return serr
		}
		defer s.end(&err)
		stores[p], servers[p] = a, s
	}
	shape := shapeOf(b.Scale.busy / 2)
	requests := make([]load.Request, 0, 64*9)
	for i := range min(64, shape.Images) {
		for _, req := range wholeImage(shape.Image(i)) {
			requests = append(requests, req.Prepare())
		}
	}
	plans := load.Spread(requests, connections, 9)
	half := load.Loop{Plans: plans, For: busyTime * b.For}
	for i, p := range b.programs() { // all of them are asked as often as the first one can stand
		addr := servers[p].addr
		if err := load.Verify(addr, requests, time.Minute); err != nil {
			return err
		}
		most, err := load.Loop{Addr: addr, Plans: plans, For: 2 * b.For}.Run()
		if err != nil {
			return err
		}
		if i == 0 {
			half.Rate = float64(most.Requests) / most.Elapsed.Seconds() / 2
		}
	}
	const without, with = "pulls", "pulls beside a gc"
	unfinished := 0
	err = rounds(b, b.programs(), func(_ int, p program) error {
		a, s, half := stores[p], servers[p], half
		half.Addr = s.addr
		sample, err := charged(s, false, func() (report.Sample, error) { return timed(half) })
		if err != nil {
			return err
		}
		r.Add(p.as(without), "request", sample)
		gc, err := process.Start(exec.Command(p.path, gcArgs(a.dir, a.ttl())...))
		if err != nil {
			return err
		}
		beside := half
		beside.Until = gc.Ended()
		sample, err = charged(s, false, func() (report.Sample, error) { return timed(beside) })
		r.Add(p.as(with), "request", sample)
		select {
		case <-gc.Ended():
		default:
			unfinished++
			gc.Interrupt()
			<-gc.Ended()
		}
		return errors.Join(err, s.proc.Settle(300*time.Millisecond, 10*time.Second))
	})
	r.Notes = append(r.Notes, fmt.Sprintf(
		"%.0f requests a second of whole images; %d of %d runs of gc were not done after %v",
		half.Rate, unfinished, b.Rounds*len(b.programs()), half.For))
	r.AtMost(1.5, "x", "p99 of pulls without a gc", r.Of(with).P99()/r.Of(without).P99())
	return err
}
