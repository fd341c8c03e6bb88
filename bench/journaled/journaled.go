// Package journaled makes an ext4 with a journal in a file: a sync costs there what it costs on most servers, whatever
// file system the machine itself has.
package journaled

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// size is that of the file system, in bytes. Its file has holes: it takes what is written, and no more.
const size = 32 << 30

// Disk is a mounted file system.
type Disk struct {
	Dir    string // where it is mounted
	Direct bool   // its writes pass by the page cache of the file system that has the file
	image  string
}

// Make makes one below a directory, and mounts it. It wants root, mkfs.ext4, losetup and a free loop device: the error
// says what is not there, and then nothing is left behind.
func Make(dir string) (d *Disk, err error) {
	d = &Disk{Dir: filepath.Join(dir, "ext4"), image: filepath.Join(dir, "ext4.image")}
	if err := os.Mkdir(d.Dir, 0o755); err != nil {
		return nil, err
	}
	if err = d.format(); err == nil {
		err = d.mount()
	}
	if err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// format makes the file, with an inode for each block of 4 KiB: a small blob takes several.
func (d *Disk) format() error {
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	_, err = run("mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.image)
	return err
}

func (d *Disk) mount() error {
	device, err := run("losetup", "--find", "--show", "--direct-io=on", d.image)
	if err != nil {
		return err
	}
	// No thread of the kernel writes tables of inodes while something is measured.
	if err = syscall.Mount(device, d.Dir, "ext4", 0, "noinit_itable"); err != nil {
		err = fmt.Errorf("mount %s: %w", device, err)
	}
	direct, _ := os.ReadFile("/sys/block/" + filepath.Base(device) + "/loop/dio")
	d.Direct = strings.TrimSpace(string(direct)) == "1"
	// From here on the kernel detaches the device as soon as it is not mounted.
	if _, derr := run("losetup", "--detach", device); derr != nil && err == nil {
		return errors.Join(derr, unmount(d.Dir))
	}
	return err
}

// Close unmounts it, which detaches the device, and removes the file.
func (d *Disk) Close() error { return errors.Join(unmount(d.Dir), d.remove()) }

func (d *Disk) remove() error {
	err := os.Remove(d.image)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(d.Dir))
}

// busyTime bounds how long a process that has just ended may still hold a file.
const busyTime = 5 * time.Second

func unmount(dir string) error {
	err := syscall.Unmount(dir, 0)
	for end := time.Now().Add(busyTime); errors.Is(err, syscall.EBUSY) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		err = syscall.Unmount(dir, 0)
	}
	if err == nil {
		return nil
	}
	// It goes with the last file that is open.
	return errors.Join(fmt.Errorf("unmount %s: %w", dir, err), syscall.Unmount(dir, syscall.MNT_DETACH))
}

// run returns what a command prints. A Ctrl-C at the terminal does not reach the command, so that it is never half
// done.
func run(name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &errs, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w %s", name, err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
