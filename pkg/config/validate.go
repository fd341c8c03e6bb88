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
)

const (
	// minGrace is there because without any grace no answer of dcs would be worth anything.
	minGrace = time.Millisecond

	// minCleanupInterval keeps a typing error (1ms for 1m) from making the cleaner spin.
	minCleanupInterval = 100 * time.Millisecond

	// minManifestSize lets pass what real images have: of 127 layers a manifest has about 20 KiB.
	minManifestSize = 64 << 10

	// maxManifestSize is what distribution reads of a manifest that is pushed.
	maxManifestSize = 4 << 20

	// minHeaderSize is room for a long login; maxHeaderSize keeps a thousand connections from being a gigabyte.
	minHeaderSize, maxHeaderSize = 4 << 10, 1 << 20

	// maxPassword is what bcrypt reads of a password, in bytes.
	maxPassword = 72

	// bcryptLength is the length of every bcrypt hash, in bytes.
	bcryptLength = 60
)

// Validate returns the first thing that dcs could not honour, as an *Error, or nil. It reads no file: whether there are
// any users at all is for the server to say, which has read the htpasswd file.
func (c *Config) Validate() error {
	for _, validate := range []func() error{
		c.Server.validate, c.Storage.validate, c.Auth.validate, c.Cache.validate, c.Limits.validate, c.Debug.validate, c.Log.validate,
	} {
		if err := validate(); err != nil {
			return err
		}
	}
	return nil
}

// refuse is problem for a key whose value is known.
func refuse(key, value, hint, format string, args ...any) error {
	return about(problem(hint, format, args...), key, value)
}

func notYet(key, value, hint string) error {
	return refuse(key, value, hint, "is not available in this version yet")
}

func (s *Server) validate() error {
	const certificate, key = "server.tls.certificate", "server.tls.key"
	switch {
	case !isHost(s.Address):
		return refuse("server.address", s.Address, "give the port as server.port", "is neither an IP address nor a host name")
	case !isPort(s.Port):
		return refuse("server.port", strconv.Itoa(s.Port), "0 takes any free one", "is not a port: those are 0 to 65535")
	case s.TLS.Certificate != "" && s.TLS.Key == "":
		return refuse(certificate, s.TLS.Certificate, "give both or none", "needs %s beside it", key)
	case s.TLS.Key != "" && s.TLS.Certificate == "":
		return refuse(key, s.TLS.Key, "give both or none", "needs %s beside it", certificate)
	}
	for i, proxy := range s.TrustedProxies {
		if _, err := parseNetwork(proxy); err != nil {
			return about(err, fmt.Sprintf("server.trusted_proxies[%d]", i), proxy)
		}
	}
	return notNegative("server.drain_timeout", s.DrainTimeout, "0 cuts transfers at once")
}

// Proxies are the networks of TrustedProxies. Validate says which are none.
func (s *Server) Proxies() (networks []netip.Prefix) {
	for _, proxy := range s.TrustedProxies {
		if network, err := parseNetwork(proxy); err == nil {
			networks = append(networks, network)
		}
	}
	return networks
}

// parseNetwork reads a network, or the one of an address alone.
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
	if d < 0 {
		return refuse(key, FormatDuration(d), hint, "is negative")
	}
	return nil
}

func (s *Storage) validate() error {
	if s.Directory == "" {
		return refuse("storage.directory", "", "name the directory that dcs keeps everything in", "is empty")
	}
	return nil
}

func (a *Auth) validate() error {
	names := map[string]bool{}
	for i, u := range a.Users {
		key := fmt.Sprintf("auth.users[%d]", i)
		if err := u.validate(key); err != nil {
			return err
		}
		if names[u.Username] {
			return refuse(key+".username", u.Username, "remove one of the two", "is there already")
		}
		names[u.Username] = true
	}
	if a.AnonymousPull {
		return notYet("auth.anonymous_pull", "true", "remove it, and log in to pull")
	}
	return nil
}

// validate never puts the password into an error.
func (u *User) validate(key string) error {
	switch {
	case u.Username == "":
		return refuse(key+".username", "", "give every user a username", "is empty")
	case strings.Contains(u.Username, ":"):
		return refuse(key+".username", u.Username, "Basic authentication ends the name at the colon: choose another", "contains a colon")
	case strings.ContainsFunc(u.Username, unicode.IsControl):
		return refuse(key+".username", u.Username, "choose another", "contains a control character")
	case u.Password == "":
		return refuse(key+".password", "", "give every user a password, or a bcrypt hash of one", "is empty")
	case isBcrypt(u.Password) && len(u.Password) != bcryptLength:
		return refuse(key+".password", "", "put it in single quotes, and write $$ for $ where a template is expanded",
			"looks like a bcrypt hash, but has %d characters and not %d", len(u.Password), bcryptLength)
	case !isBcrypt(u.Password) && len(u.Password) > maxPassword:
		return refuse(key+".password", "", "bcrypt reads no more: choose a shorter one", "is longer than %d bytes", maxPassword)
	}
	return nil
}

func isBcrypt(password string) bool {
	return slices.ContainsFunc([]string{"$2a$", "$2b$", "$2y$"}, func(prefix string) bool {
		return strings.HasPrefix(password, prefix)
	})
}

func (c *Cache) validate() error {
	switch {
	case c.CleanupInterval > 0 && c.CleanupInterval < minCleanupInterval:
		return refuse("cache.cleanup_interval", FormatDuration(c.CleanupInterval), "0 switches the built-in cleaner off",
			"is less than %s", FormatDuration(minCleanupInterval))
	case c.Grace < minGrace:
		return refuse("cache.grace", FormatDuration(c.Grace), "choose more than the longest push takes; the default is 1h",
			"is less than %s: nothing that dcs says to exist could be relied on", FormatDuration(minGrace))
	case c.AdoptAge != "now" && c.AdoptAge != "mtime":
		return refuse("cache.adopt_age", c.AdoptAge, "write now or mtime", "is neither now nor mtime")
	case c.MaxSize != 0:
		return notYet("cache.max_size", strconv.FormatInt(c.MaxSize, 10), "remove it, and choose a cache.ttl that fits the disk")
	case len(c.Rules) > 0:
		return notYet("cache.rules", "", "remove them: cache.ttl is for all images")
	}
	if err := notNegative("cache.ttl", c.TTL, "0 is for ever"); err != nil {
		return err
	}
	return notNegative("cache.cleanup_interval", c.CleanupInterval, "0 switches the built-in cleaner off")
}

func (l *Limits) validate() error {
	size := func(key string, n, least, most int64) error {
		if n < least || n > most {
			return refuse(key, strconv.FormatInt(n, 10), "choose a size between the two", "is not between %d KiB and %d KiB", least>>10, most>>10)
		}
		return nil
	}
	if err := size("limits.manifest_size", l.ManifestSize, minManifestSize, maxManifestSize); err != nil {
		return err
	}
	if err := size("limits.header_size", l.HeaderSize, minHeaderSize, maxHeaderSize); err != nil {
		return err
	}
	switch {
	case l.UploadsPerClient < 0:
		return refuse("limits.uploads_per_client", strconv.Itoa(l.UploadsPerClient), "0 is no limit", "is negative")
	case l.HeaderTimeout < time.Millisecond:
		return refuse("limits.header_timeout", FormatDuration(l.HeaderTimeout), "the default is 30s", "is less than 1ms")
	}
	return notNegative("limits.stall_timeout", l.StallTimeout, "0 is no limit")
}

func (d *Debug) validate() error {
	if d.Address == "" {
		return nil
	}
	const key, hint = "debug.address", "write it like 127.0.0.1:5001, or leave it empty for off"
	host, port, err := net.SplitHostPort(d.Address)
	if err != nil || !isHost(host) {
		return refuse(key, d.Address, hint, "is not of the form host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || !isPort(n) {
		return refuse(key, d.Address, hint, "has no port between 0 and 65535")
	}
	return nil
}

func (l *Log) validate() error {
	// The words of logrus, which reads them in any case.
	levels := []string{"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"}
	switch {
	case !slices.Contains(levels, strings.ToLower(l.Level)):
		return refuse("log.level", l.Level, "choose trace, debug, info, warn or error", "is not a log level")
	case l.Format != "text" && l.Format != "json":
		return refuse("log.format", l.Format, "write text or json", "is neither text nor json")
	}
	return nil
}
