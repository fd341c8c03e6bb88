//go:build e2e

// Package e2e runs the built dcs as its users do: real processes, real sockets, a real docker, a real
// nginx, and the stock registry that shares its directories. `make e2e` builds and installs all of them.
//
// The tests run in namespaces of their own (processes, mounts, network). So every port is free, nothing
// leaves the machine, the docker of this machine is out of reach, and whatever a test started ends with it.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const insideSandbox = "E2E_INSIDE_SANDBOX"

// The programs under test, as the Makefile names them.
var dcsBin, stockRegistryBin string

func TestMain(m *testing.M) {
	if os.Getenv(recordedDisk) != "" {
		if err := runRecordedDisk(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: the disk:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(insideSandbox) == "" {
		os.Exit(runInSandbox())
	}
	if err := prepareSandbox(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: prepare the sandbox:", err)
		os.Exit(1)
	}
	dcsBin, stockRegistryBin = os.Getenv("DCS_BIN"), os.Getenv("STOCK_REGISTRY_BIN")
	for _, bin := range []string{dcsBin, stockRegistryBin} {
		if _, err := os.Stat(bin); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: DCS_BIN and STOCK_REGISTRY_BIN must name the programs (make e2e does):", err)
			os.Exit(1)
		}
	}
	cleanEnvironment()
	os.Exit(m.Run())
}

// runInSandbox runs this test binary again, as the first process of new namespaces. When that process
// ends, the kernel ends all the others in there.
func runInSandbox() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: dockerd and the namespaces of the tests need root")
		return 1
	}
	tmp, err := os.MkdirTemp("", "dcs-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil { // some servers in here run under another uid
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}

	runtime.LockOSThread() // Pdeathsig counts the thread as the parent
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Env = append(os.Environ(), insideSandbox+"=1", "TMPDIR="+tmp)
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = inside.Run()
	if inside.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "e2e: enter new namespaces:", err)
		return 1
	}
	return inside.ProcessState.ExitCode()
}

// prepareSandbox gives the new namespaces a loopback interface, the process list that belongs to them,
// and an empty /run, where a docker or containerd of this machine would have its sockets.
func prepareSandbox() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return loopbackUp()
}

func loopbackUp() error {
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sock)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// cleanEnvironment drops what would configure the programs under test behind the back of a test, and
// what the make that runs the tests would tell the make that a test runs.
func cleanEnvironment() {
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"DCS_", "REGISTRY_", "DOCKER_", "MAKE", "MFLAGS"} {
			if strings.HasPrefix(key, prefix) {
				os.Unsetenv(key)
			}
		}
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Setenv("OTEL_TRACES_EXPORTER", "none") // else the stock registry looks for a collector
}
