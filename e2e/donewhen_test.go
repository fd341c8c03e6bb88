//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"reflect"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// withinTen is how long after its push an image with a ttl of 3 s may still be there.
const withinTen = 10 * time.Second

// forgetful starts `dcs serve` with a ttl of 3 s and returns its data directory and address.
func forgetful(t *testing.T, cleanupInterval string) (dir, addr string) {
	t.Helper()
	dir = t.TempDir()
	port := freePort(t)
	addr = "127.0.0.1:" + port
	startServer(t, addr, time.Minute, exec.Command(dcsBin, "serve", "--storage.directory", dir,
		"--auth.enabled=false",
		"--server.address", "127.0.0.1", "--server.port", port,
		"--cache.ttl", "3s", "--cache.grace", "1s", "--cache.cleanup_interval", cleanupInterval))
	return dir, addr
}

// puller pulls an image whole, but no more than once a second.
type puller struct {
	ref  string
	dgst v1.Hash
	last time.Time
}

func (p *puller) pull(t *testing.T) {
	t.Helper()
	if time.Since(p.last) < time.Second {
		return
	}
	p.last = time.Now()
	mustPull(t, p.ref, p.dgst)
}

func TestDoneWhenServe(t *testing.T) {
	dir, addr := forgetful(t, "1s")
	idle, busy := newImage(t, 8<<20), newImage(t, 1<<20)
	inUse := puller{ref: addr + "/busy:v1"}
	pushImage(t, addr+"/idle:v1", idle)
	pushed := time.Now()
	inUse.dgst = pushImage(t, inUse.ref, busy) // the smaller one last: it is in use from then on
	idleBlobs, before := blobsOf(t, dir, idle), du(t, dir)

	eventually(t, withinTen, "end of the idle image", func() error {
		inUse.pull(t)
		return stillThere(idleBlobs)
	})
	t.Logf("the idle image went %v after its push", time.Since(pushed).Round(time.Millisecond))

	wantFreed(t, dir, before, bytesOf(idleBlobs), unlinked)
	wantUnknown(t, addr+"/idle:v1")
	eventually(t, time.Minute, "end of its directories", func() error { return leftovers(dir, "idle") })
	mustPull(t, inUse.ref, inUse.dgst)
}

func TestDoneWhenGC(t *testing.T) {
	dir, addr := forgetful(t, "0")
	idle, busy := newImage(t, 8<<20), newImage(t, 1<<20)
	inUse := puller{ref: addr + "/busy:v1"}
	idleDigest := pushImage(t, addr+"/idle:v1", idle)
	pushed := time.Now()
	inUse.dgst = pushImage(t, inUse.ref, busy)
	idleBlobs, busyBlobs, before := blobsOf(t, dir, idle), blobsOf(t, dir, busy), du(t, dir)

	// A dry run says when the time has come, and changes nothing.
	var plan gcReport
	eventually(t, withinTen, "dry run that would remove an image", func() error {
		inUse.pull(t)
		plan = gc(t, dir, "--dry-run")
		if plan.Removed.Tags == 0 {
			return fmt.Errorf("it would remove nothing: %+v", plan)
		}
		return nil
	})
	if stillThere(idleBlobs[:1]) == nil {
		t.Error("a dry run removed something")
	}

	// The first run that counts may find content still within its grace. Together they remove the image, and no more.
	inUse.pull(t)
	report := gc(t, dir)
	images := report.Images
	removed, freed := report.Removed, report.FreedBytes
	eventually(t, withinTen-time.Since(pushed), "end of the idle image", func() error {
		if stillThere(idleBlobs) == nil {
			return nil
		}
		inUse.pull(t)
		report = gc(t, dir)
		images = append(images, report.Images...)
		removed.Tags += report.Removed.Tags
		removed.Manifests += report.Removed.Manifests
		removed.Blobs += report.Removed.Blobs
		removed.Uploads += report.Removed.Uploads
		freed += report.FreedBytes
		return fmt.Errorf("removed so far: %+v", removed)
	})

	if want := (gcRemoved{Tags: 1, Manifests: 1, Blobs: len(idleBlobs)}); removed != want {
		t.Errorf("removed %+v, want %+v", removed, want)
	}
	if want := bytesOf(idleBlobs); freed != want {
		t.Errorf("freed_bytes %d, want %d", freed, want)
	}
	if want := (gcRemaining{Tags: 1, Manifests: 1, Blobs: len(busyBlobs),
		Bytes: bytesOf(busyBlobs)}); report.Remaining != want {
		t.Errorf("remaining %+v, want %+v", report.Remaining, want)
	}
	if len(images) != 1 {
		t.Fatalf("images %+v, want one", images)
	}
	got := images[0]
	if used := time.Time(got.LastAccess); used.Before(pushed.Add(-time.Minute)) || used.After(pushed) {
		t.Errorf("last_access %v of an image pushed until %v", used, pushed)
	}
	got.LastAccess = stamp{}
	want := gcImage{Repository: "idle", Tag: "v1", Digest: idleDigest.String(), Reason: "ttl",
		UniqueBytes: bytesOf(idleBlobs)}
	if got != want {
		t.Errorf("image %+v, want %+v", got, want)
	}

	wantFreed(t, dir, before, freed, 0) // a gc is done when it exits
	wantUnknown(t, addr+"/idle:v1")
	if err := leftovers(dir, "idle"); err != nil {
		t.Error(err)
	}
	mustPull(t, inUse.ref, inUse.dgst)
}

func wantUnknown(t *testing.T, ref string) {
	t.Helper()
	if _, err := remote.Head(reference(t, ref)); !isStatus(err, http.StatusNotFound) {
		t.Errorf("HEAD of %s: %v, want 404", ref, err)
	}
}

// What `dcs gc --format json` prints, to the letter: DESIGN §5.2.
type (
	gcReport struct {
		Compared   string      `json:"compared,omitempty"` // without a server only
		DryRun     bool        `json:"dry_run"`
		StartedAt  stamp       `json:"started_at"`
		DurationMS int64       `json:"duration_ms"`
		Cutoff     stamp       `json:"cutoff"`
		Removed    gcRemoved   `json:"removed"`
		FreedBytes int64       `json:"freed_bytes"`
		Remaining  gcRemaining `json:"remaining"`
		Images     []gcImage   `json:"images"`
	}
	gcRemoved struct {
		Tags      int `json:"tags"`
		Manifests int `json:"manifests"`
		Blobs     int `json:"blobs"`
		Uploads   int `json:"uploads"`
	}
	gcRemaining struct {
		Tags      int   `json:"tags"`
		Manifests int   `json:"manifests"`
		Blobs     int   `json:"blobs"`
		Bytes     int64 `json:"bytes"`
	}
	gcImage struct {
		Repository  string `json:"repository"`
		Tag         string `json:"tag"`
		Digest      string `json:"digest"`
		LastAccess  stamp  `json:"last_access"`
		Reason      string `json:"reason"`
		UniqueBytes int64  `json:"unique_bytes"`
	}
)

// gc runs `dcs gc` as "Done when" has it, and decodes the one object on its standard output.
func gc(t *testing.T, dir string, more ...string) gcReport {
	t.Helper()
	args := append([]string{"gc", "--storage.directory", dir, "--ttl", "3s", "--grace", "1s", "--format", "json"},
		more...)
	var report gcReport
	decodeExactly(t, run(t, exec.Command(dcsBin, args...)), &report)
	if report.DryRun != (len(more) > 0) {
		t.Errorf("dry_run is %v after dcs gc %v", report.DryRun, more)
	}
	if report.Images == nil {
		t.Error("images is null, want a list")
	}
	if idle := time.Time(report.StartedAt).Sub(time.Time(report.Cutoff)); idle < 3*time.Second || idle > 4*time.Second {
		t.Errorf("the cutoff is %v before the start, want the ttl of 3 s and at most the resolution", idle)
	}
	return report
}

// decodeExactly decodes one JSON value that has all fields of into, and no other.
func decodeExactly(t *testing.T, printed string, into any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewBufferString(printed))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, printed)
	}
	if dec.More() {
		t.Fatalf("more than one JSON value: %s", printed)
	}
	again, err := json.Marshal(into)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := generic(t, []byte(printed)), generic(t, again); !reflect.DeepEqual(got, want) {
		t.Fatalf("a field is missing or of another form:\nprinted %s\nwant    %s", printed, again)
	}
}

func generic(t *testing.T, data []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// stamp is RFC 3339 in UTC with always three fractional digits.
type stamp time.Time

const stampLayout = "2006-01-02T15:04:05.000Z"

func (s *stamp) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(stampLayout, string(text))
	*s = stamp(parsed)
	return err
}

func (s stamp) MarshalText() ([]byte, error) {
	return time.Time(s).UTC().AppendFormat(nil, stampLayout), nil
}
