package registry

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"
)

func TestOrigin(t *testing.T) {
	type header map[string]string
	for _, c := range []struct {
		what   string
		header header
		tls    bool
		want   string
	}{
		{"nobody in between", nil, false, "http://example.com"},
		{"TLS", nil, true, "https://example.com"},
		{"a proxy that ends TLS", header{"X-Forwarded-Proto": "https"}, false, "https://example.com"},
		{"a chain of proxies",
			header{"X-Forwarded-Proto": "HTTPS, http", "X-Forwarded-Host": "a.example:8443, b"},
			false, "https://a.example:8443"},
		{"a scheme that is none", header{"X-Forwarded-Proto": "javascript"}, false, "http://example.com"},
		{"a host that is none", header{"X-Forwarded-Host": `evil"<>`}, false, ""},
		{"a host with a path", header{"X-Forwarded-Host": "a/b"}, false, ""},
		{"RFC 7239",
			header{"Forwarded": `for=1.2.3.4;proto=https;host="a.example", for=5.6.7.8;proto=http`,
				"X-Forwarded-Proto": "http"},
			false, "https://a.example"},
		{"RFC 7239 that says nothing", header{"Forwarded": "for=1.2.3.4"}, false, "http://example.com"},
		{"IPv6", header{"X-Forwarded-Host": "[::1]:5000"}, false, "http://[::1]:5000"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/v2/a/blobs/uploads/", nil)
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if got := origin(r); got != c.want {
				t.Errorf("%q; want %q", got, c.want)
			}
		})
	}
}
