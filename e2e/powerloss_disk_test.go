//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// POWER_LOSSES is how often the power is lost on each file system.
const (
	powerLosses = "POWER_LOSSES"
	fewLosses   = 25
)

// TestPowerLossOfADisk is TestPowerLoss with real file systems in place of a model of one. A server on a disk that
// records is used by several clients at once. Then the disk becomes again and again what a power loss would have left.
// Each time the files are read as a stock registry would, a server starts, and all that was acknowledged is asked for.
func TestPowerLossOfADisk(t *testing.T) {
	tested := 0
	for kind, fs := range map[string]struct {
		mkfs    []string
		options string // a journal that is written often has more states
	}{
		"ext4": {[]string{"mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"},
			"nodiscard,commit=1"},
		"xfs":   {[]string{"mkfs.xfs", "-q", "-K"}, "nodiscard"},
		"btrfs": {[]string{"mkfs.btrfs", "-q", "-K"}, "nodiscard,commit=1"},
	} {
		t.Run(kind, func(t *testing.T) {
			if !inKernel(t, kind) {
				t.Skipf("the kernel has no %s: nothing is tested on it", kind)
			}
			tested++
			d, at := newDisk(t), tempDir(t)
			run(t, exec.Command(fs.mkfs[0], append(fs.mkfs[1:], d.path)...))
			began := time.Now()
			h, last := recordPushes(t, d, at, kind, fs.options)
			recorded := time.Since(began)
			losses := chooseLosses(t, d, h, last)
			for _, l := range losses {
				if !t.Run(fmt.Sprintf("after record %d with %d of 1000 blocks", l.At, l.Left), func(t *testing.T) {
					d := &disk{T: t, path: d.path, calls: d.calls}
					d.call("Lose", l, &struct{}{})
					d.mount(at, kind, fs.options)
					defer unmount(t, at)
					h.check(t, filepath.Join(at, "data"), l.At)
				}) {
					return
				}
			}
			t.Logf("%d records of %d requests in %v, %d power losses in %v", last, len(h.ops),
				recorded.Round(time.Millisecond), len(losses), time.Since(began.Add(recorded)).Round(time.Millisecond))
		})
	}
	if tested == 0 {
		t.Error("the kernel has none of them: nothing was tested")
	}
}

// unmount frees the disk, however the test ends.
func unmount(t *testing.T, at string) {
	t.Helper()
	eventually(t, time.Minute, "unmount of "+at, func() error { return exec.Command("umount", at).Run() })
}

// recordPushes runs a server and its clients, and returns what they did before which record.
func recordPushes(t *testing.T, d *disk, at, kind, options string) (h *history, last int) {
	t.Helper()
	d.mount(at, kind, options)
	defer unmount(t, at)
	device := strings.TrimSpace(run(t, exec.Command("findmnt", "-no", "SOURCE", at)))
	run(t, exec.Command("losetup", "--direct-io=on", device)) // so that several writes are under way at once
	run(t, exec.Command("sync", "-f", at))
	d.call("Start", struct{}{}, &struct{}{})
	dir := filepath.Join(at, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	addr, server := serveOpen(t, dir)
	defer server.end(syscall.SIGKILL)
	h = &history{disk: d, addr: addr}
	for phase := range 2 {
		var clients sync.WaitGroup
		for n := range 4 {
			clients.Go(func() { (&pusher{history: h, repo: fmt.Sprintf("team/app%d", n), n: n, phase: phase}).work() })
		}
		clients.Wait()
		if t.Failed() {
			t.FailNow()
		}
		// A layer without a manifest is published by the server itself. Its upload goes when that is durable.
		eventually(t, time.Minute, "end of the uploads", func() error {
			for _, left := range []string{".metadata/pending/*-*", "docker/registry/v2/repositories/*/*/_uploads/*"} {
				if files, err := filepath.Glob(filepath.Join(dir, left)); err != nil {
					return err
				} else if len(files) > 0 {
					return fmt.Errorf("%d files are there, such as %s", len(files), files[0])
				}
			}
			return nil
		})
		h.settled = append(h.settled, h.mark())
	}
	return h, h.mark()
}

// promises are the requests whose answers survive a power loss.
var promises = []string{"manifest", "delete layer", "delete tag", "delete manifest"}

// chooseLosses takes the power away at once after an answer, beside a flush, and anywhere.
func chooseLosses(t *testing.T, d *disk, h *history, last int) (losses []Loss) {
	t.Helper()
	wanted := fewLosses
	if s := os.Getenv(powerLosses); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", powerLosses, err)
		}
		wanted = n
	}
	var flushes []int
	d.call("End", struct{}{}, &flushes)
	answers := map[string][]int{}
	for _, o := range h.ops {
		answers[o.what] = append(answers[o.what], o.answered)
	}
	if len(flushes) < 50 || len(answers) != len(promises)+1 {
		t.Fatalf("%d flushes and answers to %d kinds of requests say too little", len(flushes), len(answers))
	}
	t.Logf("%d flushes", len(flushes))
	for _, at := range h.settled {
		losses = append(losses, Loss{At: at})
	}
	for i := range wanted {
		l := Loss{Seed: rand.Uint64()}
		switch i % 4 {
		case 0, 2:
			l.At = oneOf(answers[promises[i/2%len(promises)]])
			losses = append(losses, l)
			continue
		case 1:
			l.At = oneOf(flushes) + rand.IntN(2)
		case 3:
			l.At = h.ops[0].began + rand.IntN(last-h.ops[0].began)
		}
		switch rand.IntN(3) {
		case 0:
			l.Left = 1000
		case 1:
			l.Left = 1 + rand.IntN(999)
		}
		losses = append(losses, l)
	}
	return losses
}

func oneOf(ns []int) int { return ns[rand.IntN(len(ns))] }
