package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/report"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// strace is a command that runs another one, and stops it at its sync calls alone. sync_file_range is none: it makes
// nothing durable. With -D strace is the grandchild, so the signals that end the server reach the server.
func strace(out string, more ...string) []string {
	args := []string{"strace", "-D", "-f", "--seccomp-bpf", "-y", "-e", "trace=fsync,fdatasync,syncfs", "-o", out}
	return append(args, more...)
}

// slowSyncs makes each sync call return 3 ms later.
func slowSyncs() []string {
	return strace(os.DevNull, "-e", "inject=fsync,fdatasync,syncfs:delay_exit=3000")
}

// there says whether a command that a row wants is there. If it is not, the row says so.
func there(r *report.Row, command string) bool {
	_, err := exec.LookPath(command)
	if err != nil {
		r.Notes = append(r.Notes, filepath.Base(command)+" is not there")
	}
	return err == nil
}

// tracedImages are enough for what happens now and then, such as a checkpoint of the index, to show as a fraction.
const tracedImages = 20

// pushSyncs counts the sync calls of a push. Nothing is timed here.
func pushSyncs(b *bench, r *report.Row) (err error) {
	perImage := math.NaN()
	defer func() { r.AtMost(8, "", "sync calls for each image, without those of the index", perImage) }()
	if !there(r, "strace") {
		return nil
	}
	dir, release, err := b.journaled(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	for _, name := range b.pushed(r, dcs, stock, olareg) {
		none, err := b.traced(name, dir, 0)
		if err != nil {
			return err
		}
		some, err := b.traced(name, dir, tracedImages)
		if err != nil {
			return err
		}
		per := func(some, none int) float64 { return float64(some-none) / tracedImages }
		r.Notes = append(r.Notes, fmt.Sprintf(
			"%s: %.1f sync calls for each image, and %.1f of the index; %d for a start and a stop",
			name, per(some.others, none.others), per(some.index, none.index), none.others+none.index))
		if name == dcs {
			perImage = per(some.others, none.others)
		}
	}
	return nil
}

// syncs are calls by what was synced.
type syncs struct{ index, others int }

// traced returns the sync calls of a server from its start to its end, with so many images pushed by one client.
func (b *bench) traced(name, dir string, images int) (s syncs, err error) {
	log := filepath.Join(b.Dir, "strace.log")
	server, end, err := b.pusher(name, dir, strace(log)...)
	if err != nil {
		return s, err
	}
	err = pushImages(server.addr, 0, func(n int) bool { return n < images },
		func(n int) stores.Image { return pushShape.Image(n) })
	if err := errors.Join(err, end()); err != nil {
		return s, err
	}
	return counted(log, server.proc.PID())
}

// counted reads what strace wrote, whose end comes a moment after the end of what it traced.
func counted(log string, pid int) (syncs, error) {
	for range 250 {
		lines, err := os.ReadFile(log)
		if err != nil {
			return syncs{}, err
		}
		if s, complete := parseSyncs(string(lines), pid); complete {
			return s, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return syncs{}, fmt.Errorf("%s has no end", log)
}

// syncCall is where a call begins: one that other threads interrupt has a second line, without what was synced.
var syncCall = regexp.MustCompile(`^\d+ +(?:fsync|fdatasync|syncfs)\(\d+<([^>]*)>`)

// parseSyncs counts the calls of all threads. The log is complete when the process has ended.
func parseSyncs(log string, pid int) (s syncs, complete bool) {
	index := filepath.Base(tree.Dir("").Index())
	for line := range strings.Lines(log) {
		if call := syncCall.FindStringSubmatch(line); call == nil {
			f := strings.Fields(line)
			complete = complete || len(f) > 1 && f[0] == strconv.Itoa(pid) && f[1] == "+++"
		} else if strings.HasPrefix(filepath.Base(call[1]), index) { // its log and its journal, too
			s.index++
		} else {
			s.others++
		}
	}
	return s, complete
}
