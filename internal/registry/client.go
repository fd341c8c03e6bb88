package registry

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks of trusted proxies, which may name the client of a request.
type Proxies []netip.Prefix

func (p Proxies) trust(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// Client is the address of the client: of the peer or, as long as that is a trusted proxy, of the client that the proxy
// names. A client may send such headers itself, so they are read from their end, where the last proxy wrote, up to the
// first address that is not trusted, or that is no address. Invalid when the peer has no address, as on a Unix socket.
func (p Proxies) Client(hr *http.Request) netip.Addr {
	client := parseHop(hr.RemoteAddr)
	chain := hopsOf(hr.Header)
	for p.trust(client) {
		hop, more := chain.last()
		address := parseHop(hop)
		if !more || !address.IsValid() {
			break
		}
		client = address
	}
	return client
}

// hops are the addresses of a chain of proxies, the client first. They are read from the end.
type hops struct {
	lines []string // of the header that are not read yet
	line  string   // what is left of the line that is being read
	begun bool
	read  func(string) string // finds the address in an element
}

// hopsOf reads X-Forwarded-For if there is one: most proxies write it, and pass on a Forwarded that their client sent.
func hopsOf(h http.Header) hops {
	if lines := h["X-Forwarded-For"]; len(lines) > 0 {
		return hops{lines: lines, read: strings.TrimSpace}
	}
	return hops{lines: h["Forwarded"], read: forwardedFor}
}

// last returns the last element that was not read. False: there is none left.
func (h *hops) last() (hop string, ok bool) {
	if !h.begun {
		end := len(h.lines) - 1
		if end < 0 {
			return "", false
		}
		h.lines, h.line, h.begun = h.lines[:end], h.lines[end], true
	}
	comma := lastComma(h.line)
	hop = h.line[comma+1:]
	h.line, h.begun = h.line[:max(comma, 0)], comma >= 0
	return h.read(hop), true
}

// lastComma is where the last element begins. It looks from the end, since a quote that the client left open is in
// front of what the proxies wrote.
func lastComma(line string) int {
	quoted := false
	for i := len(line) - 1; i >= 0; i-- {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ',' && !quoted:
			return i
		}
	}
	return -1
}

// forwardedFor finds the address in an element of Forwarded, such as for="[2001:db8::1]:80";proto=https.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// parseHop reads an address with or without a port; IPv6 with one is in brackets.
func parseHop(hop string) netip.Addr {
	bracketed := strings.HasPrefix(hop, "[")
	if bracketed && strings.HasSuffix(hop, "]") {
		hop, bracketed = hop[1:len(hop)-1], false
	}
	if bracketed || strings.Count(hop, ":") == 1 {
		from, err := netip.ParseAddrPort(hop)
		return known(from.Addr(), err)
	}
	return known(netip.ParseAddr(hop))
}

// known is an address without its zone, or invalid.
func known(a netip.Addr, err error) netip.Addr {
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// NetworkOf is what counts as one client: an IPv4 address, or a /64 of IPv6, within which a site chooses its addresses.
func NetworkOf(client netip.Addr) string {
	if client.Is6() {
		return netip.PrefixFrom(client, 64).Masked().String()
	}
	return client.String()
}
