//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// nginxConfig is what has to be around the server of the documentation.
const nginxConfig = `
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  SERVER
}
`

// nginxServer is the server that the documentation shows, with this test's addresses, certificate and way to say
// which host the client asked for.
func nginxServer(t *testing.T, front, back, hostHeader string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "\n```nginx\n")
	block, _, _ = strings.Cut(block, "\n```\n")
	for theirs, ours := range map[string]string{
		"listen 443 ssl;":                   "listen " + front + " ssl;",
		"/etc/ssl/registry.pem":             "cert.pem",
		"/etc/ssl/registry.key":             "key.pem",
		"http://127.0.0.1:5000":             "http://" + back,
		"proxy_set_header Host $http_host;": hostHeader,
	} {
		if strings.Count(block, theirs) != 1 {
			t.Fatalf("the documentation's server does not have %q once:\n%s", theirs, block)
		}
		block = strings.Replace(block, theirs, ours, 1)
	}
	return block
}

// nginx ends TLS, dcs behind it speaks plain HTTP and must still send clients to the right place.
func TestBehindNginx(t *testing.T) {
	for sent, header := range map[string]string{
		"the Host of the client":               "proxy_set_header Host $http_host;",
		"its own Host, and X-Forwarded-Host":   "proxy_set_header X-Forwarded-Host $http_host;",
		"both, as most examples on the web do": "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;",
	} {
		t.Run(sent, func(t *testing.T) {
			_, back := open(t)
			front, client := startNginx(t, back, header)

			resp, err := client.Post("https://"+front+"/v2/app/blobs/uploads/", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			location, err := resp.Location()
			if err != nil || resp.StatusCode != http.StatusAccepted {
				t.Fatalf("POST of an upload: %s, location %v: %v", resp.Status, location, err)
			}
			if location.Scheme != "https" || location.Host != front {
				t.Errorf("the upload is sent to %s, want https://%s", location, front)
			}

			// Layers above 1 MiB, nginx's limit if the server block did not lift it.
			dgst := pushImage(t, front+"/app:v1", newImage(t, 3<<20), remote.WithTransport(client.Transport))
			mustPull(t, front+"/app:v1", dgst, remote.WithTransport(client.Transport))
			mustPull(t, back+"/app:v1", dgst)
		})
	}
}

// TestASlowPullThroughNginxLeavesItsDiskAlone, and the log names the client, not nginx.
func TestASlowPullThroughNginxLeavesItsDiskAlone(t *testing.T) {
	addr, serve := openCommand(t, t.TempDir())
	server := startServer(t, addr, time.Minute, serve)
	dir := t.TempDir()
	front, client := startNginxIn(t, dir, addr, "proxy_set_header Host $http_host;")
	img := newImage(t, 64<<20)
	pushImage(t, front+"/app:v1", img, remote.WithTransport(client.Transport))
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+front+"/v2/app/blobs/"+digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "198.51.100.1, 203.0.113.7") // this test comes from where trusted proxies are
	req.Header.Set("Forwarded", "for=198.51.100.1")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	pulled := func() (line string) {
		for line := range strings.Lines(server.output.String()) {
			if strings.Contains(line, "method=GET") && strings.Contains(line, digest.String()) {
				return line
			}
		}
		return ""
	}
	// A proxy that buffers has all of it in a second, whoever takes it.
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if line := pulled(); line != "" {
			t.Fatalf("nginx took the layer, of which nobody took a byte yet: %s", line)
		}
	}
	if n, err := io.Copy(io.Discard, resp.Body); n < 64<<20 || err != nil {
		t.Errorf("pulled %d bytes: %v", n, err)
	}
	eventually(t, time.Minute, "a line with the client's address", func() error {
		if line := pulled(); !strings.Contains(line, "remote=203.0.113.7 ") {
			return fmt.Errorf("it is %q", line)
		}
		return nil
	})
}

// open starts a dcs without login and returns its data directory and address.
func open(t *testing.T) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	addr, cmd := openCommand(t, dir)
	startServer(t, addr, time.Minute, cmd)
	return dir, addr
}

func openCommand(t *testing.T, dir string) (addr string, serve *exec.Cmd) {
	t.Helper()
	port := freePort(t)
	return "127.0.0.1:" + port, exec.Command(dcsBin, "serve", "--storage.directory", dir, "--auth.enabled=false",
		"--server.address", "127.0.0.1", "--server.port", port)
}

// startNginx returns where nginx listens and a client that trusts its certificate.
func startNginx(t *testing.T, back, hostHeader string) (front string, client *http.Client) {
	t.Helper()
	return startNginxIn(t, t.TempDir(), back, hostHeader)
}

// startNginxIn keeps its temporary files in a directory.
func startNginxIn(t *testing.T, dir, back, hostHeader string) (front string, client *http.Client) {
	t.Helper()
	front = "127.0.0.1:" + freePort(t)
	certificate := selfSigned(t, dir)
	writeFile(t, filepath.Join(dir, "nginx.conf"),
		strings.Replace(nginxConfig, "SERVER", nginxServer(t, front, back, hostHeader), 1))
	start(t, exec.Command("nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr"))

	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	eventually(t, time.Minute, "answer through nginx", func() error {
		resp, err := client.Get("https://" + front + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return front, client
}

// selfSigned writes cert.pem and key.pem for 127.0.0.1.
func selfSigned(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certDER, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: certDER},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		writeFile(t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)))
	}
	certificate, err := x509.ParseCertificate(certDER)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
