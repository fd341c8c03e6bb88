package serve

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// certificate follows its files. A renewal that cannot be read leaves the old one in use.
type certificate struct {
	files config.TLS

	mu      sync.Mutex // guards the rest; held over the reading of two small files, once a renewal
	current *tls.Certificate
	seen    [2]time.Time // modification times
	checked time.Time
}

// newCertificate returns nil when TLS is off.
func newCertificate(files config.TLS) (*certificate, error) {
	if files.Certificate == "" {
		return nil, nil
	}
	c := &certificate{files: files}
	if err := c.loadLocked(); err != nil {
		return nil, &CertificateError{files, err}
	}
	return c, nil
}

// CertificateError says that the files of server.tls hold no certificate and key that fit.
type CertificateError struct {
	Files config.TLS
	Err   error
}

func (e *CertificateError) Error() string {
	return fmt.Sprintf("server.tls: certificate %s, key %s: %v", e.Files.Certificate, e.Files.Key, e.Err)
}

// Unwrap is for errors.As.
func (e *CertificateError) Unwrap() error { return e.Err }

// Hint says what the operator can do.
func (e *CertificateError) Hint() string {
	return "server.tls.certificate and server.tls.key name PEM files that dcs can read and that belong together"
}

// wrap puts TLS in front of a listener, with HTTP/2.
func (c *certificate) wrap(l net.Listener, srv *http.Server) net.Listener {
	if c == nil {
		return l
	}
	cfg := &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	srv.TLSConfig = cfg
	return tls.NewListener(l, cfg)
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > time.Second && c.changedLocked() {
		_ = c.loadLocked() // half-written as yet: the next handshake tries again
	}
	return c.current, nil
}

func (c *certificate) changedLocked() bool {
	c.checked = time.Now()
	return c.modified() != c.seen
}

func (c *certificate) modified() (at [2]time.Time) {
	for i, name := range []string{c.files.Certificate, c.files.Key} {
		if fi, err := os.Stat(name); err == nil {
			at[i] = fi.ModTime()
		}
	}
	return at
}

func (c *certificate) loadLocked() error {
	at := c.modified()
	cert, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return err
	}
	c.current, c.seen = &cert, at
	return nil
}

// take goes on with a certificate that was read from other files, or from the same once more.
func (c *certificate) take(read *certificate) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files, c.current, c.seen = read.files, read.current, read.seen
}
