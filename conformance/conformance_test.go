//go:build conformance

// Package conformance runs the conformance suite of the OCI distribution specification against the built
// dcs. `make conformance` builds both.
package conformance

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// everything turns on what the suite leaves off by itself. Sparse indexes stay off: an index whose children
// are not there cannot be pulled, and is refused.
var everything = []string{
	"OCI_TLS=disabled",
	"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_MANIFESTS_TAG_PARAM=true",
	"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
}

// summary are the figures that the suite prints last.
var summary = regexp.MustCompile(`(?m)^ *(Total|Pass|FAIL|Skip|Error)\.+: +([0-9]+)$`)

// TestConformance wants every test of both versions to pass, and the figures to be those of the README.
func TestConformance(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.0", "1.1"} {
		t.Run(version, func(t *testing.T) {
			cmd := exec.Command(os.Getenv("CONFORMANCE_BIN"))
			cmd.Env = append(os.Environ(), everything...)
			cmd.Env = append(cmd.Env, "OCI_REGISTRY="+serve(t), "OCI_VERSION="+version, "OCI_RESULTS_DIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			n := map[string]string{}
			for _, m := range summary.FindAllStringSubmatch(string(out), -1) {
				n[m[1]] = m[2]
			}
			if err != nil || n["Total"] == "" || n["FAIL"] != "0" || n["Skip"] != "0" || n["Error"] != "0" {
				t.Fatalf("%v\n%s", err, out)
			}
			line := fmt.Sprintf("| %s | %s | %s | %s | %s |", version, n["Total"], n["Pass"], n["FAIL"], n["Skip"])
			t.Logf("OCI distribution-spec %s: %s tests, %s passed, %s failed, %s skipped", version, n["Total"],
				n["Pass"], n["FAIL"], n["Skip"])
			if !strings.Contains(string(readme), line) {
				t.Errorf("README.md does not have the line %q", line)
			}
		})
	}
}

// serve starts a dcs on an empty directory, and returns where it listens.
func serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	cmd := exec.Command(os.Getenv("DCS_BIN"), "serve", "--server.address", "127.0.0.1", "--server.port", port,
		"--storage.directory", t.TempDir(),
		"--auth.enabled=false", "--debug.address", "", "--log.access=false")
	cmd.Env = []string{} // what names the programs for this test is no setting of theirs
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("dcs ended with %v:\n%s", err, log.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("dcs does not answer: %v", err)
		}
	}
}
