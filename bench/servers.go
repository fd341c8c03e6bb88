package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/bench/process"
)

// server is a program that answers.
type server struct {
	proc  *process.Process
	addr  string
	tls   *tls.Config // of its clients; nil: it speaks no TLS
	debug string      // of dcs
	clean bool        // it must end with 0
}

func (s *server) stop() error {
	if code := s.proc.Stop(); code != 0 && s.clean {
		return fmt.Errorf("exit code %d after SIGTERM\n%s", code, s.proc.Output())
	}
	return nil
}

// end stops a server that one row used. It is deferred.
func (s *server) end(err *error) { *err = errors.Join(*err, s.stop()) }

// freeAddr returns an address of the loopback interface on which no process listens.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// started waits until a server takes connections.
func started(cmd *exec.Cmd, addr string) (*server, error) {
	p, err := process.Start(cmd)
	if err != nil {
		return nil, err
	}
	err = p.Await(30*time.Second, func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &server{proc: p, addr: addr}, nil
}

// command is the command that serves a directory. The cleaner is off: what it would do is measured by itself.
func (p program) command(dir string, flags ...string) (cmd *exec.Cmd, addr, debug string, err error) {
	if addr, err = freeAddr(); err != nil {
		return nil, "", "", err
	}
	if debug, err = freeAddr(); err != nil {
		return nil, "", "", err
	}
	host, port, _ := net.SplitHostPort(addr)
	args := []string{"serve", "--storage.directory", dir, "--server.address", host, "--server.port", port,
		"--debug.address", debug,
		"--log.access=false", "--cache.cleanup_interval", "0"}
	return exec.Command(p.path, append(args, flags...)...), addr, debug, nil
}

const open = "--auth.enabled=false"

// serve serves a directory, and returns once the server has nothing to do any more: its index is compared with the
// disk.
func (b *bench) serve(p program, dir string, flags ...string) (*server, error) {
	cmd, addr, debug, err := p.command(dir, flags...)
	if err != nil {
		return nil, err
	}
	s, err := started(cmd, addr)
	if err != nil {
		return nil, err
	}
	s.debug, s.clean = debug, true
	return s, s.proc.Settle(time.Second, 10*time.Minute)
}

// indexed is what the log says of a comparison that is done, in the words of this version and of earlier ones.
var indexed = regexp.MustCompile("index (matches|is in line with) the disk")

// awaitIndex returns when the index is compared with the disk.
func (s *server) awaitIndex() error {
	return s.proc.Await(time.Hour, func() error {
		if !indexed.MatchString(s.proc.Output()) {
			return errors.New("no index yet")
		}
		return nil
	})
}

const stockConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: DIRECTORY}
  delete: {enabled: true}
  cache: {blobdescriptor: inmemory}
http: {addr: "ADDRESS", secret: bench}
`

// stockConfigFile configures the stock registry as its documentation does, with its cache of descriptors.
func (b *bench) stockConfigFile(dir, addr, more string) (string, error) {
	f, err := os.CreateTemp(b.Dir, "registry-*.yml")
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = strings.NewReplacer("DIRECTORY", dir, "ADDRESS", addr).WriteString(f, stockConfig+more)
	return f.Name(), err
}

func (b *bench) stockCommand(dir, more string) (cmd *exec.Cmd, addr string, err error) {
	if addr, err = freeAddr(); err != nil {
		return nil, "", err
	}
	config, err := b.stockConfigFile(dir, addr, more)
	return quiet(exec.Command(b.Registry, "serve", config)), addr, err
}

// quiet keeps distribution from writing every span into its log.
func quiet(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	return cmd
}

func (b *bench) stock(dir, more string) (*server, error) {
	cmd, addr, err := b.stockCommand(dir, more)
	if err != nil {
		return nil, err
	}
	return started(cmd, addr)
}

// olaregCommand serves a directory with olareg, a small registry that syncs nothing. Its garbage collection is off.
func (b *bench) olaregCommand(dir string) (cmd *exec.Cmd, addr string, err error) {
	if addr, err = freeAddr(); err != nil {
		return nil, "", err
	}
	host, port, _ := net.SplitHostPort(addr)
	args := []string{"serve", "--addr", host, "--port", port, "--dir", dir, "--gc-frequency", "-1s"}
	return exec.Command(b.Olareg, args...), addr, nil
}

// nginxConfig serves blob files by the addresses that a registry gives them.
const nginxConfig = `
daemon off;
user root;
worker_processes WORKERS;
pid nginx.pid;
events {}
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  default_type application/octet-stream;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; 
  scgi_temp_path scgi;
  server {
    listen ADDRESS;
    SECURE
    location ~ "^/v2/.+/blobs/sha256:((..).*)$" { alias DIRECTORY/docker/registry/v2/blobs/sha256/$2/$1/data; }
  }
}
`

// nginx serves with TLS if there is a certificate.
func (b *bench) nginx(dir string, secure *certificate) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	prefix, err := os.MkdirTemp(b.Dir, "nginx-")
	if err != nil {
		return nil, err
	}
	listen, files := addr, ""
	if secure != nil {
		listen += " ssl"
		files = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3;", secure.cert,
			secure.key)
	}
	config := strings.NewReplacer("DIRECTORY", dir, "ADDRESS", listen, "WORKERS", "2", "SECURE",
		files).Replace(nginxConfig)
	if err := os.WriteFile(filepath.Join(prefix, "nginx.conf"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	return started(exec.Command(b.Nginx, "-p", prefix, "-c", "nginx.conf", "-e", "stderr"), addr)
}

// bareVerb makes this program the handler that nothing can be faster than.
const bareVerb = "bare"

func bareHandler() http.Handler {
	body := make([]byte, smallBlob)
	length := strconv.Itoa(len(body))
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body) // the client counts
	})
}

func bare() (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return started(exec.Command(self, bareVerb, addr), addr)
}

// The one who may log in.
const user, password = "bench", "correct horse battery staple"

// htpasswd writes a file with that user, with a bcrypt hash of cost 10.
func (b *bench) htpasswd() (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), 10)
	if err != nil {
		return "", err
	}
	name := filepath.Join(b.Dir, "htpasswd")
	return name, os.WriteFile(name, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600)
}
