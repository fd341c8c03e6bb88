package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// certificate follows its files. A renewal that cannot be read leaves the old one in use.
type certificate struct {
	files config.TLS
	reach reach

	mu      sync.Mutex // guards the rest; held over the reading of two small files, once a renewal
	current *tls.Certificate
	seen    [2]disk.Version
	settled bool // the files were so old then that seen differs from any later version
	checked time.Time
}

// newCertificate reads the files. It returns nil when TLS is off.
func newCertificate(files config.TLS, reach reach) (*certificate, error) {
	if files.Certificate == "" {
		return nil, nil
	}
	c := &certificate{files: files, reach: reach}
	if err := c.loadLocked(); err != nil {
		return nil, &CertificateError{files, err}
	}
	return c, nil
}

// CertificateError says that the files of server.tls have no certificate and key that belong together.
type CertificateError struct {
	Files config.TLS
	Err   error
}

func (e *CertificateError) Error() string {
	return fmt.Sprintf("server.tls: certificate %s, key %s: %v", e.Files.Certificate, e.Files.Key, e.Err)
}

// Unwrap is for errors.As.
func (e *CertificateError) Unwrap() error { return e.Err }

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
		_ = c.loadLocked() // a file may be half written: the next handshake tries again
	}
	return c.current, nil
}

func (c *certificate) changedLocked() bool {
	c.checked = time.Now()
	if !c.settled {
		return true
	}
	for i, name := range c.names() {
		err := c.reach(name, func() error {
			now, err := disk.VersionOf(name)
			if err == nil && now != c.seen[i] {
				err = errChanged
			}
			return err
		})
		if err != nil {
			return true
		}
	}
	return false
}

var errChanged = errors.New("the file has changed")

func (c *certificate) names() [2]string { return [2]string{c.files.Certificate, c.files.Key} }

func (c *certificate) loadLocked() error {
	var text [2][]byte
	var seen [2]disk.Version
	settled := true
	for i, name := range c.names() {
		err := c.reach(name, func() (err error) {
			text[i], seen[i], err = read(name)
			return err
		})
		if err != nil {
			return err
		}
		settled = settled && seen[i].Settled(c.checked)
	}
	cert, err := tls.X509KeyPair(text[0], text[1])
	if err != nil {
		return err
	}
	c.current, c.seen, c.settled = &cert, seen, settled
	return nil
}

func read(name string) ([]byte, disk.Version, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, disk.Version{}, err
	}
	defer f.Close()
	text, err := f.ReadAll()
	return text, f.Version(), err
}

// take replaces the certificate by one that was read again, perhaps from other files.
func (c *certificate) take(read *certificate) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files, c.current, c.seen, c.settled = read.files, read.current, read.seen, read.settled
}
