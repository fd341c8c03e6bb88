package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// interrupted starts dcs gc and stops it by a signal in the middle. It cannot be faster than that: it logs
// each image into a pipe that nobody empties until the signal is sent.
func interrupted(t *testing.T, sig syscall.Signal, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	cmd := command(append([]string{"gc", "--log.level", "debug"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	log := bufio.NewReader(r)
	for line := ""; !strings.Contains(line, "removed image"); {
		if line, err = log.ReadString('\n'); err != nil {
			t.Fatalf("gc ended before it removed anything: %v, %s", err, line)
		}
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(log)
	if err != nil {
		t.Fatal(err)
	}
	return exitCodeOf(cmd.Wait()), out.String(), string(rest)
}

func TestAGCStopsBetweenTwoStepsAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	dir, flags := staleStore(t)
	stop := crowdIndex(t, dir, 5*time.Millisecond) // or one step would remove all names
	t.Cleanup(stop)

	code, stdout, stderr := interrupted(t, syscall.SIGINT, append(flags, "--format", "json")...)
	if code != 130 || !strings.HasSuffix(stderr, "dcs: interrupted\n") {
		t.Errorf("after SIGINT: exit %d, %s", code, stderr)
	}
	var first report
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&first); err != nil || dec.More() {
		t.Fatalf("after SIGINT it printed %q: %v", stdout, err)
	}
	if n := first.Removed.Tags; n == 0 || len(first.Images) != int(n) || first.Remaining.Tags != staleImages+1-n ||
		first.Remaining.Blobs <= 3 || first.DryRun {
		t.Errorf("after SIGINT: %+v", first)
	}

	code, stdout, stderr = interrupted(t, syscall.SIGTERM, flags...)
	if code != 130 || !strings.HasSuffix(stderr, "dcs: interrupted\n") {
		t.Errorf("after SIGTERM: exit %d, %s", code, stderr)
	}
	summary := regexp.MustCompile(`(?s)^IMAGE .*\n\ninterrupted: removed (\d+) of (\d+) images, ` +
		`freed [^\n]* of [^\n]*\. ` +
		`Run dcs gc again to continue\n`).FindStringSubmatch(stdout)
	if summary == nil || strings.Count(stdout, "\nstale/") == 0 ||
		fmt.Sprint(strings.Count(stdout, "\nstale/")) != summary[1] {
		t.Errorf("after SIGTERM it printed\n%s", stdout)
	}

	stop()
	last := gcJSON(t, flags...)
	if last.Remaining.Tags != 1 || last.Remaining.Manifests != 1 || last.Remaining.Blobs != 3 {
		t.Errorf("the last run left %+v", last.Remaining)
	}
	if rep := gcJSON(t, flags...); rep.Removed != (report{}).Removed {
		t.Errorf("the last run left %+v for another one", rep.Removed)
	}
	if left := blobFiles(t, dir); len(left) != 3 {
		t.Errorf("left on disk: %v", left)
	}
	s := startServer(t, dir)
	if err := s.pull("used:v1"); err != nil {
		t.Errorf("the image in use: %v", err)
	}
	if !s.gone("stale/000:v1") || !s.gone(fmt.Sprintf("stale/%03d:v1", staleImages-1)) {
		t.Error("a removed image is still served")
	}
}
