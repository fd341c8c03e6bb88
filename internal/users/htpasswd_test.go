package users

import (
	"bufio"
	"errors"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/auth"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/credential"
)

func TestDistributionAgrees(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	write(t, path, "# stock\r\n\r\nolder:"+hashOf(t, "first")+"\r\nolder:"+hashOf(t, "last")+":a field\r\nsha:{SHA}x")
	f := Open(path)
	for name, password := range map[string]string{
		"bob": "secret", "zoë": "pässwörd", "long": strings.Repeat("x", 72),
	} {
		if _, err := f.Add(name, password, bcrypt.MinCost); err != nil {
			t.Fatal(err)
		}
	}
	stock, err := auth.GetAccessController("htpasswd", map[string]any{"realm": "test", "path": path})
	if err != nil {
		t.Fatal(err)
	}
	ours := newVerifier(t, VerifierOptions{Path: path})

	for _, tc := range []struct {
		desc, name, password string
		want                 bool
	}{
		{"an added user is in", "bob", "secret", true},
		{"in any script", "zoë", "pässwörd", true},
		{"with the longest password", "long", strings.Repeat("x", 72), true},
		{"a wrong password is out", "bob", "Secret", false},
		{"an unknown user is out", "eve", "secret", false},
		{"another hash is out", "sha", "x", false},
		{"the last of two lines counts", "older", "last", true},
		{"the first of two lines does not", "older", "first", false},
	} {
		t.Run(tc.desc, func(t *testing.T) {
			request := httptest.NewRequest("GET", "/v2/", nil)
			request.SetBasicAuth(tc.name, tc.password)
			if _, err := stock.Authorized(request); (err == nil) != tc.want {
				t.Errorf("distribution: %v, want in: %v", err, tc.want)
			}
			if got := ours.Verify(t.Context(), "client", tc.name, tc.password); got != tc.want {
				t.Errorf("dcs: %v, want %v", got, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# c\n\nbob:$2y$04$x\nalice:{SHA}y\n", "bob")
	f.Add("bob:1\r\nbob:2\r\n", "carol")
	f.Add(":\n::\n:a\nno colon\n \t\n#", "a")
	f.Add("\ufeffbob:1\x00\r\r\n a : b \v\nx:\xff", "a ")
	f.Fuzz(func(t *testing.T, text, name string) {
		before := parse(text)
		if before.text() != text {
			t.Fatalf("read %q and wrote %q", text, before.text())
		}
		if want, err := distributionReads(text); err == nil && !maps.Equal(before.hashes(), want) {
			t.Fatalf("%q: got %q, distribution has %q", text, before.hashes(), want)
		}
		if credential.CheckName(name) == nil {
			checkEdit(t, text, name)
		}
	})
}

// checkEdit states what an edit may change: the user in question, and a line break at the end of the file.
func checkEdit(t *testing.T, text, name string) {
	const hash = "$2y$04$hash"
	_, known := parse(text).hashes()[name]
	edited, replaced := parse(text).set(name, hash)
	if replaced != known {
		t.Fatalf("replaced %v, but known before: %v", replaced, known)
	}
	after := parse(edited.text())
	if got := after.hashes()[name]; got != hash {
		t.Fatalf("%q: hash of %q is %q after the edit", edited.text(), name, got)
	}
	if !slices.Equal(others(after, name), others(parse(text), name)) {
		t.Fatalf("%q became %q", text, edited.text())
	}
	removed, found := after.remove(name)
	if _, still := removed.hashes()[name]; !found || still {
		t.Fatalf("%q: %q could not be removed", after.text(), name)
	}
	if !slices.Equal(others(removed, name), others(parse(text), name)) {
		t.Fatalf("%q became %q", text, removed.text())
	}
}

// others returns the lines that are not of name, without their line breaks.
func others(t table, name string) []string {
	var lines []string
	for _, l := range t {
		if !l.is(name) {
			lines = append(lines, strings.TrimRight(l.raw, "\r\n"))
		}
	}
	return lines
}

// distributionReads is the parser of distribution v3.1.2 (registry/auth/htpasswd), less the empty name.
func distributionReads(text string) (map[string]string, error) {
	entries := map[string]string{}
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		t := strings.TrimSpace(scanner.Text())
		if len(t) < 1 || t[0] == '#' {
			continue
		}
		i := strings.Index(t, ":")
		if i < 0 || i >= len(t) {
			return nil, errors.New("invalid entry")
		}
		if i > 0 {
			entries[t[:i]] = t[i+1:]
		}
	}
	return entries, scanner.Err()
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := newHash(password, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
