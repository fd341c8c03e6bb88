package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
)

// The servers of the read rows.
const (
	dcs, stock, nginx, handler = "dcs", "stock", "nginx", "bare handler"
	olareg                     = "olareg"
	dcsLogin, stockLogin       = "dcs, Basic auth", "stock, htpasswd"
	dcsTLS, nginxTLS           = "dcs, TLS", "nginx, TLS"
)

// connections are those of rows about small things.
const connections = 16

var reads = []row{
	{name: "get-blob", what: "GET blob 4 KiB, 16 connections", measure: getBlob},
	{name: "head-blob", what: "HEAD blob", measure: against(5, blobs("HEAD"), 1)},
	{name: "get-manifest-tag", what: "GET manifest by tag", measure: against(5, byTag("GET"), 1)},
	{name: "head-manifest-tag", what: "HEAD manifest by tag", measure: against(5, byTag("HEAD"), 1)},
	{name: "get-manifest-digest", what: "GET manifest by digest", measure: against(5, byDigest("GET"), 1)},
	{name: "head-manifest-digest", what: "HEAD manifest by digest", measure: against(5, byDigest("HEAD"), 1)},
	{name: "whole-image", what: "whole image: GET manifest, HEAD and GET of 6 small blobs",
		measure: against(10, wholeImage, 13)},
	{name: "get-blob-large", what: "GET blob 256 MiB, 4 connections", measure: getLarge},
	{name: "get-blob-large-1", what: "GET blob 256 MiB, 1 connection", measure: getLargeOne},
	{name: "get-blob-large-tls", what: "GET blob 256 MiB with TLS, 4 connections", measure: getLargeTLS(4)},
	{name: "get-blob-large-tls-1", what: "GET blob 256 MiB with TLS, 1 connection", measure: getLargeTLS(1)},
	{name: "auth-get-blob", what: "GET blob 4 KiB with Basic auth", measure: withLogin(blobs("GET"), 1)},
	{name: "auth-head-blob", what: "HEAD blob with Basic auth", measure: withLogin(blobs("HEAD"), 1)},
	{name: "auth-get-manifest-tag", what: "GET manifest by tag with Basic auth", measure: withLogin(byTag("GET"), 1)},
	{name: "auth-whole-image", what: "whole image with Basic auth", measure: withLogin(wholeImage, 13)},
}

// reader returns a server of the library, started when it is first wanted.
func (b *bench) reader(name string) (*server, error) {
	if s := b.servers[name]; s != nil {
		return s, nil
	}
	l, err := b.library()
	if err != nil {
		return nil, err
	}
	htpasswd, err := b.htpasswd()
	if err != nil {
		return nil, err
	}
	secure, err := b.certificate()
	if err != nil {
		return nil, err
	}
	var s *server
	p, who := b.called(name)
	switch who {
	case dcs:
		s, err = b.serve(p, p.own(l.dir), open)
	case stock:
		s, err = b.stock(l.dir, "")
	case dcsLogin:
		s, err = b.serve(p, p.own(l.twin(forLogin)), "--auth.htpasswd", htpasswd)
	case dcsTLS:
		s, err = b.serve(p, p.own(l.twin(forTLS)), open, "--server.tls.certificate", secure.cert, "--server.tls.key",
			secure.key)
	case stockLogin:
		s, err = b.stock(l.dir, "auth: {htpasswd: {realm: bench, path: "+htpasswd+"}}\n")
	case nginx:
		s, err = b.nginx(l.dir, nil)
	case nginxTLS:
		s, err = b.nginx(l.dir, secure)
	case handler:
		s, err = bare()
	}
	if err != nil {
		return nil, err
	}
	if who == dcsTLS || who == nginxTLS {
		s.tls = secure.client
	}
	b.servers[name] = s
	return s, nil
}

// reading asks servers for the same, by turns.
type reading struct {
	requests []load.Request
	session  int // requests that stay together
	conns    int
	count    int // requests of each connection; 0: as many as fit into the time
}

// warmTime bounds how long a server is asked before it is measured: with bcrypt, everything would take minutes.
const warmTime = 3 * time.Second

func (b *bench) read(r *report.Row, what reading, servers ...string) error {
	asked := map[string][]load.Request{}
	servers = b.withBefore(servers...)
	isNginx := func(name string) bool { return name == nginx || name == nginxTLS }
	if slices.ContainsFunc(servers, isNginx) && !there(r, b.Nginx) {
		servers = slices.DeleteFunc(servers, isNginx)
	}
	for _, name := range servers {
		s, err := b.reader(name)
		if err != nil {
			return err
		}
		asked[name] = what.requests
		if _, who := b.called(name); who == dcsLogin || who == stockLogin {
			asked[name] = loggedIn(what.requests)
		}
		if name == handler { // which has no content: only its length is looked at
			continue
		}
		if err := load.Verify(s.addr, s.tls, asked[name], warmTime); err != nil {
			return err
		}
	}
	return rounds(b, servers, func(_ int, name string) error {
		s := b.servers[name]
		loop := load.Loop{Addr: s.addr, TLS: s.tls, Plans: load.Spread(asked[name], what.conns, what.session),
			For: b.For}
		if what.count > 0 {
			loop.Once, loop.For = true, 0
			for i, plan := range loop.Plans {
				loop.Plans[i] = repeat(plan, what.count)
			}
		}
		warm := loop
		if warm.For > 0 {
			warm.For = b.For / 5
			if _, err := warm.Run(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		sample, err := charged(s, false, func() (report.Sample, error) { return timed(loop) })
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.Add(name, "request", sample)
		return nil
	})
}

func repeat(plan []load.Request, n int) (all []load.Request) {
	for i := range n {
		all = append(all, plan[i%len(plan)])
	}
	return all
}

// timed runs a loop.
func timed(l load.Loop) (report.Sample, error) {
	s, err := l.Run()
	return sampleOf(s), err
}

func sampleOf(s load.Sample) report.Sample {
	return report.Sample{Count: float64(s.Requests), Bytes: s.Bytes, Seconds: s.Elapsed.Seconds(), P50: s.P50.Seconds(),
		P99: s.P99.Seconds()}
}

func getBlob(b *bench, r *report.Row) error {
	l, err := b.library()
	if err != nil {
		return err
	}
	if err := b.read(r, reading{asking(l.images, blobs("GET")), 1, connections, 0}, dcs, stock, nginx,
		handler); err != nil {
		return err
	}
	perCPU := r.Of(dcs).PerCPU()
	r.AtLeast(15, "x", "stock's requests per CPU second", perCPU/r.Of(stock).PerCPU())
	r.AtMost(2.5, "x", "the bare handler's CPU per request", r.Of(handler).PerCPU()/perCPU)
	return nil
}

// against measures beside the stock registry.
func against(times float64, of func(stores.Image) []load.Request, session int) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) error {
		l, err := b.library()
		if err != nil {
			return err
		}
		if err := b.read(r, reading{asking(l.images, of), session, connections, 0}, dcs, stock); err != nil {
			return err
		}
		r.AtLeast(times, "x", "stock's requests per CPU second", r.Of(dcs).PerCPU()/r.Of(stock).PerCPU())
		return nil
	}
}

func getLarge(b *bench, r *report.Row) error {
	l, err := b.library()
	if err != nil {
		return err
	}
	if err := b.read(r, l.largeOver(4, 16), dcs, stock, nginx); err != nil {
		return err
	}
	r.AtMost(0.4, "x", "stock's CPU per GiB", r.Of(dcs).CPUPerGiB()/r.Of(stock).CPUPerGiB())
	r.AtLeast(2, "x", "stock's throughput", r.Of(dcs).PerSecond()/r.Of(stock).PerSecond())
	asNginx(r)
	return nil
}

func getLargeOne(b *bench, r *report.Row) error {
	l, err := b.library()
	if err != nil {
		return err
	}
	err = b.read(r, l.largeOver(1, 16), dcs, nginx)
	asNginx(r)
	return err
}

// largeOver asks for the large blob so many times, over all connections together.
func (l *library) largeOver(conns, times int) reading {
	return reading{[]load.Request{l.large}, 1, conns, times / conns}
}

func asNginx(r *report.Row) {
	r.AtLeast(1, "x", "nginx's throughput", r.Of(dcs).PerSecond()/r.Of(nginx).PerSecond())
	r.AtMost(1, "x", "nginx's CPU per GiB", r.Of(dcs).CPUPerGiB()/r.Of(nginx).CPUPerGiB())
}

// getLargeTLS measures what encryption costs. The client decrypts, on the same cores: throughput is its own.
func getLargeTLS(conns int) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) error {
		l, err := b.library()
		if err != nil {
			return err
		}
		if err := b.read(r, l.largeOver(conns, 8), dcsTLS, nginxTLS); err != nil {
			return err
		}
		r.AtMost(1.15, "x", "CPU per GiB of nginx with TLS", r.Of(dcsTLS).CPUPerGiB()/r.Of(nginxTLS).CPUPerGiB())
		for _, s := range r.Series {
			cipher, err := b.servers[s.Who].cipher()
			if err != nil {
				return err
			}
			r.Notes = append(r.Notes, s.Who+": "+cipher)
		}
		return nil
	}
}

// cipher is what a server with TLS and our client agree on.
func (s *server) cipher() (string, error) {
	c, err := load.Dial(s.addr, s.tls)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Cipher(), nil
}

// withLogin measures what a password costs.
func withLogin(of func(stores.Image) []load.Request, session int) func(*bench, *report.Row) error {
	return func(b *bench, r *report.Row) error {
		l, err := b.library()
		if err != nil {
			return err
		}
		if err := b.read(r, reading{asking(l.images, of), session, connections, 0}, dcsLogin, dcs,
			stockLogin); err != nil {
			return err
		}
		perCPU := r.Of(dcsLogin).PerCPU()
		r.AtLeast(0.9, "x", "dcs's requests per CPU second without auth", perCPU/r.Of(dcs).PerCPU())
		r.AtLeast(300, "x", "the requests per CPU second of stock with htpasswd", perCPU/r.Of(stockLogin).PerCPU())
		return nil
	}
}
