package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// bound is a listener with the server that answers behind it.
type bound struct {
	net.Listener
	server *http.Server
}

// listen takes all addresses that Start serves on, or none.
func (s *Server) listen() (all []bound, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
		}
	}()
	var debug []net.Listener
	if s.opts.Debug && s.cfg.Debug.Address != "" {
		host, port, err := net.SplitHostPort(s.cfg.Debug.Address)
		if err == nil {
			debug, err = listenOn(host, port)
		}
		if err != nil {
			return nil, &ListenError{"debug.address", s.cfg.Debug.Address, err}
		}
		for _, l := range debug {
			all = append(all, bound{l, s.debug})
		}
	}
	host, port := s.cfg.Server.Address, strconv.Itoa(s.cfg.Server.Port)
	found, err := listenOn(host, port)
	if err != nil {
		return all, &ListenError{"server.port", net.JoinHostPort(host, port), err}
	}
	for _, l := range found {
		all = append(all, bound{s.certificate.wrap(listener{l, s.door}, s.main), s.main})
	}
	addr := found[0].Addr()
	s.addr.Store(&addr)
	if len(debug) > 0 {
		s.log.WithField("address", addressesIn(debug)).Info("metrics and health")
	}
	s.log.WithFields(logrus.Fields{"address": addressesIn(found), "version": buildOf().version, "tls": s.certificate != nil, "directory": s.cfg.Storage.Directory,
		"ttl": config.FormatDuration(s.cfg.Cache.TTL)}).Info("serving")
	return all, nil
}

// addressesIn is how the log names them.
func addressesIn(listeners []net.Listener) string {
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
	if addr := s.addr.Load(); addr != nil {
		return *addr
	}
	return nil
}

// sameTries is how often a free port of one address is looked for that is free at the others too.
const sameTries = 20

// listenOn listens on all addresses of a host, at the same port. Those that this machine does not have are
// passed over, such as ::1 without IPv6, but not all of them.
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

// networkOf keeps an IPv4 address from being more: Go listens on IPv6 for 0.0.0.0, too.
func networkOf(address string) string {
	if ip := net.ParseIP(address); ip.To4() != nil {
		return "tcp4"
	}
	return "tcp"
}

// addressesOf are the addresses that a host stands for. That localhost is both loopbacks does not depend on
// the machine's files: clients take either.
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
