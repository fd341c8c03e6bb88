//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestRootFollowsNoLinkOutOfADirectory runs the commands as root on a directory whose owner put a link to root's
// own files at one of the places where dcs writes, empties or removes. Whatever the commands answer: what is
// root's stays as it is.
func TestRootFollowsNoLinkOutOfADirectory(t *testing.T) {
	store := ownedStore(t)
	repository := "docker/registry/v2/repositories/app"
	for _, link := range []struct{ at, to string }{
		{".metadata", ""}, {".metadata/trash", ""}, {".metadata/tmp", ""}, {".metadata/quarantine",
			""}, {".metadata/index.db.broken", ""},
		{"docker", ""}, {"docker/registry/v2/blobs", ""}, {repository, ""}, {repository + "/_uploads",
			""}, {repository + "/_manifests/tags/v1", ""},
		{".metadata/htpasswd", "file"}, {".metadata/htpasswd", "new"}, {".metadata/htpasswd.lock",
			"file"}, {".metadata/htpasswd.lock", "new"},
		{".metadata/lock", "file"}, {".metadata/lock", "new"}, {".metadata/gc.lock", "file"}, {".metadata/gc.lock",
			"new"},
		{".metadata/index.db", "file"}, {".metadata/index.db", "new"}, {".metadata/index.db-wal",
			"file"}, {".metadata/index.db-wal", "new"},
		{".metadata/index.db-shm", "file"}, {".metadata/ballast", "file"}, {".metadata/ballast", "new"},
		{".metadata/secret", "file"}, {".metadata/secret", "new"},
	} {
		t.Run(strings.ReplaceAll(link.at, "/", " ")+" to "+link.to, func(t *testing.T) {
			home := tempDir(t)
			victim, dir := filepath.Join(home, "victim"), filepath.Join(home, "data")
			run(t, exec.Command("cp", "-a", store, dir))
			rootsOwn(t, victim)
			at := filepath.Join(dir, link.at)
			if err := errors.Join(os.RemoveAll(at), os.Symlink(filepath.Join(victim, link.to), at),
				os.Lchown(at, owner, owner)); err != nil {
				t.Fatal(err)
			}
			before := everything(t, victim)
			dcs := foreignCommand(t, home, dir)
			for _, args := range [][]string{{"inspect", "--check", "--deep"}, {"gc", "--ttl", "1s", "--grace", "1s"},
				{"gc", "--repair", "--ttl", "1s", "--grace", "1s"}, {"users", "remove", "alice"}, {"users", "add",
					"bob", "--password-stdin"}} {
				_, _, _ = try(t, withStdin("hunter2\n", dcs(0, args...)))
			}
			addr, serve := foreignServe(t, dcs, 0)
			server := start(t, serve)
			for server.running() && answer(addr) != nil {
				time.Sleep(20 * time.Millisecond)
			}
			server.end(syscall.SIGTERM)
			if after := everything(t, victim); !slices.Equal(before, after) {
				t.Errorf("what is root's was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

// running says whether a program has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ownedStore is a data directory of a user who is not root, with an image that has expired, and a user.
func ownedStore(t *testing.T) (dir string) {
	t.Helper()
	home := tempDir(t)
	dir = filepath.Join(home, "data")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, owner, owner)); err != nil {
		t.Fatal(err)
	}
	dcs := foreignCommand(t, home, dir)
	run(t, withStdin("s3cret\n", dcs(owner, "users", "add", "alice", "--password-stdin")))
	addr, serve := foreignServe(t, dcs, owner)
	serve.Args = append(serve.Args, "--cache.ttl", "1s", "--cache.grace", "1s", "--cache.cleanup_interval", "0",
		"--debug.address", "")
	server := startServer(t, addr, time.Minute, serve)
	pushImage(t, addr+"/app:v1", newImage(t, 1<<10), remote.WithAuth(&authn.Basic{Username: "alice",
		Password: "s3cret"}))
	server.stop(t)
	return dir
}

// rootsOwn makes a directory of root's, with old files in it: anybody may look, and nobody else may change it.
func rootsOwn(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"file", "6ba7b810-9dad-11d1-80b4-00c04fd430c8/data", "current/link"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("root's own\n"), 0o644),
			os.Chtimes(path, old, old), os.Chtimes(filepath.Dir(path), old, old)); err != nil {
			t.Fatal(err)
		}
	}
}

// everything describes all that is below a directory: names, contents, rights, owners, times.
func everything(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		var text []byte
		if fi.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		st := fi.Sys().(*syscall.Stat_t)
		lines = append(lines, fmt.Sprintf("%s %v %d:%d %v %q", strings.TrimPrefix(path, dir), fi.Mode(), st.Uid, st.Gid,
			fi.ModTime(), text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestRootServesForAnOwnerWithWhatOnlyRootMayUse: a port below 1024, a key and users that only root can read, and
// what becomes of them while it serves. What is made belongs to the owner all the same, who has no say over the
// process.
func TestRootServesForAnOwnerWithWhatOnlyRootMayUse(t *testing.T) {
	dir, secrets := ownedStore(t), filepath.Join(t.TempDir(), "secrets")
	if err := os.Mkdir(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	htpasswd := filepath.Join(secrets, "htpasswd")
	cert, key := filepath.Join(secrets, "cert.pem"), filepath.Join(secrets, "key.pem")
	serial := func(n int64) { writePair(t, cert, key, n) }
	serial(1)
	home := filepath.Dir(dir)
	dcs := foreignCommand(t, home, dir)
	add := func(name string) {
		t.Helper()
		run(t, withStdin("s3cret\n", dcs(0, "users", "add", name, "--password-stdin", "--auth.htpasswd", htpasswd)))
	}
	add("carol")
	server := start(t, dcs(0, "serve", "--server.address", "127.0.0.1", "--server.port", "443", "--debug.address",
		"127.0.0.1:1001",
		"--server.tls.certificate", cert, "--server.tls.key", key, "--auth.htpasswd", htpasswd))
	// a certificate of its own making
	client := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	wants := func(user string, status int, serial int64) {
		t.Helper()
		eventually(t, time.Minute, "answer", func() error {
			if !server.running() {
				t.Fatalf("it ended: %v\n%s", server.cmd.ProcessState, server.output.String())
			}
			req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1/v2/", nil)
			if err != nil {
				return err
			}
			req.SetBasicAuth(user, "s3cret")
			resp, err := client.RoundTrip(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if got := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); resp.StatusCode != status || got != serial {
				return fmt.Errorf("%d to %s by certificate %d, want %d by %d", resp.StatusCode, user, got, status,
					serial)
			}
			return nil
		})
	}
	wants("carol", http.StatusOK, 1)
	wants("alice", http.StatusUnauthorized, 1) // who is in the other file
	add("dave")
	serial(2)
	wants("dave", http.StatusOK, 2)

	as := remote.WithAuth(&authn.Basic{Username: "carol", Password: "s3cret"})
	image := newImage(t, 1<<10)
	if err := remote.Write(reference(t, "127.0.0.1:443/app:v2"), image, as, remote.WithTransport(client)); err != nil {
		t.Fatal(err)
	}
	wantOwner(t, dir)
	for _, thread := range threads(t, server.cmd.Process.Pid) {
		if thread.uids != "0 12345 0 12345" || thread.gids != "0 12345 0 12345" || thread.groups != "12345" ||
			thread.rights != "0000000000000000" {
			t.Errorf("a thread has %+v", thread)
		}
	}
	kill := exec.Command("/bin/kill", fmt.Sprint(server.cmd.Process.Pid))
	kill.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner, Gid: owner}}
	if _, _, code := try(t, kill); code == 0 {
		t.Error("the owner of the directory can end root's process")
	}
	server.stop(t)
}

// thread is what the kernel says of one: ids real, effective, saved, for files.
type thread struct{ uids, gids, groups, rights string }

func threads(t *testing.T, pid int) (all []thread) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d threads, %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var th thread
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			if into := map[string]*string{"Uid": &th.uids, "Gid": &th.gids, "Groups": &th.groups,
				"CapEff": &th.rights}[name]; into != nil {
				*into = strings.Join(strings.Fields(value), " ")
			}
		}
		all = append(all, th)
	}
	return all
}

// writePair writes a certificate for 127.0.0.1 and its key, which only root can read.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	public, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public},
		key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootWorksInADirectoryThatItsOwnerCannotReach, as systemd makes them for a DynamicUser. Links out of it lead
// nowhere there, too.
func TestRootWorksInADirectoryThatItsOwnerCannotReach(t *testing.T) {
	home := tempDir(t)
	private := filepath.Join(home, "private")
	victim, dir := filepath.Join(home, "victim"), filepath.Join(private, "data")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("cp", "-a", ownedStore(t), dir))
	dcs := foreignCommand(t, home, dir)
	if _, _, code := try(t, dcs(owner, "inspect")); code == 0 {
		t.Fatal("the owner can reach the directory")
	}
	if said := run(t, dcs(0, "inspect", "--tags")); !strings.Contains(said, "v1") {
		t.Errorf("dcs inspect says\n%s", said)
	}
	run(t, withStdin("hunter2\n", dcs(0, "users", "add", "bob", "--password-stdin")))
	run(t, dcs(0, "gc", "--dry-run"))
	run(t, dcs(0, "gc", "--repair"))
	addr, serve := foreignServe(t, dcs, 0)
	server := startServer(t, addr, time.Minute, serve)
	pushImage(t, addr+"/app:v2", newImage(t, 1<<10), remote.WithAuth(&authn.Basic{Username: "bob",
		Password: "hunter2"}))
	server.stop(t)
	wantOwner(t, dir)

	rootsOwn(t, victim)
	before := everything(t, victim)
	for _, at := range []string{".metadata/trash", ".metadata/htpasswd",
		"docker/registry/v2/repositories/app/_uploads"} {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, at)),
			os.Symlink(victim, filepath.Join(dir, at))); err != nil {
			t.Fatal(err)
		}
	}
	_, _, _ = try(t, dcs(0, "gc"))
	_, _, _ = try(t, withStdin("hunter2\n", dcs(0, "users", "add", "bob", "--password-stdin")))
	if after := everything(t, victim); !slices.Equal(before, after) {
		t.Errorf("what is root's was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}
