package registry

import (
	"net/http"
	"regexp"
	"strings"
)

// origin is the scheme and host by which the client reaches the registry: as the proxies in front say, or else as the
// client asked for it. Scripts use a Location as it is, so it has to be absolute. It is empty, and a Location relative,
// when the request names no valid host.
func origin(hr *http.Request) string {
	scheme, host := "http", hr.Host
	if hr.TLS != nil {
		scheme = "https"
	}
	asked := forwarded(hr.Header)
	switch proto := strings.ToLower(asked["proto"]); proto {
	case "http", "https":
		scheme = proto
	}
	if asked["host"] != "" {
		host = asked["host"]
	}
	if !hostname.MatchString(host) {
		return ""
	}
	return scheme + "://" + host
}

var hostname = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// forwarded reads what the client asked the first proxy for, from the header of RFC 7239 or from the older ones.
func forwarded(h http.Header) map[string]string {
	asked := map[string]string{}
	if first, _, _ := strings.Cut(h.Get("Forwarded"), ","); first != "" {
		for pair := range strings.SplitSeq(first, ";") {
			name, value, _ := strings.Cut(pair, "=")
			asked[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
		}
		return asked
	}
	for name, header := range map[string]string{"proto": "X-Forwarded-Proto", "host": "X-Forwarded-Host"} {
		first, _, _ := strings.Cut(h.Get(header), ",")
		asked[name] = strings.TrimSpace(first)
	}
	return asked
}
