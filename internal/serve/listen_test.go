package serve

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// listening starts a server on an address and a debug address, both with a port of their own.
func listening(t *testing.T, address, debug string) (main, metrics int) {
	t.Helper()
	main, metrics = freeEverywhere(t), freeEverywhere(t)
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled = t.TempDir(), false
	cfg.Server.Address, cfg.Server.Port = address, main
	if cfg.Debug.Address = ""; debug != "" {
		cfg.Debug.Address = net.JoinHostPort(debug, strconv.Itoa(metrics))
	}
	ready := make(chan bool)
	s, err := New(Options{Config: cfg, Log: quietLog(), Debug: true, OnReady: func() { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Start() }()
	t.Cleanup(func() {
		if err := s.Shutdown(time.Second); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Start = %v", err)
	}
	return main, metrics
}

// freeEverywhere is a port that is free at 127.0.0.1 and at ::1.
func freeEverywhere(t *testing.T) int {
	t.Helper()
	l, err := listenOn("localhost", "0")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range l {
		defer l.Close()
	}
	return l[0].Addr().(*net.TCPAddr).Port
}

func answers(host string, port int, path string) bool {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + net.JoinHostPort(host, strconv.Itoa(port)) + path)
	if err == nil {
		resp.Body.Close()
	}
	return err == nil && resp.StatusCode == http.StatusOK
}

// withIPv6 skips on a machine that has no IPv6 loopback.
func withIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no ::1: %v", err)
	}
	l.Close()
}

// TestAnAddressIsListenedOnAsItSays: clients try localhost as ::1 or as 127.0.0.1, and take no other.
func TestAnAddressIsListenedOnAsItSays(t *testing.T) {
	withIPv6(t)
	for _, c := range []struct {
		address  string
		ip4, ip6 bool
	}{
		{"localhost", true, true},
		{"127.0.0.1", true, false},
		{"::1", false, true},
		{"0.0.0.0", true, false},
		{"::", true, true},
		{"", true, true},
	} {
		t.Run(c.address, func(t *testing.T) {
			main, metrics := listening(t, c.address, c.address)
			if c.address == "" {
				metrics = 0 // no debug address
			}
			for host, want := range map[string]bool{"127.0.0.1": c.ip4, "::1": c.ip6} {
				if got := answers(host, main, "/v2/"); got != want {
					t.Errorf("the registry answers at %s: %t; want %t", host, got, want)
				}
				if got := answers(host, metrics, "/livez"); metrics != 0 && got != want {
					t.Errorf("health answers at %s: %t; want %t", host, got, want)
				}
			}
		})
	}
}

// TestAnyFreePortIsOneForAllAddresses, and Addr tells it.
func TestAnyFreePortIsOneForAllAddresses(t *testing.T) {
	withIPv6(t)
	for range 50 {
		all, err := listenOn("localhost", "0")
		if err != nil {
			t.Fatal(err)
		}
		var ports []string
		for _, l := range all {
			_, port, _ := net.SplitHostPort(l.Addr().String())
			ports = append(ports, port)
			l.Close()
		}
		if len(ports) != 2 || ports[0] != ports[1] {
			t.Fatalf("ports %v; want one, twice", ports)
		}
	}
}

// TestOneOfTwoAddressesInUseIsAnError, and the other one is free again.
func TestOneOfTwoAddressesInUseIsAnError(t *testing.T) {
	withIPv6(t)
	port := freeEverywhere(t)
	taken, err := net.Listen("tcp6", fmt.Sprintf("[::1]:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := listenOn("localhost", strconv.Itoa(port)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen = %v; want that somebody listens there", err)
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Errorf("127.0.0.1 is still taken: %v", err)
	} else {
		l.Close()
	}
}

// TestAnAddressThatIsNotOfThisMachineIsPassedOver where the host has another one.
func TestAnAddressThatIsNotOfThisMachineIsPassedOver(t *testing.T) {
	all, err := listenOnEach([]string{"192.0.2.1", "127.0.0.1"}, "0")
	if err != nil || len(all) != 1 {
		t.Fatalf("listen = %d listeners, %v; want one", len(all), err)
	}
	all[0].Close()
	if _, err := listenOnEach([]string{"192.0.2.1"}, "0"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on nothing but that = %v", err)
	}
}

// TestAServerThatCannotListenDoesNothingElse: it begins no comparison of its index, says nothing of one, and gives
// its directory back.
func TestAServerThatCannotListenDoesNothingElse(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.DefaultConfig()
	cfg.Storage.Directory, cfg.Auth.Enabled = t.TempDir(), false
	cfg.Server.Address, cfg.Server.Port = "127.0.0.1", taken.Addr().(*net.TCPAddr).Port
	cfg.Debug.Address = "127.0.0.1:0"
	opts := Options{Config: cfg, Listen: true, Debug: true,
		OnGate: func(bool) { t.Error("the index is compared with the disk") }}
	log := newJournal(&opts)
	var failed *ListenError
	if _, err := New(opts); !errors.As(err, &failed) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("New = %v; want a ListenError", err)
	}
	if text := log.String(); text != "" {
		t.Errorf("a start that failed says\n%s", text)
	}
	taken.Close()
	opts.OnGate = nil
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(time.Second); err != nil { // before Start
		t.Error(err)
	}
	if err := s.Start(); !errors.Is(err, ErrClosed) {
		t.Errorf("Start after Shutdown = %v", err)
	}
	l, err := net.Listen("tcp4", taken.Addr().String())
	if err != nil {
		t.Fatalf("a server that never started still listens: %v", err)
	}
	l.Close()
}
