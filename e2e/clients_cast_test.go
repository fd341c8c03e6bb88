//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where registries with TLS are, in the namespaces of the tests. Clients are told to trust the CA for stageHost only:
// a daemon that reads its configuration once still refuses strangerHost, which is the same.
const (
	stageIP      = "10.99.0.1"
	stageHost    = "registry.test"
	strangerHost = "stranger.test"
)

// cast is what the scenarios share: the daemons behind the clients, and a CA with a certificate for all registries.
type cast struct {
	docker               *docker
	hello                string // a static program
	ca, certificate, key string // files
	played               *played
}

// newCast prepares /etc for registries with a name and certificates of their own, and starts the daemons.
func newCast(t *testing.T) *cast {
	t.Helper()
	ownEtc(t)
	c := &cast{hello: filepath.Join(t.TempDir(), "hello"), played: &played{texts: map[string]bool{}}}
	c.certify(t, tempDir(t))
	compile := exec.Command("go", "build", "-ldflags", "-s -w -X main.name=clients", "-o", c.hello, "./testdata/hello")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	run(t, compile)
	c.docker = startDocker(t)
	startContainerd(t)
	return c
}

// ownEtc gives the tests an /etc that they may write to, and a name for an address outside of 127.0.0.0/8.
func ownEtc(t *testing.T) {
	t.Helper()
	const scratch = "/run/clients-etc" // a tmpfs of the sandbox: any overlay can be on top of it
	for _, dir := range []string{scratch + "/upper", scratch + "/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := unix.Mount("overlay", "/etc", "overlay", 0,
		"lowerdir=/etc,upperdir="+scratch+"/upper,workdir="+scratch+"/work")
	if err != nil {
		t.Fatalf("an /etc of the tests' own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	writeFile(t, "/etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %s %s\n", stageIP, stageHost, strangerHost))
	run(t, exec.Command("ip", "addr", "add", stageIP+"/32", "dev", "lo"))
	t.Cleanup(func() { run(t, exec.Command("ip", "addr", "del", stageIP+"/32", "dev", "lo")) })
}

// certify makes a private CA and a certificate by it.
func (c *cast) certify(t *testing.T, dir string) {
	t.Helper()
	caKey, key := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private CA"},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: stageHost},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{stageHost, strangerHost}, IPAddresses: []net.IP{net.ParseIP(stageIP)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	save := func(name, kind string, der []byte) string {
		return writeFile(t, filepath.Join(dir, name), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	c.ca = save("ca.crt", "CERTIFICATE", sign(t, ca, ca, &caKey.PublicKey, caKey))
	c.certificate = save("registry.crt", "CERTIFICATE", sign(t, leaf, ca, &key.PublicKey, caKey))
	c.key = save("registry.key", "EC PRIVATE KEY", keyDER)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, certificate, by *x509.Certificate, of *ecdsa.PublicKey, with *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, by, of, with)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// startContainerd starts containerd where ctr looks for it, in the /run of the tests.
func startContainerd(t *testing.T) {
	t.Helper()
	dir := tempDir(t)
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/containerd/containerd.sock"
[ttrpc]
  address = "/run/containerd/containerd.sock.ttrpc"
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"))
	daemon := start(t, exec.Command("containerd", "-c", writeFile(t, filepath.Join(dir, "config.toml"), config)))
	ready(t, daemon, exec.Command("ctr", "version"))
}

// ready waits until a daemon answers its client.
func ready(t *testing.T, daemon *process, question *exec.Cmd) {
	t.Helper()
	eventually(t, time.Minute, "answer of "+daemon.cmd.Path, func() error {
		select {
		case <-daemon.done:
			t.Fatalf("%v does not start here: %v\n%s", daemon.cmd, daemon.cmd.ProcessState, daemon.output.String())
		default:
		}
		ask := *question // a command runs but once
		out, err := ask.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// played is what the scenarios typed and configured, for the test of docs/clients.md.
type played struct {
	mu    sync.Mutex // guards texts
	texts map[string]bool
}

func (p *played) add(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts[unfolded(text)] = true
}

func (p *played) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.texts[unfolded(text)]
}

// unfolded is a command line without what only makes it fit on a page.
func unfolded(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\\\n", " ")), " ")
}
