//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// How a client reaches the registry of its scenario.
const (
	overHTTP  = "over HTTP"
	withLogin = "over HTTP with a login"
	overTLS   = "over TLS with a login"
)

// Images of the scenarios are idle after clientTTL: long enough for the slowest client to use all of its own, and for a
// gc to begin then, in what is left of it.
const (
	clientTTL   = 12 * time.Second
	clientGrace = time.Second
	gcBegins    = 2 * time.Second
)

// What the documentation writes where a test has something of its own.
const (
	documentedHost = "registry.example.com"
	clientUser     = "ci"
	clientPassword = "s3cret"
)

// stage is where one scenario plays: a registry that nobody else uses, and the home of a user who never saw it.
type stage struct {
	t         *testing.T
	transport string
	dir       string // the registry's data directory
	addr      string // the registry, as a client writes it
	home      string // where commands run and clients keep what they know
	env       []string
	*cast
}

// newStage starts the registry of a scenario. source/app:v1 is in it, for clients that have no image of their own,
// and so that each has something to leave alone until it expires.
func newStage(t *testing.T, c *cast, transport string, port int) *stage {
	t.Helper()
	s := &stage{t: t, cast: c, transport: transport, dir: t.TempDir(), home: tempDir(t),
		addr: stageAddr(transport, port)}
	s.env = append(os.Environ(),
		"HOME="+s.home,
		"DOCKER_HOST="+c.docker.host, "DOCKER_CONFIG="+s.home+"/.docker", "DOCKER_BUILDKIT=0",
		"CONTAINERD_NAMESPACE="+filepath.Base(s.home),
		"XDG_RUNTIME_DIR="+s.home, // where podman, buildah and skopeo keep a login
		"COSIGN_PASSWORD=", "COSIGN_YES=true")
	s.serve(port)
	pushImage(t, s.addr+"/source/app:v1", s.image(), s.options()...)
	return s
}

// stageAddr is where the registry of a scenario listens: by a name and outside of 127.0.0.0/8 for TLS, because
// docker verifies no certificate in there.
func stageAddr(transport string, port int) string {
	host := "127.0.0.1"
	if transport == overTLS {
		host = stageHost
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func (s *stage) serve(port int) {
	s.t.Helper()
	serve := exec.Command(dcsBin, "serve", "--storage.directory", s.dir, "--debug.address", "", "--server.port",
		strconv.Itoa(port),
		"--cache.ttl", clientTTL.String(), "--cache.grace", clientGrace.String(), "--cache.cleanup_interval", "0")
	switch s.transport {
	case overTLS:
		serve.Args = append(serve.Args, "--server.address", stageIP, "--server.tls.certificate", s.certificate,
			"--server.tls.key", s.key)
	default:
		serve.Args = append(serve.Args, "--server.address", "127.0.0.1")
	}
	if s.transport == overHTTP {
		serve.Args = append(serve.Args, "--auth.enabled=false")
	} else {
		run(s.t, withStdin(clientPassword+"\n", exec.Command(dcsBin, "users", "add", clientUser, "--password-stdin",
			"--storage.directory", s.dir)))
	}
	server := start(s.t, serve)
	eventually(s.t, time.Minute, "registry at "+s.addr, func() error {
		select {
		case <-server.done:
			s.t.Fatalf("%v ended before it served: %v\n%s", serve, serve.ProcessState, server.output.String())
		default:
		}
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// options make go-containerregistry a client that the registry of this stage serves.
func (s *stage) options() []remote.Option {
	opts := []remote.Option{remote.WithContext(s.t.Context())}
	if s.transport == overTLS {
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM([]byte(readFile(s.t, s.ca)))
		opts = append(opts, remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}))
	}
	if s.transport != overHTTP {
		opts = append(opts, remote.WithAuth(&authn.Basic{Username: clientUser, Password: clientPassword}))
	}
	return opts
}

// image makes an image that runs: a program, and 1 MiB that no other image has.
func (s *stage) image() v1.Image {
	s.t.Helper()
	img, err := mutate.AppendLayers(empty.Image, s.layer("hello", []byte(readFile(s.t, s.hello))),
		s.layer("ballast", ballast(1<<20)))
	if err != nil {
		s.t.Fatal(err)
	}
	config := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Cmd: []string{"/hello"}}}
	was, err := img.ConfigFile()
	if err != nil {
		s.t.Fatal(err)
	}
	config.RootFS, config.History = was.RootFS, was.History
	if img, err = mutate.ConfigFile(img, &config); err != nil {
		s.t.Fatal(err)
	}
	return img
}

func (s *stage) layer(name string, content []byte) v1.Layer {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), name+".tar")
	writeFile(s.t, file, tarOf(s.t, name, content))
	layer, err := tarball.LayerFromFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return layer
}

func tarOf(t *testing.T, name string, content []byte) string {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.String()
}

func ballast(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

// write puts a file into the home of the user. Where the text is documented, use configure.
func (s *stage) write(name, content string) string {
	s.t.Helper()
	file := filepath.Join(s.home, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.t.Fatal(err)
	}
	return writeFile(s.t, file, content)
}

// project writes the folder of an image that is to be built. Each call changes what is in it.
func (s *stage) project(dockerfile string) {
	s.t.Helper()
	s.write("app/Dockerfile", dockerfile)
	s.write("app/ballast", string(ballast(1<<20)))
	s.write("app/hello", readFile(s.t, s.hello))
	if err := os.Chmod(filepath.Join(s.home, "app/hello"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

const copyOnly = "FROM scratch\nCOPY hello /hello\nCOPY ballast /ballast\nCMD [\"/hello\"]\n"

// sh runs a command line as docs/clients.md has it, for this registry, and returns all that it prints.
func (s *stage) sh(line string) string {
	s.t.Helper()
	s.played.add(line)
	out, code := s.attempt(line)
	if code != 0 {
		s.t.Fatalf("%s\nexit code %d\n%s", s.here(line), code, out)
	}
	return out
}

// attempt runs a command line whatever comes of it.
func (s *stage) attempt(line string) (printed string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute) // a client that hangs, or asks the user
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", s.here(line))
	cmd.Dir, cmd.Env = s.home, s.env
	cmd.WaitDelay = 5 * time.Second // a helper of a client may outlive it, and hold the pipe
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); cmd.ProcessState == nil {
		s.t.Fatalf("start %v: %v", cmd, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// refused wants a command line to fail for that reason.
func (s *stage) refused(reason *regexp.Regexp, line string) {
	s.t.Helper()
	if out, code := s.attempt(line); code == 0 || !reason.MatchString(out) {
		s.t.Errorf("%s\nexit code %d, want a failure that says %s\n%s", s.here(line), code, reason, out)
	}
}

// shows runs a command line and wants its output to have these words.
func (s *stage) shows(line string, words ...string) {
	s.t.Helper()
	out := s.sh(line)
	for _, word := range words {
		if !strings.Contains(out, word) {
			s.t.Errorf("%s\ndoes not show %q:\n%s", s.here(line), word, out)
		}
	}
}

// here is a documented text for the registry of this stage, and for the way that leads to it.
func (s *stage) here(text string) string {
	text = strings.NewReplacer(documentedHost+":5000", s.addr, documentedHost, s.addr, "PASSWORD",
		clientPassword).Replace(text)
	if s.transport == overHTTP {
		text = strings.ReplaceAll(text, "--user "+clientUser+":"+clientPassword+" ", "")
	}
	if s.transport != overTLS {
		for _, p := range plainHTTP {
			text = p.command.ReplaceAllString(text, "$0 "+p.flags)
		}
	}
	return text
}

// plainHTTP is what clients want to be told when a registry has no TLS, behind these words of their command lines.
// The others find out by themselves, at least for 127.0.0.1.
var plainHTTP = []struct {
	command *regexp.Regexp
	flags   string
}{
	{regexp.MustCompile(`\bdocker manifest (create|push|inspect)\b`), "--insecure"},
	{regexp.MustCompile(`\bskopeo (copy|sync)\b`), "--src-tls-verify=false --dest-tls-verify=false"},
	{regexp.MustCompile(`\bskopeo (login|inspect|list-tags|delete)\b`), "--tls-verify=false"},
	{regexp.MustCompile(`\b(podman|buildah) (login|push|pull|build|manifest push|manifest add)\b`),
		"--tls-verify=false"},
	{regexp.MustCompile(`\bctr images (push|pull)\b`), "--plain-http"},
	{regexp.MustCompile(`\boras cp\b`), "--from-plain-http --to-plain-http"},
	{regexp.MustCompile(
		`\boras (login|push|pull|attach|discover|repo tags|manifest delete|` +
			`manifest fetch|blob push|blob delete|tag)\b`), "--plain-http"},
	{regexp.MustCompile(`\bhelm (push|pull|show chart|registry login)\b`), "--plain-http"},
	{regexp.MustCompile(`\bcosign (sign|verify-attestation|verify|attest|tree)\b`), "--allow-http-registry"},
}

// configure writes a configuration file as docs/clients.md has it.
func (s *stage) configure(name, text string) {
	s.t.Helper()
	s.played.add(text)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, name, s.here(text))
}

var (
	untrusted   = regexp.MustCompile(`(?i)x509|certificate`)
	notLoggedIn = regexp.MustCompile(`(?i)unauthorized|authentication required|no basic auth|credential not found|401`)
)

// enters shows that the door is shut, by a command that must fail: to who does not know the registry's CA, and to who
// has not logged in, or with a wrong password. Then it opens.
func (s *stage) enters(command string, trust func(), login string) {
	s.t.Helper()
	if s.transport == overTLS {
		s.refused(untrusted, command)
		trust()
	}
	if s.transport != overHTTP {
		s.refused(notLoggedIn, command)
		_, _ = s.attempt(strings.ReplaceAll(login, "PASSWORD", "wrong")) // some clients do not ask the registry
		s.refused(notLoggedIn, command)
		s.sh(login)
	}
}

// trustByFile makes a program trust the CA as most of those in Go can be made to.
func (s *stage) trustByFile() { s.env = append(s.env, "SSL_CERT_FILE="+s.ca) }

// trustByFolder makes docker, or podman, buildah and skopeo, trust the CA: each has a folder with a folder for each
// registry in it.
func (s *stage) trustByFolder(certs string) func() {
	return func() {
		dir := filepath.Join(certs, s.addr)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
		writeFile(s.t, filepath.Join(dir, "ca.crt"), readFile(s.t, s.ca))
	}
}

// digest is what a reference means. To ask is a use.
func (s *stage) digest(ref string) string {
	s.t.Helper()
	desc, err := remote.Head(reference(s.t, s.addr+"/"+ref), s.options()...)
	if err != nil {
		s.t.Fatalf("HEAD of %s: %v", ref, err)
	}
	return desc.Digest.String()
}

// pulls uses an image, and nothing that refers to it.
func (s *stage) pulls(ref, dgst string) {
	s.t.Helper()
	want, err := v1.NewHash(dgst)
	if err != nil {
		s.t.Fatal(err)
	}
	mustPull(s.t, s.addr+"/"+ref, want, s.options()...)
}

// expires is the end of each scenario. What is gone, a repository or repository@digest, was not used for the ttl and
// goes by dcs gc, bytes and all. All others are used now, and stay, with all that belongs to them. Then they can be
// used once more, and the store is sound.
func (s *stage) expires(use func(), gone ...string) {
	s.t.Helper()
	stays := s.manifests()
	gone = append(gone, "source/app")
	for _, name := range gone {
		if !slices.ContainsFunc(stays, func(m string) bool { return isGone(m, []string{name}) }) {
			s.t.Fatalf("%s is not even there: %q", name, stays)
		}
	}
	stays = slices.DeleteFunc(stays, func(m string) bool { return isGone(m, gone) })
	if len(stays) == 0 {
		s.t.Fatal("nothing is to stay: no scenario")
	}

	eventually(s.t, 6*clientTTL, "plan to remove what is idle", func() error {
		return planned(s.gc("--dry-run"), gone)
	})
	var used time.Time
	eventually(s.t, 30*clientTTL, "end of what is idle", func() error {
		if time.Since(used) > clientTTL-gcBegins {
			used = time.Now()
			use()
			if took := time.Since(used); took > clientTTL-gcBegins {
				return fmt.Errorf("this machine is too slow now: to use the images takes %v", took)
			}
		}
		s.gc()
		return s.left(gone)
	})
	if got := s.manifests(); !slices.Equal(got, stays) {
		s.t.Errorf("after the expiry there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(stays, "\n"))
	}
	use()
	run(s.t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", s.dir))
}

func isGone(manifest string, gone []string) bool {
	return slices.ContainsFunc(gone, func(g string) bool { return manifest == g || strings.HasPrefix(manifest, g+"@") })
}

func (s *stage) gc(more ...string) (report gcReport) {
	s.t.Helper()
	args := append([]string{"gc", "--storage.directory", s.dir, "--format", "json",
		"--ttl", clientTTL.String(), "--grace", clientGrace.String()}, more...)
	out := run(s.t, exec.Command(dcsBin, args...))
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		s.t.Fatalf("%v in %s", err, out)
	}
	return report
}

// planned is nil when a gc would remove something of each repository that is to go.
func planned(plan gcReport, gone []string) error {
	for _, name := range gone {
		inPlan := func(i gcImage) bool { return i.Repository == name }
		if !strings.Contains(name, "@") && !slices.ContainsFunc(plan.Images, inPlan) {
			return fmt.Errorf("%s is not in the plan: %+v", name, plan.Images)
		}
	}
	return nil
}

// left is nil when nothing of what is gone is on the disk, nor a blob that no repository knows.
func (s *stage) left(gone []string) error {
	for _, m := range s.manifests() {
		if isGone(m, gone) {
			return fmt.Errorf("%s is left", m)
		}
	}
	for _, name := range gone {
		if strings.Contains(name, "@") {
			continue
		}
		if err := leftovers(s.dir, name); err != nil {
			return err
		}
	}
	linked := map[string]bool{}
	for _, file := range filesOf(s.t, filepath.Join(s.root(), "repositories")) {
		if filepath.Base(file) == "link" {
			linked[readFile(s.t, file)] = true
		}
	}
	for _, file := range filesOf(s.t, filepath.Join(s.root(), "blobs")) {
		hex := filepath.Dir(file)
		dgst := filepath.Base(filepath.Dir(filepath.Dir(hex))) + ":" + filepath.Base(hex)
		if !linked[dgst] {
			return fmt.Errorf("blob %s is left", dgst)
		}
	}
	return nil
}

func (s *stage) root() string { return filepath.Join(s.dir, "docker/registry/v2") }

// manifests lists all manifests on the disk as repository@digest, sorted.
func (s *stage) manifests() []string {
	s.t.Helper()
	repositories := filepath.Join(s.root(), "repositories")
	found := map[string]bool{}
	err := filepath.WalkDir(repositories, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != repositories {
			return nil // the server removes what is left of an upload beside its answers
		}
		if err != nil || entry.IsDir() {
			return err
		}
		repository, revision, ok := strings.Cut(strings.TrimPrefix(path, repositories+"/"), "/_manifests/revisions/")
		if ok {
			algorithm, rest, _ := strings.Cut(revision, "/")
			hex, _, _ := strings.Cut(rest, "/")
			found[repository+"@"+algorithm+":"+hex] = true
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
