package load

import (
	"cmp"
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// Loop is what the connections of one measurement do.
type Loop struct {
	Addr string
	TLS  *tls.Config // nil: none
	// Plans are the requests of each connection, in their order.
	Plans [][]Request
	// For is how long the connections go on, from the first to the last of their plan and over again. What is under way
	// at the end is finished, and counted.
	For time.Duration
	// Once ends a connection at the end of its plan, if For is not over before; For may then be 0.
	Once bool
	// Rate is how many requests a second are made, by all connections together. 0: as many as are answered.
	Rate float64
	// Until ends the loop early. Nil: never.
	Until <-chan struct{}
}

// Spread gives each of n connections the same requests, from another one on each. They stay in their order in steps of
// one session.
func Spread(requests []Request, n, session int) [][]Request {
	plans := make([][]Request, n)
	for i := range plans {
		at := i * (len(requests) / session) / n * session
		plans[i] = slices.Concat(requests[at:], requests[:at])
	}
	return plans
}

// Divide gives each of n connections its own part of the requests.
func Divide(requests []Request, n int) [][]Request {
	plans := make([][]Request, n)
	for i := range plans {
		plans[i] = requests[len(requests)*i/n : len(requests)*(i+1)/n]
	}
	return plans
}

// Sample is what a loop did.
type Sample struct {
	Requests int
	Bytes    int64
	Elapsed  time.Duration
	P50, P99 time.Duration
	Done     []int // requests of each connection
}

// worker is what one connection did.
type worker struct {
	took  []time.Duration
	bytes int64
	err   error
}

// Run does it.
func (l Loop) Run() (Sample, error) {
	conns := make([]*Conn, len(l.Plans))
	for i := range conns {
		c, err := Dial(l.Addr, l.TLS)
		if err != nil {
			return Sample{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	workers := make([]worker, len(conns))
	start := time.Now()
	var running sync.WaitGroup
	for i, c := range conns {
		running.Go(func() { workers[i] = l.work(c, l.Plans[i], l.pace(start, i)) })
	}
	running.Wait()
	return sum(workers, time.Since(start))
}

// pace tells when a connection's requests are due. The connections take turns.
func (l Loop) pace(start time.Time, conn int) func(n int) time.Time {
	if l.Rate == 0 {
		return nil
	}
	each := float64(time.Second) / l.Rate
	return func(n int) time.Time {
		return start.Add(time.Duration(each * float64(n*len(l.Plans)+conn)))
	}
}

func (l Loop) work(c *Conn, plan []Request, due func(int) time.Time) (w worker) {
	if len(plan) == 0 {
		return w
	}
	for now, end := time.Now(), time.Now().Add(l.For); !l.over(now, end, len(w.took), len(plan)); {
		r := &plan[len(w.took)%len(plan)]
		if due != nil {
			now = await(due(len(w.took)))
		}
		if w.err = c.Do(r); w.err != nil {
			return w
		}
		answered := time.Now()
		w.took = append(w.took, answered.Sub(now))
		if r.Method != "HEAD" {
			w.bytes += r.Length
		}
		now = answered
	}
	return w
}

func (l Loop) over(now, end time.Time, done, planned int) bool {
	select {
	case <-l.Until:
		return true
	default:
	}
	if l.Once && done == planned {
		return true
	}
	return !(l.Once && l.For == 0) && now.After(end)
}

// await returns when a request counts as made: when it was due, if the answer before it came too late, so that a server
// that stalls is charged for all requests that were due in that time.
func await(due time.Time) time.Time {
	if time.Until(due) <= 0 {
		return due
	}
	time.Sleep(time.Until(due))
	return time.Now() // our own oversleeping is not the server's
}

func sum(workers []worker, elapsed time.Duration) (Sample, error) {
	s := Sample{Elapsed: elapsed}
	var took []time.Duration
	for _, w := range workers {
		if w.err != nil {
			return s, w.err
		}
		took = append(took, w.took...)
		s.Bytes += w.bytes
		s.Done = append(s.Done, len(w.took))
	}
	s.Requests = len(took)
	slices.Sort(took)
	s.P50, s.P99 = Percentile(took, 0.50), Percentile(took, 0.99)
	return s, nil
}

// Percentile is the least of the sorted values that so large a part of them does not exceed; 0 of none.
func Percentile[T cmp.Ordered](sorted []T, p float64) T {
	var none T
	if len(sorted) == 0 {
		return none
	}
	i := int(p*float64(len(sorted))+0.9999999) - 1 // the ceiling
	return sorted[min(max(i, 0), len(sorted)-1)]
}
