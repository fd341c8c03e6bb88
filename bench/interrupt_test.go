package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/bench/report"
)

// waitVerb makes the test program the bench, with one row, which makes its disk and waits until it is interrupted.
const waitVerb = "wait"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == waitVerb {
		rows = []row{{name: waitVerb, what: "nothing", measure: func(b *bench, r *report.Row) error {
			dir, release, err := b.journaled(r)
			if err != nil {
				return err
			}
			fmt.Println(dir, r.Notes)
			<-b.ctx.Done()
			return release()
		}}}
		os.Args = append(os.Args[:1], "-dir", os.Args[2])
		main()
		return
	}
	os.Exit(m.Run())
}

// An interrupt leaves no file, no mount and no loop device behind.
func TestAnInterruptLeavesNoDiskBehind(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		t.Run(signal.String(), func(t *testing.T) { interrupt(t, signal) })
	}
}

func interrupt(t *testing.T, signal syscall.Signal) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], waitVerb, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, dir) {
		t.Errorf("%q, %v", line, err)
	}
	for range 2 { // the second one hits the end that the first one began
		if err := cmd.Process.Signal(signal); err != nil {
			t.Error(err)
		}
	}
	_ = cmd.Wait() // a row that is interrupted fails
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("%v in\n%s", err, mounts)
	}
	// The kernel detaches a device once no program has it open: another one may be looking at all of them.
	devices := attached(t, dir)
	for deadline := time.Now().Add(time.Minute); len(devices) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		devices = attached(t, dir)
	}
	if len(devices) > 0 {
		t.Errorf("attached: %v", devices)
	}
}

// attached are the loop devices that have a file below a directory.
func attached(t *testing.T, dir string) (devices []string) {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range backing {
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), dir) {
			devices = append(devices, file)
		}
	}
	return devices
}

// Without a disk a row goes on elsewhere, and says so.
func TestARowSaysThatItHasNoJournal(t *testing.T) {
	t.Setenv("PATH", "")
	b := &bench{options: options{Dir: t.TempDir()}}
	r := &report.Row{What: "push"}
	dir, release, err := b.journaled(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil || r.What != "push, in a plain directory" || len(r.Notes) != 1 ||
		!strings.Contains(r.Notes[0], "mkfs.ext4") {
		t.Errorf("%v, %+v", err, r)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(b.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
