package registry

import (
	"net/http"
	"regexp"
	"strings"
)

// origin is where the client believes the registry to be: what the proxies in front say, and what a client
// without any asked for. Scripts take a Location as it is, so it has to be absolute. Empty, and so relative,
// when what is said is no host.
func origin(hr *http.Request) string {
	scheme, host := "http", hr.Host
	if hr.TLS != nil {
		scheme = "https"
	}
	said := forwarded(hr.Header)
	switch proto := strings.ToLower(said["proto"]); proto {
	case "http", "https":
		scheme = proto
	}
	if said["host"] != "" {
		host = said["host"]
	}
	if !hostname.MatchString(host) {
		return ""
	}
	return scheme + "://" + host
}

var hostname = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// forwarded reads what the first of a chain of proxies was asked for, by RFC 7239 or by the older headers.
func forwarded(h http.Header) map[string]string {
	said := map[string]string{}
	if first, _, _ := strings.Cut(h.Get("Forwarded"), ","); first != "" {
		for pair := range strings.SplitSeq(first, ";") {
			name, value, _ := strings.Cut(pair, "=")
			said[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
		}
		return said
	}
	for name, header := range map[string]string{"proto": "X-Forwarded-Proto", "host": "X-Forwarded-Host"} {
		first, _, _ := strings.Cut(h.Get(header), ",")
		said[name] = strings.TrimSpace(first)
	}
	return said
}
