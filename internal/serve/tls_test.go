package serve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// writeCertificate makes a self-signed certificate for 127.0.0.1 with a serial number.
func writeCertificate(t *testing.T, files config.TLS, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Certificate: {Type: "CERTIFICATE", Bytes: cert},
		files.Key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLSFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	cfg := config.DefaultConfig()
	cfg.Server.TLS = config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cfg.Storage.Directory, cfg.Auth.Enabled, cfg.Server.Address = t.TempDir(), false, "127.0.0.1"
	cfg.Server.Port = 0
	writeCertificate(t, cfg.Server.TLS, 1)
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := New(Options{Config: cfg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Start() }()
	(&world{T: t}).await("the server listens", func() bool { return s.Addr() != nil })
	address := s.Addr().String()
	awaitSerial(t, address, 1)
	writeCertificate(t, cfg.Server.TLS, 2)
	awaitSerial(t, address, 2)
	if err := os.WriteFile(cfg.Server.TLS.Certificate, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // files are looked at once a second
	awaitSerial(t, address, 2)          // what cannot be read is not used
	if err := s.Shutdown(time.Second); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Start = %v after Shutdown", err)
	}
}

// TestTLSSeesAnEditThatKeepsSizeAndTime, once the files are old enough not to be read each time.
func TestTLSSeesAnEditThatKeepsSizeAndTime(t *testing.T) {
	dir := t.TempDir()
	files := config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	edit := func(serial int64) {
		t.Helper()
		writeCertificate(t, files, serial)
		for _, name := range []string{files.Certificate, files.Key} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, bytes.Repeat([]byte{'\n'}, 4096-len(text))...)
			if err := errors.Join(os.WriteFile(name, text, 0o600), os.Chtimes(name, old, old)); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit(1)
	c, err := newCertificate(files, reachFrom(tree.Dir(dir)))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		cert, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf.SerialNumber.Int64()
	}
	settled := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.settled
	}
	for deadline := time.Now().Add(time.Minute); !settled(); time.Sleep(20 * time.Millisecond) {
		if serial() != 1 || time.Now().After(deadline) {
			t.Fatal("the files are read each time, for ever")
		}
	}
	edit(2)
	for deadline := time.Now().Add(time.Minute); serial() != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the certificate before the edit is still in use")
		}
	}
}

// awaitSerial waits until a handshake brings the certificate with the serial number.
func awaitSerial(t *testing.T, address string, serial int64) {
	t.Helper()
	var got any
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true,
			NextProtos: []string{"h2"}}) //nolint:gosec // it is the certificate that is looked at
		if err != nil {
			got = err
			continue
		}
		state := conn.ConnectionState()
		conn.Close()
		got = state.PeerCertificates[0].SerialNumber
		if state.NegotiatedProtocol != "h2" {
			t.Fatalf("negotiated %q; want h2", state.NegotiatedProtocol)
		}
		if state.PeerCertificates[0].SerialNumber.Int64() == serial {
			return
		}
	}
	t.Fatalf("certificate %v; want serial %d", got, serial)
}
