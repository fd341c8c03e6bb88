package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/report"
)

// tracedBlobs are enough for what happens now and then, such as a checkpoint of the index, to show as a fraction.
const tracedBlobs = 60

// pushFsync counts the calls under strace, which slows everything down: nothing is timed here. What a server syncs when
// it starts and stops is counted first, and taken off.
func pushFsync(b *bench, r *report.Row) error {
	if _, err := exec.LookPath("strace"); err != nil {
		r.Notes = append(r.Notes, "strace is not there: nothing was counted")
		return nil
	}
	for _, name := range b.withBefore(dcs, stock) {
		none, err := b.traced(name, func(string) error { return nil })
		if err != nil {
			return err
		}
		some, err := b.traced(name, pushBlobs)
		if err != nil {
			return err
		}
		perBlob := float64(some-none) / tracedBlobs
		r.Notes = append(r.Notes, fmt.Sprintf(
			"%s: %.1f fsyncs for each new blob (one client, POST, PATCH, PUT), %d for a start and a stop",
			name, perBlob, none))
		if name == dcs {
			r.AtMost(5, "", "fsyncs for each new blob", perBlob)
		}
	}
	return nil
}

func pushBlobs(addr string) error {
	p, err := load.NewPusher(addr, "push/traced")
	if err != nil {
		return err
	}
	defer p.Close()
	for i := range tracedBlobs {
		if err := pushBlob(p, pushed.Image(i).Blobs[1]); err != nil {
			return err
		}
	}
	return nil
}

// traced returns how often a server synced a file while work was done.
func (b *bench) traced(name string, work func(addr string) error) (fsyncs int, err error) {
	dir, err := os.MkdirTemp(b.Dir, "traced-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var cmd *exec.Cmd
	var addr string
	if p, who := b.called(name); who == dcs {
		cmd, addr, _, err = p.command(dir, open)
	} else {
		cmd, addr, err = b.stockCommand(dir, "")
	}
	if err != nil {
		return 0, err
	}
	counts := filepath.Join(b.Dir, "strace-"+filepath.Base(dir))
	// -D: strace is the grandchild, so the signals that end the server reach the server.
	args := []string{"-D", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", counts, "--"}
	traced := exec.Command("strace", append(args, cmd.Args...)...)
	traced.Env = cmd.Env
	s, err := started(traced, addr)
	if err != nil {
		return 0, err
	}
	err = work(addr)
	if err := errors.Join(err, s.stop()); err != nil {
		return 0, err
	}
	return counted(counts)
}

// counted reads strace's table, which comes a moment after the end of what it traced. No call: no table.
func counted(path string) (calls int, err error) {
	for range 100 {
		table, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		if n, complete := parseCounts(string(table)); complete {
			return n, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, nil
}

// parseCounts sums the column of calls. The last line of a complete table is that of the total.
func parseCounts(table string) (calls int, complete bool) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		var n int
		if _, err := fmt.Sscan(f[3], &n); err != nil {
			continue
		}
		if f[len(f)-1] == "total" {
			return calls, true
		}
		calls += n
	}
	return calls, false
}
