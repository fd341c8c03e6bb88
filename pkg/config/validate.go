package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jc-lab/docker-cache-server/internal/credential"
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
func (c *Config) Validate() error { return c.mistakes().orNil() }

func (c *Config) mistakes() (all Errors) {
	for _, of := range [][]error{
		c.Server.mistakes(), c.Storage.mistakes(), c.Auth.mistakes(), c.Cache.mistakes(), c.Limits.mistakes(),
		c.Debug.mistakes(), c.Log.mistakes(),
	} {
		all = append(all, collect(of...)...)
	}
	return all
}

// unless returns err if a condition does not hold.
func unless(so bool, err error) error {
	if so {
		return nil
	}
	return err
}

// refuse is problem with key and value.
func refuse(key, value, hint, format string, args ...any) error {
	return about(problem(hint, format, args...), key, value)
}

func notYet(key, value, hint string) error {
	return refuse(key, value, hint, "is not available in this version yet")
}

func (s *Server) mistakes() []error {
	const certificate, key = "server.tls.certificate", "server.tls.key"
	tls := s.TLS
	mistakes := []error{
		unless(isHost(s.Address), refuse("server.address", s.Address, "give the port as server.port",
			"is neither an IP address nor a host name")),
		unless(isPort(s.Port), refuse("server.port", strconv.Itoa(s.Port), "0 takes any free one",
			"is not a port: those are 0 to 65535")),
		unless(tls.Certificate == "" || tls.Key != "", refuse(certificate, tls.Certificate, "give both or none",
			"needs %s beside it", key)),
		unless(tls.Key == "" || tls.Certificate != "", refuse(key, tls.Key, "give both or none",
			"needs %s beside it", certificate)),
		notNegative("server.drain_timeout", s.DrainTimeout, "0 cuts transfers at once"),
	}
	for i, proxy := range s.TrustedProxies {
		if _, err := parseNetwork(proxy); err != nil {
			mistakes = append(mistakes, about(err, fmt.Sprintf("server.trusted_proxies[%d]", i), proxy))
		}
	}
	return mistakes
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

// parseNetwork reads a network, or an address, which is a network of one.
func parseNetwork(text string) (netip.Prefix, error) {
	const hint = "write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1"
	network, err := netip.ParsePrefix(text)
	if err != nil {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return network, problem(hint, "is neither a network nor an IP address")
		}
		network = netip.PrefixFrom(address, address.BitLen())
	}
	if network.Addr().Is4In6() {
		return network, problem(hint, "is an IPv4 network in the form of IPv6")
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

func notNegative(key string, d time.Duration, hint string) error {
	return unless(d >= 0, refuse(key, FormatDuration(d), hint, "is negative"))
}

func (s *Storage) mistakes() []error {
	return []error{unless(s.Directory != "",
		refuse("storage.directory", "", "name the directory that dcs keeps everything in", "is empty"))}
}

func (a *Auth) mistakes() (all []error) {
	names := map[string]bool{}
	for i, u := range a.Users {
		name, password := fmt.Sprintf("auth.users[%d].username", i), fmt.Sprintf("auth.users[%d].password", i)
		if err := credential.CheckName(u.Username); err != nil {
			all = append(all,
				refuse(name, u.Username, "choose another name, of letters, digits and the like", "%s", err))
		}
		if u.Username != "" && names[u.Username] {
			all = append(all, refuse(name, u.Username, "remove one of the two", "is listed twice"))
		}
		names[u.Username] = true
		if err := credential.CheckConfigured(u.Password); err != nil { // the password itself stays out of the error
			all = append(all, refuse(password, "", "choose 1 to 72 bytes, or give a bcrypt hash in single quotes; "+
				"where a template is expanded, write $$ for $", "%s", err))
		}
	}
	return append(all, unless(!a.AnonymousPull, notYet("auth.anonymous_pull", "true", "remove it, and log in to pull")))
}

func (c *Cache) mistakes() []error {
	const off = "0 switches the built-in cleaner off"
	return []error{
		notNegative("cache.ttl", c.TTL, "use 0 to keep images forever"),
		notNegative("cache.cleanup_interval", c.CleanupInterval, off),
		unless(c.CleanupInterval <= 0 || c.CleanupInterval >= minCleanupInterval,
			refuse("cache.cleanup_interval", FormatDuration(c.CleanupInterval), off, "is less than %s",
				FormatDuration(minCleanupInterval))),
		unless(c.Grace >= minGrace,
			refuse("cache.grace", FormatDuration(c.Grace), "choose more than the longest push takes; the default is 1h",
				"is less than %s: without a grace a push can lose layers", FormatDuration(minGrace))),
		unless(c.AdoptAge == "now" || c.AdoptAge == "mtime",
			refuse("cache.adopt_age", c.AdoptAge, "write now or mtime", "is neither now nor mtime")),
		unless(c.MaxSize == 0, notYet("cache.max_size", FormatSize(c.MaxSize),
			"remove it, and choose a cache.ttl that fits the disk")),
		unless(len(c.Rules) == 0, notYet("cache.rules", "", "remove them: cache.ttl is for all images")),
	}
}

func (l *Limits) mistakes() []error {
	size := func(key string, n, least, most int64) error {
		return unless(least <= n && n <= most,
			refuse(key, FormatSize(n), "choose a size between the two", "is not between %s and %s", FormatSize(least),
				FormatSize(most)))
	}
	return []error{
		size("limits.manifest_size", l.ManifestSize, minManifestSize, maxManifestSize),
		unless(l.UploadsPerClient >= 0,
			refuse("limits.uploads_per_client", strconv.Itoa(l.UploadsPerClient), "0 is no limit", "is negative")),
		size("limits.header_size", l.HeaderSize, minHeaderSize, maxHeaderSize),
		unless(l.HeaderTimeout >= time.Millisecond,
			refuse("limits.header_timeout", FormatDuration(l.HeaderTimeout), "the default is 30s", "is less than 1ms")),
		notNegative("limits.stall_timeout", l.StallTimeout, "0 is no limit"),
	}
}

func (d *Debug) mistakes() []error {
	if d.Address == "" {
		return nil
	}
	const key, hint = "debug.address", "write it like 127.0.0.1:5001, or leave it empty for off"
	host, port, err := net.SplitHostPort(d.Address)
	if err != nil || !isHost(host) {
		return []error{refuse(key, d.Address, hint, "is not of the form host:port")}
	}
	n, err := strconv.Atoi(port)
	return []error{unless(err == nil && isPort(n), refuse(key, d.Address, hint, "has no port between 0 and 65535"))}
}

func (l *Log) mistakes() []error {
	// The words of logrus, which reads them in any case.
	levels := []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}
	return []error{
		unless(slices.Contains(levels, strings.ToLower(l.Level)),
			refuse("log.level", l.Level, "choose trace, debug, info, warn or error", "is not a log level")),
		unless(l.Format == "text" || l.Format == "json",
			refuse("log.format", l.Format, "write text or json", "is neither text nor json")),
	}
}
