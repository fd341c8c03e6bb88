// Package process runs programs and says what the kernel charged them.
//
// CPU time is that of /proc/PID/stat, of a program and of the workers it forked: in steps of 10 ms, so what is measured
// must take long enough. What a program costs from its beginning to its end says Measure.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a server that was started here.
type Process struct {
	cmd    *exec.Cmd
	output buffer
	done   chan struct{} // closed when it has ended
}

// Start starts a server. Its output is kept for the error that may have to be explained.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit code is in cmd.ProcessState
	}()
	return p, nil
}

// PID is the process's own.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output is what it has written until now.
func (p *Process) Output() string { return p.output.String() }

// Await asks until the answer is nil. A process that ends before that is an error.
func (p *Process) Await(within time.Duration, ask func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended too early: %v\n%s", p.cmd.Path, p.cmd.ProcessState, p.Output())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: not within %v: %w\n%s", p.cmd.Path, within, err, p.Output())
		}
	}
}

// stopTime is longer than any server here takes to write down what it knows.
const stopTime = time.Minute

// Stop ends the process as an init system does, and returns its exit code.
func (p *Process) Stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Interrupt asks it to stop, as Ctrl-C does.
func (p *Process) Interrupt() { _ = p.cmd.Process.Signal(syscall.SIGINT) }

// CPU is what the process and its workers have used until now.
func (p *Process) CPU() (used time.Duration, err error) {
	err = p.each(func(dir string) error {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return err
		}
		cpu, err := parseStat(string(stat))
		used += cpu
		return err
	})
	return used, err
}

// Peak is the most memory that was resident since ResetPeak, RSS what is resident now; in bytes.
func (p *Process) Peak() (int64, error) { return p.memory("VmHWM") }

// RSS is what is resident now, in bytes.
func (p *Process) RSS() (int64, error) { return p.memory("VmRSS") }

func (p *Process) memory(field string) (sum int64, err error) {
	err = p.each(func(dir string) error {
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			return err
		}
		n, err := parseStatus(string(status), field)
		sum += n
		return err
	})
	return sum, err
}

// ResetPeak makes Peak begin anew. Where the kernel does not allow it, Peak is that of the whole life.
func (p *Process) ResetPeak() {
	_ = p.each(func(dir string) error { return os.WriteFile(dir+"/clear_refs", []byte("5"), 0) })
}

// each calls f with the /proc directory of the process and of each of its children.
func (p *Process) each(f func(dir string) error) error {
	own := "/proc/" + strconv.Itoa(p.PID())
	if err := f(own); err != nil {
		return err
	}
	lists, err := filepath.Glob(own + "/task/*/children")
	if err != nil {
		return err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that ended
		}
		for _, child := range strings.Fields(string(children)) {
			if err := f("/proc/" + child); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Settle waits until the process has done nothing for a while: what it put off is done, and counted.
func (p *Process) Settle(quiet, atMost time.Duration) error {
	last, err := p.CPU()
	since := time.Now()
	for end := since.Add(atMost); err == nil && time.Since(since) < quiet && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		var now time.Duration
		if now, err = p.CPU(); now > last {
			last, since = now, time.Now()
		}
	}
	return err
}

// buffer is a bytes.Buffer that may be read while a process still writes to it.
type buffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
