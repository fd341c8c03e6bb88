package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/reuse"
)

const (
	// minGrace exists because without any grace no layer of a push would be safe until its manifest comes.
	minGrace = time.Millisecond

	// minCleanupInterval keeps a typing error (1ms for 1m) from making the cleaner spin.
	minCleanupInterval = 100 * time.Millisecond

	// minManifestSize admits every real image: the manifest of 127 layers has about 20 KiB.
	minManifestSize = 64 << 10

	// maxManifestSize is how much distribution reads of a manifest that a client pushes.
	maxManifestSize = 4 << 20

	// minHeaderSize is room for a long login. maxHeaderSize limits a thousand connections to a gigabyte.
	minHeaderSize, maxHeaderSize = 4 << 10, 1 << 20
)

// Validate returns everything that dcs could not honour, as an Errors, or nil. It reads no file. Only the server, which
// has read the htpasswd file, can say whether there is any user.
func (c *Config) Validate() error {
	if found := c.mistakes(); len(found) > 0 {
		return found
	}
	return nil
}

func (c *Config) mistakes() (found Errors) {
	c.Server.check(&found)
	c.Storage.check(&found)
	c.Auth.check(&found)
	c.Cache.check(&found)
	c.Limits.check(&found)
	c.Debug.check(&found)
	c.Log.check(&found)
	return found
}

// unless adds a mistake in the value of a key if a condition does not hold. An empty value stays out of the error.
func (e *Errors) unless(holds bool, key, value, hint, format string, args ...any) {
	if !holds {
		*e = append(*e, &Error{Key: key, Value: value, Problem: fmt.Sprintf(format, args...), hint: hint})
	}
}

// maxDuration is longer than anything lasts, and leaves room for the sums that are made with it.
const maxDuration = 100 * 365 * day

// notNegative adds a mistake if a duration is negative, or so long that sums with it would be wrong.
func (e *Errors) notNegative(key string, d time.Duration, hint string) {
	e.unless(d >= 0, key, FormatDuration(d), hint, "is negative")
	e.unless(d <= maxDuration, key, FormatDuration(d), hint, "is more than 100 years")
}

// notYet adds a mistake if the operator set a key that dcs does not have yet.
func (e *Errors) notYet(isSet bool, key, value, hint string) {
	e.unless(!isSet, key, value, hint, "is not available in this version yet")
}

func (s *Server) check(found *Errors) {
	const certificate, key, both = "server.tls.certificate", "server.tls.key", "give both or none"
	found.unless(isHost(s.Address), "server.address", s.Address,
		"give the port as server.port", "is neither an IP address nor a host name")
	found.unless(isPort(s.Port), "server.port", strconv.Itoa(s.Port),
		"0 takes any free one", "is not a port: those are 0 to 65535")
	found.unless(s.TLS.Certificate == "" || s.TLS.Key != "", certificate, s.TLS.Certificate,
		both, "needs %s beside it", key)
	found.unless(s.TLS.Key == "" || s.TLS.Certificate != "", key, s.TLS.Key,
		both, "needs %s beside it", certificate)
	found.notNegative("server.drain_timeout", s.DrainTimeout, "0 cuts transfers at once")
	for i, proxy := range s.TrustedProxies {
		_, err := parseNetwork(proxy)
		found.unless(err == nil, fmt.Sprintf("server.trusted_proxies[%d]", i), proxy,
			"write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1", "%v", err)
	}
}

// Proxies returns the networks of TrustedProxies, without those that Validate refuses.
func (s *Server) Proxies() (networks []netip.Prefix) {
	for _, proxy := range s.TrustedProxies {
		if network, err := parseNetwork(proxy); err == nil {
			networks = append(networks, network)
		}
	}
	return networks
}

// parseNetwork reads a network, or an address, which is a network of one. An error continues the sentence that the text
// begins.
func parseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return network, errors.New("is neither a network nor an IP address")
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	if network.Addr().Is4In6() {
		return network, errors.New("is an IPv4 network in the form of IPv6")
	}
	return network.Masked(), nil
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return strings.ContainsRune(":/[]", r) || unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

func isPort(n int) bool { return 0 <= n && n <= 65535 }

func (s *Storage) check(found *Errors) {
	found.unless(s.Directory != "", "storage.directory", "",
		"name the directory that dcs keeps everything in", "is empty")
}

func (a *Auth) check(found *Errors) {
	names := map[string]bool{}
	for i, u := range a.Users {
		name, password := fmt.Sprintf("auth.users[%d].username", i), fmt.Sprintf("auth.users[%d].password", i)
		err := credential.CheckName(u.Username)
		found.unless(err == nil, name, u.Username, "choose another name, of letters, digits and the like", "%v", err)
		found.unless(u.Username == "" || !names[u.Username], name, u.Username,
			"remove one of the two", "is listed twice")
		names[u.Username] = true
		err = credential.CheckConfigured(u.Password)
		found.unless(err == nil, password, "", "choose 1 to 72 bytes, or give a bcrypt hash in single quotes; "+
			"where a template is expanded, write $$ for $", "%v", err)
	}
	found.notYet(a.AnonymousPull, "auth.anonymous_pull", "true", "remove it, and log in to pull")
}

func (c *Cache) check(found *Errors) {
	const interval, off = "cache.cleanup_interval", "0 switches the built-in cleaner off"
	found.notNegative("cache.ttl", c.TTL, "use 0 to keep images forever")
	found.notNegative(interval, c.CleanupInterval, off)
	found.unless(c.CleanupInterval <= 0 || c.CleanupInterval >= minCleanupInterval, interval,
		FormatDuration(c.CleanupInterval), off, "is less than %s", FormatDuration(minCleanupInterval))
	found.unless(c.Grace <= maxDuration, "cache.grace", FormatDuration(c.Grace),
		"choose more than the longest push takes; the default is 1h", "is more than 100 years")
	found.unless(c.Grace >= minGrace, "cache.grace", FormatDuration(c.Grace),
		"choose more than the longest push takes; the default is 1h",
		"is less than %s: without a grace a push can lose layers", FormatDuration(minGrace))
	found.unless(c.AdoptAge == "now" || c.AdoptAge == "mtime", "cache.adopt_age", c.AdoptAge,
		"write now or mtime", "is neither now nor mtime")
	if c.WhatIfMemory != 0 {
		found.between("cache.what_if_memory", c.WhatIfMemory, reuse.LeastMemory, reuse.MostMemory)
	}
	found.notNegative("cache.gone_for", c.GoneFor, "use 0 to remember nothing")
	c.MaxSize.check(found, "cache.max_size")
	if c.MinFree != nil {
		c.MinFree.check(found, "cache.min_free")
	}
	for i := range c.Rules {
		c.Rules[i].check(found, rulePath(i))
	}
}

func (l *Limits) check(found *Errors) {
	found.between("limits.manifest_size", l.ManifestSize, minManifestSize, maxManifestSize)
	found.unless(l.UploadsPerClient >= 0, "limits.uploads_per_client", strconv.Itoa(l.UploadsPerClient),
		"0 is no limit", "is negative")
	found.between("limits.header_size", l.HeaderSize, minHeaderSize, maxHeaderSize)
	found.unless(l.HeaderTimeout >= time.Millisecond, "limits.header_timeout", FormatDuration(l.HeaderTimeout),
		"the default is 30s", "is less than 1ms")
	found.notNegative("limits.stall_timeout", l.StallTimeout, "0 is no limit")
}

// between adds a mistake if a size is out of bounds, which are allowed values themselves.
func (e *Errors) between(key string, n, least, most int64) {
	e.unless(least <= n && n <= most, key, FormatSize(n),
		"choose a size between the two", "is not between %s and %s", FormatSize(least), FormatSize(most))
}

func (d *Debug) check(found *Errors) {
	if d.Address == "" {
		return
	}
	const key, hint = "debug.address", "write it like 127.0.0.1:5001, or leave it empty for off"
	host, port, err := net.SplitHostPort(d.Address)
	if err != nil || !isHost(host) {
		found.unless(false, key, d.Address, hint, "is not of the form host:port")
		return
	}
	n, err := strconv.Atoi(port)
	found.unless(err == nil && isPort(n), key, d.Address, hint, "has no port between 0 and 65535")
}

func (l *Log) check(found *Errors) {
	// The words of logrus, which reads them in any case.
	levels := []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}
	found.unless(slices.Contains(levels, strings.ToLower(l.Level)), "log.level", l.Level,
		"choose trace, debug, info, warn or error", "is not a log level")
	found.unless(l.Format == "text" || l.Format == "json", "log.format", l.Format,
		"write text or json", "is neither text nor json")
}
