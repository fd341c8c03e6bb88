//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/users/userstest"
)

// TestTheUsersFileIsApachesToo lets dcs and Apache's htpasswd edit one file in turn, and a stock registry read
// it: each knows the users of the other, and comments and the order of lines stay.
func TestTheUsersFileIsApachesToo(t *testing.T) {
	dir := tempDir(t)
	file := writeFile(t, filepath.Join(dir, "htpasswd"), "# of the team\n\n")
	add := func(name, password string) {
		t.Helper()
		run(t, withStdin(password+"\n", exec.Command(dcsBin, "users", "add", name, "--password-stdin",
			"--auth.htpasswd", file)))
	}
	add("by-dcs", "one")
	run(t, exec.Command("htpasswd", "-B", "-b", file, "by-apache", "two"))
	add("later", "three")
	add("by-apache", "four") // changes what Apache wrote, in its place
	run(t, exec.Command("htpasswd", "-D", file, "later"))
	add("last", "five")

	users := map[string]string{"by-dcs": "one", "by-apache": "four", "last": "five"}
	for name, password := range users {
		run(t, exec.Command("htpasswd", "-v", "-b", file, name, password))
		if _, _, code := try(t, exec.Command("htpasswd", "-v", "-b", file, name, "wrong")); code == 0 {
			t.Errorf("htpasswd takes a wrong password of %s", name)
		}
	}
	if got := run(t, exec.Command(dcsBin, "users", "list", "--auth.htpasswd",
		file)); got != "by-dcs\nby-apache\nlast\n" {
		t.Errorf("dcs lists %q", got)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "# of the team\n\nby-dcs:") {
		t.Errorf("%v\n%s", err, text)
	}

	for _, addr := range serveUsers(t, file) {
		for name, password := range users {
			if got := login(t, addr, name, password); got != http.StatusOK {
				t.Errorf("%s as %s: %d", addr, name, got)
			}
			if got := login(t, addr, name, "wrong"); got != http.StatusUnauthorized {
				t.Errorf("%s as %s with a wrong password: %d", addr, name, got)
			}
		}
	}
}

// TestStockRegistryAgreesOnLogins asks a stock registry and dcs for the logins of userstest: both serve one users file,
// that another program made and to which dcs added users.
func TestStockRegistryAgreesOnLogins(t *testing.T) {
	shared, err := userstest.Read()
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, filepath.Join(tempDir(t), "htpasswd"), shared.File)
	for _, u := range shared.Added {
		run(t, withStdin(u.Password+"\n", exec.Command(dcsBin, "users", "add", u.Name, "--password-stdin",
			"--auth.htpasswd", file)))
	}
	for registry, addr := range serveUsers(t, file) {
		for _, l := range shared.Logins {
			want := http.StatusUnauthorized
			if l.In {
				want = http.StatusOK
			}
			if got := login(t, addr, l.Name, l.Password); got != want {
				t.Errorf("%s: %s: got %d, want %d", registry, l.Desc, got, want)
			}
		}
	}
}

// serveUsers starts a stock registry and a dcs that let in the users of one file. It returns their addresses by the
// names "stock" and "dcs".
func serveUsers(t *testing.T, file string) map[string]string {
	t.Helper()
	stock, own := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	config := writeFile(t, filepath.Join(t.TempDir(), "stock.yml"), fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: %s}}
http: {addr: %q}
auth: {htpasswd: {realm: stock, path: %s}}
`, t.TempDir(), stock, file))
	startServer(t, stock, time.Minute, exec.Command(stockRegistryBin, "serve", config))
	_, port, err := net.SplitHostPort(own)
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, own, time.Minute, exec.Command(dcsBin, "serve", "--storage.directory",
		filepath.Join(tempDir(t), "dcs"), "--auth.htpasswd", file,
		"--server.address", "127.0.0.1", "--server.port", port, "--debug.address", ""))
	return map[string]string{"stock": stock, "dcs": own}
}

func login(t *testing.T, addr, name, password string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(name, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
