//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const nginxConfig = `
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen FRONT ssl;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_max_temp_file_size 0;
    proxy_http_version 1.1;
    location / {
      proxy_pass http://BACK;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Forwarded "";
      HOST
    }
  }
}
`

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

// open starts a dcs without login and returns its data directory and address.
func open(t *testing.T) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	addr, cmd := openCommand(t, dir)
	startServer(t, addr, 10*time.Second, cmd)
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
	dir := t.TempDir()
	front = "127.0.0.1:" + freePort(t)
	certificate := selfSigned(t, dir)
	writeFile(t, filepath.Join(dir, "nginx.conf"),
		strings.NewReplacer("FRONT", front, "BACK", back, "HOST", hostHeader).Replace(nginxConfig))
	start(t, exec.Command("nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr"))

	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	eventually(t, 10*time.Second, "answer through nginx", func() error {
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
