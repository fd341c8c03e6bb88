package registry

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestTheClientIsTheLastHopThatNoTrustedProxyIs(t *testing.T) {
	proxies := Proxies{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"),
	}
	type header [][2]string
	xff := func(values ...string) (h header) {
		for _, v := range values {
			h = append(h, [2]string{"X-Forwarded-For", v})
		}
		return h
	}
	rfc := func(values ...string) (h header) {
		for _, v := range values {
			h = append(h, [2]string{"Forwarded", v})
		}
		return h
	}
	for _, c := range []struct {
		what, peer string
		header     header
		want       string
	}{
		{"nobody in between", "203.0.113.7:1234", nil, "203.0.113.7"},
		{"nobody in between, by IPv6", "[2001:db8::7]:1234", nil, "2001:db8::7"},
		{"an interface's address", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		{"IPv4 on an IPv6 socket", "[::ffff:203.0.113.7]:1", nil, "203.0.113.7"},
		{"a client that names another", "203.0.113.7:1234", xff("198.51.100.1"), "203.0.113.7"},
		{"a trusted proxy", "127.0.0.1:1234", xff("203.0.113.7"), "203.0.113.7"},
		{"a trusted proxy on an IPv6 socket", "[::ffff:127.0.0.1]:1", xff("203.0.113.7"), "203.0.113.7"},
		{"a trusted proxy that says nothing", "127.0.0.1:1234", nil, "127.0.0.1"},
		{"a client that names another, through a proxy",
			"127.0.0.1:1234", xff("198.51.100.1, 203.0.113.7"), "203.0.113.7"},
		{"a client that names a trusted proxy", "127.0.0.1:1234", xff("10.1.1.1, 203.0.113.7"), "203.0.113.7"},
		{"a chain of trusted proxies",
			"127.0.0.1:1234", xff("198.51.100.1, 203.0.113.7, 10.1.1.1,10.1.1.2"), "203.0.113.7"},
		{"a header of several lines", "127.0.0.1:1234", xff("198.51.100.1", "203.0.113.7", "10.1.1.1"), "203.0.113.7"},
		{"a client of the proxies' own network", "127.0.0.1:1234", xff("10.1.1.1"), "10.1.1.1"},
		{"a proxy that says unknown", "127.0.0.1:1234", xff("198.51.100.1, unknown"), "127.0.0.1"},
		{"a proxy that says nothing after a comma", "127.0.0.1:1234", xff("198.51.100.1,"), "127.0.0.1"},
		{"a header of nothing", "127.0.0.1:1234", xff(""), "127.0.0.1"},
		{"garbage", "127.0.0.1:1234", xff("1.2.3.4.5"), "127.0.0.1"},
		{"a line break", "127.0.0.1:1234", xff("1.2.3.4\nroot logged in"), "127.0.0.1"},
		{"a port", "127.0.0.1:1234", xff("203.0.113.7:4711"), "203.0.113.7"},
		{"IPv6", "127.0.0.1:1234", xff("2001:db8::7"), "2001:db8::7"},
		{"IPv6 in brackets", "127.0.0.1:1234", xff("[2001:db8::7]"), "2001:db8::7"},
		{"IPv6 with a port", "127.0.0.1:1234", xff("[2001:db8::7]:80"), "2001:db8::7"},
		{"RFC 7239", "127.0.0.1:1234", rfc("for=203.0.113.7"), "203.0.113.7"},
		{"RFC 7239 with all it can say",
			"127.0.0.1:1234", rfc(`proto=https;For="[2001:db8::7]:80";by=10.1.1.1`), "2001:db8::7"},
		{"RFC 7239 with a chain",
			"127.0.0.1:1234", rfc(`for=198.51.100.1, for=203.0.113.7;host="a,b"`, "for=10.1.1.1"), "203.0.113.7"},
		{"RFC 7239 with a hidden client", "127.0.0.1:1234", rfc("for=198.51.100.1, for=_hidden"), "127.0.0.1"},
		{"RFC 7239 about something else", "127.0.0.1:1234", rfc("for=198.51.100.1, proto=https"), "127.0.0.1"},
		{"RFC 7239 with a quote that the client left open",
			"127.0.0.1:1234", rfc(`for=198.51.100.1;x=", for=203.0.113.7`), "203.0.113.7"},
		{"a client's Forwarded through a proxy that writes X-Forwarded-For", "127.0.0.1:1234",
			append(rfc("for=198.51.100.1"), xff("203.0.113.7")...), "203.0.113.7"},
		{"a Unix socket", "@", xff("203.0.113.7"), "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.RemoteAddr = c.peer
		for _, h := range c.header {
			r.Header.Add(h[0], h[1])
		}
		before := r.Header.Clone()
		if got := proxies.Client(r).String(); got != c.want {
			t.Errorf("%s: %s; want %s", c.what, got, c.want)
		}
		for name, values := range before {
			for i, v := range values {
				if r.Header[name][i] != v {
					t.Errorf("%s: the header was changed to %q", c.what, r.Header[name])
				}
			}
		}
	}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "203.0.113.7")
	if got := (Proxies)(nil).Client(r).String(); got != "127.0.0.1" {
		t.Errorf("where no proxy is trusted: %s", got)
	}
}

// TestManyHopsAreReadOnce: a header may be as long as limits.header_size, and all of it may be the client's.
func TestManyHopsAreReadOnce(t *testing.T) {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	trusted := Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	r.Header.Add("X-Forwarded-For", "203.0.113.7")
	for range 5000 {
		r.Header.Add("X-Forwarded-For", "127.0.0.1, 127.0.0.2")
	}
	if got := trusted.Client(r).String(); got != "203.0.113.7" {
		t.Errorf("the client is %s", got)
	}
	if n := testing.AllocsPerRun(10, func() { trusted.Client(r) }); n > 1 {
		t.Errorf("%v allocations for a client behind 10,000 hops", n)
	}
}
