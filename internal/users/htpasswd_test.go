package users

import (
	"bufio"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/jc-lab/docker-cache-server/internal/credential"
	"github.com/jc-lab/docker-cache-server/internal/users/userstest"
)

// TestLoginsAreThoseOfDistribution tries the logins of userstest. That their answers are also those of distribution
// v3.1.2 is what TestStockRegistryAgreesOnLogins in e2e tests: it asks the stock registry for the same logins.
func TestLoginsAreThoseOfDistribution(t *testing.T) {
	shared, err := userstest.Read()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	write(t, path, shared.File)
	for _, u := range shared.Added {
		if _, err := Open(path).Add(u.Name, u.Password, bcrypt.MinCost); err != nil {
			t.Fatal(err)
		}
	}
	v := newVerifier(t, VerifierOptions{Path: path})
	for _, login := range shared.Logins {
		if got := v.Verify(t.Context(), "client", login.Name, login.Password); got != login.In {
			t.Errorf("%s: got %v, want %v", login.Desc, got, login.In)
		}
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
