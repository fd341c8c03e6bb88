package registry

import (
	"net/http"
	"testing"
)

func TestWhatCountsAsOneClient(t *testing.T) {
	for _, c := range []struct {
		what, one, other string
		same             bool
	}{
		{"two ports of an address", "192.0.2.1:1000", "192.0.2.1:2000", true},
		{"two addresses", "192.0.2.1:1000", "192.0.2.2:1000", false},
		{"an address, and the same as IPv6 has it", "192.0.2.1:1000", "[::ffff:192.0.2.1]:1000", true},
		{"two addresses as IPv6 has them", "[::ffff:192.0.2.1]:1000", "[::ffff:192.0.2.2]:1000", false},
		{"two addresses of one /64", "[2001:db8:1:2::1]:1000", "[2001:db8:1:2:ffff:ffff:ffff:ffff]:1000", true},
		{"two /64s", "[2001:db8:1:2::1]:1000", "[2001:db8:1:3::1]:1000", false},
		{"an address on two interfaces", "[fe80::1%eth0]:1000", "[fe80::1%eth1]:1000", true},
	} {
		one := NetworkOf(Proxies(nil).Client(&http.Request{RemoteAddr: c.one}))
		other := NetworkOf(Proxies(nil).Client(&http.Request{RemoteAddr: c.other}))
		if (one == other) != c.same {
			t.Errorf("%s: %s and %s", c.what, one, other)
		}
	}
}
