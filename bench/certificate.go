package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/load"
)

// certificate is what servers with TLS have.
type certificate struct {
	cert, key string      // PEM files
	client    *tls.Config // of those who trust it
}

// certificate makes one of P-256, valid for as long as any run takes, when it is first wanted.
func (b *bench) certificate() (*certificate, error) {
	if b.secure != nil {
		return b.secure, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{load.Host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * day)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	c := &certificate{cert: filepath.Join(b.Dir, "cert.pem"), key: filepath.Join(b.Dir, "key.pem")}
	trusted := x509.NewCertPool()
	trusted.AddCert(parsed)
	c.client = &tls.Config{ServerName: load.Host, RootCAs: trusted, MinVersion: tls.VersionTLS13}
	b.secure = c
	return c, errors.Join(writePEM(c.cert, "CERTIFICATE", der), writePEM(c.key, "PRIVATE KEY", secret))
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
