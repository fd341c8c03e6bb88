package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/serve"
)

// Where a server cannot listen, the hint is about the port, and not about who owns the data directory.
func TestHintsForAPortThatCannotBeHad(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
		err  error
		want string
	}{
		{"a low port", "server.port", syscall.EACCES, "low ports are for root and for who has CAP_NET_BIND_SERVICE; choose another --server.port"},
		{"a low port for metrics", "debug.address", syscall.EACCES, "low ports are for root and for who has CAP_NET_BIND_SERVICE; choose another --debug.address"},
		{"a port in use", "server.port", syscall.EADDRINUSE, "stop what listens there, or choose another --server.port"},
		{"an address of another machine", "server.port", syscall.EADDRNOTAVAIL, "choose another --server.port (or --server.address)"},
	} {
		err := fmt.Errorf("start: %w", &serve.ListenError{Key: tt.key, Address: "127.0.0.1:80", Err: fmt.Errorf("bind: %w", tt.err)})
		if got := hint(err); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if code := exitCode(err); code != exitFailed {
			t.Errorf("%s: exit code %d", tt.name, code)
		}
	}
}
