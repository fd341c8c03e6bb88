//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// units are those of docs/systemd, by the highest exposure that `systemd-analyze security` may find, in
// tenths: 20 is what it calls OK, and what is left of a service that talks to a network.
var units = map[string]int{"dcs.service": 15, "dcs-gc.service": 10, "dcs-gc.timer": 0}

// installed is a copy of this machine's root directory, with dcs installed as docs/operations.md says. What
// happens in it leaves no trace outside.
func installed(t *testing.T) (root string) {
	t.Helper()
	dir := tempDir(t) // whose name has none of the characters that part the options of a mount
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	root = filepath.Join(dir, "root")
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("overlay", root, "overlay", 0,
		"lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	// this machine's own units are none of ours
	for _, d := range []string{"usr/local/bin", "etc/systemd/system", "var/cache"} {
		if err := os.RemoveAll(filepath.Join(root, d)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, exec.Command("install", dcsBin, filepath.Join(root, "usr/local/bin")))
	for unit := range units {
		run(t, exec.Command("install", "-m", "644", "../docs/systemd/"+unit, filepath.Join(root, "etc/systemd/system")))
	}
	return root
}

// systemd has no complaint about the units, in the place where they belong, and finds little that they expose.
func TestSystemdUnitsAreSound(t *testing.T) {
	root := installed(t)
	if err := syscall.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(filepath.Join(root, "proc"), syscall.MNT_DETACH) })
	analyze := func(args ...string) (said string, code int) {
		cmd := exec.Command("systemd-analyze", args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Dir = "/"
		stdout, stderr, code := try(t, cmd)
		return stdout + stderr, code
	}
	for unit, exposure := range units {
		if said, code := analyze("verify", "/etc/systemd/system/"+unit); code != 0 || said != "" {
			t.Errorf("systemd-analyze verify %s: exit code %d\n%s", unit, code, said)
		}
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		said, code := analyze("security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(exposure),
			"/etc/systemd/system/"+unit)
		if code != 0 {
			t.Errorf("systemd-analyze security %s: more than %d.%d\n%s", unit, exposure/10, exposure%10, said)
		}
	}
	// Both tools do see what is wrong.
	writeFile(t, filepath.Join(root, "etc/systemd/system/bad.service"),
		"[Service]\nExecStart=/nowhere/dcs serve\nProtectSistem=strict\n")
	if said, _ := analyze("verify", "/etc/systemd/system/bad.service"); !strings.Contains(said, "ProtectSistem") ||
		!strings.Contains(said, "/nowhere/dcs") {
		t.Errorf("systemd-analyze verify takes anything: %q", said)
	}
	if _, code := analyze("security", "--no-pager", "--offline=true", "--threshold=20",
		"/etc/systemd/system/bad.service"); code == 0 {
		t.Error("systemd-analyze security takes anything")
	}
}

// machine is a booted systemd.
type machine struct {
	t    *testing.T
	root string
	pid  int
}

// boot starts a systemd as the first process of a machine of its own, but for the network, which is that of
// the tests.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: installed(t)}
	for _, target := range []string{"sysinit", "basic", "multi-user", "timers", "shutdown", "network-online"} {
		m.unit(target+".target", "[Unit]\nDefaultDependencies=no\n")
	}
	m.unit("service.d/log.conf", "[Service]\nStandardOutput=append:/run/log\nStandardError=append:/run/log\n")

	cgroups := t.TempDir()
	if err := syscall.Mount("cgroup2", cgroups, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(cgroups, syscall.MNT_DETACH) })
	cgroup, err := os.MkdirTemp(cgroups, "dcs-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, cgroup) })

	cmd := exec.Command("testdata/systemd/boot.sh", m.root, cgroup)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	pid1 := start(t, cmd)
	m.pid = cmd.Process.Pid
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the units:\n%s", try1(t, m.command("cat", "/run/log")))
		}
		pid1.end(syscall.SIGKILL) // and with it all that it started
	})
	eventually(t, 2*time.Minute, "systemd", func() error {
		select {
		case <-pid1.done:
			t.Fatalf("systemd does not start here: %v\n%s", cmd.ProcessState, pid1.output.String())
		default:
		}
		if said := try1(t, m.command("systemctl", "is-system-running")); said != "running\n" {
			return fmt.Errorf("is-system-running: %s", said)
		}
		return nil
	})
	return m
}

// removeCgroup removes a cgroup and those below it, whose processes are about to end.
func removeCgroup(t *testing.T, cgroup string) {
	t.Helper()
	var below []string
	_ = filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			below = append(below, path)
		}
		return nil
	})
	for i := len(below) - 1; i >= 0; i-- {
		eventually(t, time.Minute, "empty cgroup", func() error { return syscall.Rmdir(below[i]) })
	}
}

func try1(t *testing.T, cmd *exec.Cmd) string {
	stdout, stderr, _ := try(t, cmd)
	return stdout + stderr
}

// unit writes a unit, or a drop-in of one.
func (m *machine) unit(name, text string) {
	m.t.Helper()
	file := filepath.Join(m.root, "etc/systemd/system", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	writeFile(m.t, file, text)
}

// command is what root types on the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--all", "--root", "--wd"},
		args...)...)
}

func (m *machine) run(args ...string) string {
	m.t.Helper()
	return run(m.t, m.command(args...))
}

func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("systemctl", "show", "--value", "--property", name, unit))
}

// wants fails when a property of a unit has another value.
func (m *machine) wants(unit, name, value string) {
	m.t.Helper()
	if got := m.property(unit, name); got != value {
		m.t.Errorf("%s of %s is %q, want %q", name, unit, got, value)
	}
}

const onMachine = "127.0.0.1:5000"

func as(user, password string) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: user, Password: password})
}

// The units do what docs/operations.md says, under a real systemd with all its confinement.
func TestSystemd(t *testing.T) {
	m := boot(t)
	writeFile(t, filepath.Join(m.root, "etc/default/dcs"), "DCS_CACHE_GRACE=1s\n")

	// Nobody could log in. That does not get better by trying again.
	if _, _, code := try(t, m.command("systemctl", "start", "dcs")); code == 0 {
		t.Error("dcs.service starts without a user")
	}
	m.wants("dcs", "ActiveState", "failed")
	m.wants("dcs", "ExecMainStatus", "2")
	m.wants("dcs", "NRestarts", "0")

	run(t, withStdin("s3cret\n", m.command("dcs", "users", "add", "ci", "--password-stdin")))
	m.run("systemctl", "enable", "--now", "dcs", "dcs-gc.timer")
	m.wants("dcs", "ActiveState", "active")
	m.wants("dcs-gc.timer", "ActiveState", "active")
	image := newImage(t, 1<<20)
	first := pushImage(t, onMachine+"/app:v1", image, as("ci", "s3cret")) // at once: active means that it answers
	eventually(t, time.Minute, "status text", func() error {
		if got := m.property("dcs", "StatusText"); got != "serving" {
			return fmt.Errorf("StatusText is %q", got)
		}
		return nil
	})
	m.confined("dcs")

	// Root looks and changes; the server is not locked out.
	if listed := m.run("dcs", "inspect", "--images"); !strings.Contains(listed, "v1") {
		t.Errorf("dcs inspect as root does not list the image:\n%s", listed)
	}
	run(t, withStdin("hunter2\n", m.command("dcs", "users", "add", "bob", "--password-stdin")))
	mustPull(t, onMachine+"/app:v1", first, as("bob", "hunter2"))
	m.run("dcs", "gc")
	m.run("systemctl", "start", "dcs-gc") // beside the server
	m.wants("dcs-gc", "Result", "success")
	pushImage(t, onMachine+"/app:v2", newImage(t, 1<<10), as("ci", "s3cret"))
	m.owned()

	// Settings are read again, and who reads the log may go away, without a new process.
	pid := m.property("dcs", "MainPID")
	m.run("systemctl", "reload", "dcs")
	m.run("systemctl", "kill", "--signal", "PIPE", "dcs")
	m.run("systemctl", "kill", "--signal", "HUP", "dcs")
	mustPull(t, onMachine+"/app:v1", first, as("bob", "hunter2"))
	m.wants("dcs", "MainPID", pid)
	m.wants("dcs", "ActiveState", "active")

	m.run("systemctl", "restart", "dcs")
	mustPull(t, onMachine+"/app:v1", first, as("bob", "hunter2"))
	m.run("systemctl", "stop", "dcs")
	m.wants("dcs", "Result", "success")
	m.run("systemctl", "start", "dcs-gc") // without one
	m.wants("dcs-gc", "Result", "success")
	m.owned()

	// Settings are for both: the server leaves it to the other unit, which knows the ttl too.
	writeFile(t, filepath.Join(m.root, "etc/default/dcs"),
		"DCS_CACHE_TTL=2s\nDCS_CACHE_GRACE=1s\nDCS_CACHE_CLEANUP_INTERVAL=0\n")
	m.run("systemctl", "start", "dcs")
	blobs := blobsOf(t, m.data(), image)
	eventually(t, time.Minute, "end of the image", func() error {
		m.run("systemctl", "start", "dcs-gc")
		// more than five starts in ten seconds are refused
		_, _, _ = try(t, m.command("systemctl", "reset-failed", "dcs-gc"))
		return stillThere(blobs)
	})
	m.owned()
}

// A transfer in flight has server.drain_timeout, whatever TimeoutStopSec says.
func TestSystemdWaitsForTheDrain(t *testing.T) {
	m := boot(t)
	m.unit("dcs.service.d/short.conf", "[Service]\nTimeoutStopSec=1s\nEnvironment=DCS_AUTH_ENABLED=false\n")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "start", "dcs")

	resp, err := http.Post("http://"+onMachine+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	half := make([]byte, 1<<20)
	_, _ = rand.Read(half) // never fails
	body, client := io.Pipe()
	location, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	patch, err := http.NewRequest(http.MethodPatch, location.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	patch.Header.Set("Expect", "100-continue") // so no byte goes out before the server is in the middle of it
	answer := make(chan error, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}).Do(patch)
		if err == nil && resp.StatusCode != http.StatusAccepted {
			err = fmt.Errorf("PATCH: %s", resp.Status)
		}
		answer <- err
	}()
	if _, err := io.Copy(client, bytes.NewReader(half)); err != nil {
		t.Fatal(err)
	}
	stop := start(t, m.command("systemctl", "stop", "dcs"))
	eventually(t, time.Minute, "stop", func() error {
		if got := m.property("dcs", "ActiveState"); got != "deactivating" {
			return fmt.Errorf("ActiveState is %s", got)
		}
		return nil
	})
	time.Sleep(3 * time.Second) // longer than TimeoutStopSec
	if _, err := io.Copy(client, bytes.NewReader(half)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-answer; err != nil {
		t.Errorf("the transfer in flight was cut: %v", err)
	}
	<-stop.done
	m.wants("dcs", "Result", "success")
	m.wants("dcs", "ExecMainStatus", "0")
}

// What docs/operations.md lets people change, by the drop-ins that it shows.
func TestSystemdOverrides(t *testing.T) {
	for name, prepare := range map[string]func(m *machine) (dir string){
		"a directory that root made before": func(m *machine) string {
			m.run("install", "-d", "/var/cache/docker-cache-server")
			return "/var/cache/docker-cache-server"
		},
		"a disk of its own": func(m *machine) string {
			m.run("install", "-d", "-m", "700", "/var/cache/private")
			m.run("install", "-d", "/var/cache/private/docker-cache-server")
			m.run("mount", "-t", "tmpfs", "tmpfs", "/var/cache/private/docker-cache-server")
			return "/var/cache/private/docker-cache-server"
		},
		"another place, and a user that stays": func(m *machine) string {
			m.run("useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "dcs")
			m.run("install", "-d", "-o", "dcs", "-g", "dcs", "/srv/registry")
			writeFile(m.t, filepath.Join(m.root, "etc/default/dcs"), "DCS_STORAGE_DIRECTORY=/srv/registry\n")
			const place = "[Service]\nDynamicUser=no\nCacheDirectory=\nReadWritePaths=/srv/registry\n"
			m.unit("dcs.service.d/place.conf", place)
			m.unit("dcs-gc.service.d/place.conf", place)
			return "/srv/registry"
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := boot(t)
			dir := prepare(m)
			run(t, withStdin("s3cret\n", m.command("dcs", "users", "add", "ci", "--password-stdin",
				"--storage.directory", dir)))
			m.run("systemctl", "daemon-reload")
			m.run("systemctl", "start", "dcs")
			image := pushImage(t, onMachine+"/app:v1", newImage(t, 1<<10), as("ci", "s3cret"))
			m.run("systemctl", "start", "dcs-gc")
			mustPull(t, onMachine+"/app:v1", image, as("ci", "s3cret"))
			m.confined("dcs")
			m.run("test", "-d", dir+"/docker/registry/v2/repositories/app")
			if foreign := m.run("find", dir+"/", "-user", "0"); foreign != "" {
				t.Errorf("the service's files belong to root:\n%s", foreign)
			}
		})
	}
}

// A key that only root may read is handed to the service as a credential, and one capability is enough for
// the port of HTTPS.
func TestSystemdOnThePortOfHTTPS(t *testing.T) {
	m := boot(t)
	certificate := selfSigned(t, filepath.Join(m.root, "etc/ssl"))
	m.run("chmod", "600", "/etc/ssl/key.pem")
	m.unit("dcs.service.d/tls.conf", "[Service]\nLoadCredential=key.pem:/etc/ssl/key.pem\nEnvironment=DCS_SERVER_TLS_KEY=%d/key.pem\n")
	m.unit("dcs.service.d/port.conf", "[Service]\nPrivateUsers=no\n"+
		"CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n")
	writeFile(t, filepath.Join(m.root, "etc/default/dcs"),
		"DCS_SERVER_TLS_CERTIFICATE=/etc/ssl/cert.pem\nDCS_SERVER_PORT=443\nDCS_AUTH_ENABLED=false\n")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "start", "dcs")

	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	resp, err := client.Get("https://127.0.0.1/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /v2/ over TLS: %s", resp.Status)
	}
}

// data is the directory of dcs.service, as the tests see it.
func (m *machine) data() string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root/var/cache/private/docker-cache-server")
}

// confined fails unless the kernel confines the service as the unit says.
func (m *machine) confined(unit string) {
	m.t.Helper()
	status := m.run("cat", "/proc/"+m.property(unit, "MainPID")+"/status")
	fields := map[string]string{}
	for _, line := range strings.Split(status, "\n") {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	for name, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapBnd": "0000000000000000",
		"CapEff": "0000000000000000"} {
		if fields[name] != want {
			m.t.Errorf("%s of the service is %q, want %q", name, fields[name], want)
		}
	}
	if strings.HasPrefix(fields["Uid"], "0 ") {
		m.t.Error("the service runs as root")
	}
}

// owned fails when something in the data directory does not belong to the owner of the directory, who must
// not be root.
func (m *machine) owned() {
	m.t.Helper()
	foreign := m.run("sh", "-c", `cd /var/cache/private/docker-cache-server && find . ! -user "$(stat -c %u .)" -o -user 0`)
	if foreign != "" {
		m.t.Errorf("files of somebody else in the data directory:\n%s", foreign)
	}
}
