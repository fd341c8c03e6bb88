package serve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/registry"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// front is where requests come in: the HTTP server of the registry and that of debug.address, and what they listen on.
type front struct {
	cfg         *config.Config // of the start: a Reload changes no address
	log         logrus.FieldLogger
	door        *door
	certificate *certificate // nil: plain HTTP
	registry    *http.Server
	debug       *http.Server
	openDebug   bool
	addr        atomic.Pointer[net.Addr] // of the registry's first listener
}

// idleTimeout is longer than the keep-alive of proxies in front, which is often 60 to 120 s.
const idleTimeout = 3 * time.Minute

func newFront(o Options, certificate *certificate, connections int, handler, debug http.Handler) *front {
	f := &front{cfg: o.Config, log: o.Log, door: newDoor(connections), certificate: certificate,
		openDebug: o.Debug && o.Config.Debug.Address != ""}
	f.registry, f.debug = f.server(handler), f.server(debug)
	f.registry.ConnState, f.registry.ConnContext = f.door.state, registry.ConnContext
	return f
}

func (f *front) server(h http.Handler) *http.Server {
	limits := f.cfg.Limits
	return &http.Server{Handler: h, ReadHeaderTimeout: limits.HeaderTimeout, MaxHeaderBytes: int(limits.HeaderSize),
		IdleTimeout: idleTimeout, ErrorLog: log.New(lines{f.log}, "", 0),
		// The end of an HTTP/2 stream waits behind what was sent before, which the client may not be taking.
		HTTP2: &http.HTTP2Config{WriteByteTimeout: limits.StallTimeout}}
}

// lines take what net/http logs, such as failed TLS handshakes: troubles of clients.
type lines struct{ log logrus.FieldLogger }

// Write implements io.Writer.
func (l lines) Write(p []byte) (int, error) {
	l.log.WithField("component", "http").Debug(string(p))
	return len(p), nil
}

// bound is a listener with the server that answers behind it.
type bound struct {
	net.Listener
	server *http.Server
}

// listen opens all addresses that Start serves on, or none.
func (f *front) listen() (all []bound, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
		}
	}()
	if f.openDebug {
		if all, err = f.listenDebug(); err != nil {
			return nil, err
		}
	}
	host, port := f.cfg.Server.Address, strconv.Itoa(f.cfg.Server.Port)
	found, err := listenOn(host, port)
	if err != nil {
		return all, &ListenError{"server.port", net.JoinHostPort(host, port), err}
	}
	if len(all) > 0 {
		f.log.WithField("address", addressesIn(all)).Info("metrics and health")
	}
	addr := found[0].Addr()
	f.addr.Store(&addr)
	var serving []bound
	for _, l := range found {
		serving = append(serving, bound{f.certificate.wrap(listener{l, f.door}, f.registry), f.registry})
	}
	f.log.WithFields(logrus.Fields{"address": addressesIn(serving), "version": buildOf().Version,
		"tls": f.certificate != nil, "directory": f.cfg.Storage.Directory,
		"ttl": config.FormatDuration(f.cfg.Cache.TTL)}).Info("serving")
	return append(all, serving...), nil
}

func (f *front) listenDebug() (all []bound, err error) {
	host, port, err := net.SplitHostPort(f.cfg.Debug.Address)
	var found []net.Listener
	if err == nil {
		found, err = listenOn(host, port)
	}
	if err != nil {
		return nil, &ListenError{"debug.address", f.cfg.Debug.Address, err}
	}
	for _, l := range found {
		all = append(all, bound{l, f.debug})
	}
	return all, nil
}

// addressesIn is how the log names listeners.
func addressesIn(listeners []bound) string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Addr().String())
	}
	return strings.Join(all, " ")
}

func closeAll(all []bound) {
	for _, l := range all {
		_ = l.Close() // nothing was accepted
	}
}

// Addr is where the registry listens, with the port that it got; nil before that. Of several addresses it is
// the first.
func (s *Server) Addr() net.Addr {
	if addr := s.front.addr.Load(); addr != nil {
		return *addr
	}
	return nil
}

// sameTries is how often a free port of one address is looked for that is free at the others too.
const sameTries = 20

// listenOn listens on all addresses of a host, at the same port. It leaves out those that this machine does not have,
// such as ::1 without IPv6; it fails if the machine has none of them.
func listenOn(host, port string) (all []net.Listener, err error) {
	addresses, err := addressesOf(host)
	if err != nil {
		return nil, err
	}
	for range sameTries {
		if all, err = listenOnEach(addresses, port); port != "0" || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return all, err
}

func listenOnEach(addresses []string, port string) (all []net.Listener, err error) {
	var absent error
	for _, address := range addresses {
		l, err := listen(networkOf(address), net.JoinHostPort(address, port))
		switch {
		case err == nil:
			all = append(all, l)
			port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
			absent = err
		default:
			for _, l := range all {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, absent
	}
	return all, nil
}

// networkOf keeps an IPv4 address from meaning more: for 0.0.0.0 Go would listen on IPv6, too.
func networkOf(address string) string {
	if ip := net.ParseIP(address); ip.To4() != nil {
		return "tcp4"
	}
	return "tcp"
}

// addressesOf are the addresses that a host stands for. localhost is both loopback addresses, whatever the machine's
// files say: a client may use either.
func addressesOf(host string) ([]string, error) {
	if strings.EqualFold(host, "localhost") {
		return []string{"127.0.0.1", "::1"}, nil
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return []string{host}, nil
	}
	return net.DefaultResolver.LookupHost(context.Background(), host)
}

// ListenError says that an address cannot be listened on.
type ListenError struct {
	Key, Address string
	Err          error
}

func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Address, e.Err) }

// Unwrap is for errors.As.
func (e *ListenError) Unwrap() error { return e.Err }
