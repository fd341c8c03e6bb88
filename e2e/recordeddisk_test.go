//go:build e2e

package e2e

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that remembers: it records each write as it ends, and each flush as it comes, in one order with the marks of
// the test. It can become again what a power loss at any record would have left: all writes that had ended before the
// last flush, and of those after it none, all, or some of their blocks. Writes end out of order, as in the queue of a
// disk.

// recorder is the disk. It lives in a process of its own, so that one that waits for it can be killed.
type recorder struct {
	mu      sync.Mutex
	sure    map[int64]*block // what is below the records: blocks that are not of zeros
	now     map[int64]*block // what was written over that
	records []record
	ended   bool // nothing more is recorded
	lag     bool // writes take a while, each another
}

const blockSize = 4096

type block [blockSize]byte

type record struct {
	offset int64
	data   []byte // nil: a mark or a flush
	flush  bool
}

func (d *recorder) read(to []byte, offset int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	inBlocks(to, offset, func(n int64, part []byte, at int) {
		b := d.now[n]
		if b == nil {
			b = d.sure[n]
		}
		if b == nil {
			clear(part)
		} else {
			copy(part, b[at:])
		}
	})
}

func (d *recorder) write(data []byte, offset int64) {
	d.mu.Lock()
	lag := d.lag
	d.mu.Unlock()
	if lag {
		time.Sleep(rand.N(time.Millisecond))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(data, offset)
	d.record(record{offset: offset, data: data})
}

func (d *recorder) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.record(record{flush: true})
}

// record records. The caller holds mu.
func (d *recorder) record(r record) {
	if !d.ended {
		d.records = append(d.records, r)
	}
}

func (d *recorder) put(data []byte, offset int64) {
	inBlocks(data, offset, func(n int64, part []byte, at int) {
		b := d.now[n]
		if b == nil {
			b = &block{}
			if was := d.sure[n]; was != nil {
				*b = *was
			}
			d.now[n] = b
		}
		copy(b[at:], part)
	})
}

// inBlocks calls f with the part in each block, and where in the block it begins.
func inBlocks(data []byte, offset int64, f func(n int64, part []byte, at int)) {
	for len(data) > 0 {
		at := int(offset % blockSize)
		size := min(blockSize-at, len(data))
		f(offset/blockSize, data[:size], at)
		data, offset = data[size:], offset+int64(size)
	}
}

// Start begins the records: what was written before is sure.
func (d *recorder) Start(struct{}, *struct{}) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n, b := range d.now {
		d.sure[n] = b
		if *b == (block{}) {
			delete(d.sure, n)
		}
	}
	d.now, d.records, d.ended, d.lag = map[int64]*block{}, nil, false, true
	return nil
}

// Mark appends a mark, and says which record it is.
func (d *recorder) Mark(_ struct{}, n *int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	*n = len(d.records)
	d.record(record{})
	return nil
}

// End ends the records, and returns which of them are flushes.
func (d *recorder) End(_ struct{}, flushes *[]int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, r := range d.records {
		if r.flush {
			*flushes = append(*flushes, i)
		}
	}
	d.ended, d.lag = true, false
	return nil
}

// Loss is a power loss: after how many of the records, and what is left of those that no flush made sure: of 1000
// blocks so many.
type Loss struct {
	At, Left int
	Seed     uint64
}

// Lose makes the disk what a power loss leaves of it. What is written from then on is not recorded.
func (d *recorder) Lose(l Loss, _ *struct{}) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	flushed := 0
	for i, r := range d.records[:l.At] {
		if r.flush {
			flushed = i
		}
	}
	some := rand.New(rand.NewPCG(l.Seed, 1))
	d.now = map[int64]*block{}
	for i, r := range d.records[:l.At] {
		if i < flushed {
			d.put(r.data, r.offset)
			continue
		}
		inBlocks(r.data, r.offset, func(n int64, part []byte, at int) {
			if some.IntN(1000) < l.Left {
				d.put(part, n*blockSize+int64(at))
			}
		})
	}
	return nil
}

const (
	recordedDisk = "E2E_RECORDED_DISK" // if set, this process is the disk, and has its connection as the first extra file
	diskSize     = 320 << 20           // bytes; mkfs.xfs makes none under 300 MiB
)

// runRecordedDisk serves a disk until its standard input ends.
func runRecordedDisk() error {
	d := &recorder{sure: map[int64]*block{}, now: map[int64]*block{}}
	calls := rpc.NewServer()
	if err := calls.RegisterName("disk", d); err != nil {
		return err
	}
	go func() {
		calls.ServeConn(pipes{os.Stdin, os.Stdout})
		os.Exit(0)
	}()
	return serveFuse(3, diskSize, d)
}

type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// disk is a recorder, as the test sees it: a file that a loop device can have.
type disk struct {
	*testing.T
	path  string
	calls *rpc.Client
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{T: t, path: writeFile(t, tempDir(t)+"/disk", "")}
	connection, err := mountFuse(d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), recordedDisk+"=1")
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{connection}
	// What is mounted from the disk is unmounted by the last process that sees it, which must not be the disk.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.calls = rpc.NewClient(pipes{out, in})
	t.Cleanup(func() {
		d.calls.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("the disk: ", err)
		}
		if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *disk) call(method string, args, reply any) {
	d.Helper()
	if err := d.ask(method, args, reply); err != nil {
		d.Fatal("the disk: ", err)
	}
}

// ask gives up on a disk that hangs.
func (d *disk) ask(method string, args, reply any) error {
	select {
	case call := <-d.calls.Go("disk."+method, args, reply, make(chan *rpc.Call, 1)).Done:
		return call.Error
	case <-time.After(time.Minute):
		return errors.New("no answer to " + method)
	}
}

// mark returns the number of a record that comes after all that has ended. Several goroutines may call it.
func (d *disk) mark() (n int, err error) {
	err = d.ask("Mark", struct{}{}, &n)
	return n, err
}

// mount mounts the disk. The kernel detaches the loop device when it is unmounted.
func (d *disk) mount(at, kind, options string) {
	d.Helper()
	run(d.T, exec.Command("mount", "-t", kind, "-o", "loop,"+options, d.path, at))
}

// inKernel says whether the kernel has a file system, which may be a module.
func inKernel(t *testing.T, kind string) bool {
	t.Helper()
	_ = exec.Command("modprobe", kind).Run() // it may be there without one
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(known), "\t"+kind+"\n")
}
