package load

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Verify asks everything once with an ordinary client, and looks at the digest of every body and at what the header
// says about it. It warms the server's caches, too. It stops after a time, for servers whose logins take long. Without
// a configuration it speaks no TLS.
func Verify(addr string, secure *tls.Config, requests []Request, atMost time.Duration) error {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, TLSClientConfig: secure}}
	scheme := "http://"
	if secure != nil {
		scheme = "https://"
	}
	defer client.CloseIdleConnections()
	for end := time.Now().Add(atMost); len(requests) > 0 && time.Now().Before(end); requests = requests[1:] {
		if err := verify(client, scheme+addr, requests[0]); err != nil {
			return fmt.Errorf("%s %s of %s: %w", requests[0].Method, requests[0].Path, addr, err)
		}
	}
	return nil
}

func verify(client *http.Client, base string, r Request) error {
	req, err := http.NewRequest(r.Method, base+r.Path, nil)
	if err != nil {
		return err
	}
	req.Host = Host
	for line := range strings.Lines(r.Header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		req.Header.Add(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength != r.Length {
		return fmt.Errorf("%s with %d bytes, want %d", resp.Status, resp.ContentLength, r.Length)
	}
	if d := resp.Header.Get("Docker-Content-Digest"); d != "" && d != r.Digest.String() {
		return fmt.Errorf("the header promises %s, want %s", d, r.Digest)
	}
	if r.Method == http.MethodHead || r.Digest == "" {
		return nil
	}
	v := r.Digest.Verifier()
	if _, err := io.Copy(v, resp.Body); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("the bytes are not those of %s", r.Digest)
	}
	return nil
}
