package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// addUser runs dcs users add, which reads the password from standard input.
func addUser(dir, name, password string, args ...string) error {
	cmd := command(append([]string{"users", "add", name, "--password-stdin", "--storage.directory", dir}, args...)...)
	cmd.Stdin = strings.NewReader(password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("add %s: %w\n%s", name, err, out)
	}
	return nil
}

// Twenty processes that add at once, and some that remove, lose nobody; what else is in the file stays.
func TestManyEditTheUsersAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, ".metadata", "htpasswd")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	const before = "# of the team\n\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := addUser(dir, fmt.Sprint("old", i), "secret"); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := addUser(dir, fmt.Sprint("user", i), "secret"); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 5 {
		all.Go(func() {
			if code, _, stderr := dcs(t, "users", "remove", fmt.Sprint("old", i), "--storage.directory",
				dir); code != 0 {
				t.Errorf("remove: exit code %d\n%s", code, stderr)
			}
		})
	}
	all.Wait()
	_, out, _ := dcs(t, "users", "list", "--storage.directory", dir)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("user", i))
	}
	got := strings.Fields(out)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the file has %v, want %v", got, want)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), before) {
		t.Errorf("%v\n%s", err, text)
	}
}

// A running server follows within a second, whatever it remembers of a login.
func TestAServerFollowsItsUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := addUser(dir, "first", "one"); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, dir, "--auth.enabled=true")
	login := func(name, password string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.host+"/v2/", nil)
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
	follows := func(what, name, password string, want int) {
		t.Helper()
		edited := time.Now()
		for {
			asked := time.Now()
			got := login(name, password)
			if got == want {
				return
			}
			if asked.Sub(edited) > time.Second {
				t.Fatalf("%s: the server does not follow: login as %s is %d, want %d", what, name, got, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if got := login("second", "two"); got != http.StatusUnauthorized {
		t.Fatalf("a user that there is not: %d", got)
	}
	if err := addUser(dir, "second", "two"); err != nil {
		t.Fatal(err)
	}
	follows("added", "second", "two", http.StatusOK)
	if err := addUser(dir, "second", "three"); err != nil {
		t.Fatal(err)
	}
	follows("password changed", "second", "two", http.StatusUnauthorized)
	follows("password changed", "second", "three", http.StatusOK)
	if code, _, stderr := dcs(t, "users", "remove", "second", "--storage.directory", dir); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	follows("removed", "second", "three", http.StatusUnauthorized)
	if got := login("first", "one"); got != http.StatusOK {
		t.Errorf("the one who stays: %d", got)
	}
}

// Killed at any moment, users add leaves the file as it was, or as it was to be.
func TestAKilledEditLeavesAWholeFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, ".metadata", "htpasswd")
	if err := addUser(dir, "stays", "secret"); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		cmd := command("users", "add", fmt.Sprint("user", i), "--password-stdin", "--storage.directory", dir)
		cmd.Stdin = strings.NewReader("secret\n")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rnd.IntN(120)) * time.Millisecond)
		err := errors.Join(cmd.Process.Kill())
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, or done
		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(after) != string(before) && !(strings.HasPrefix(string(after), string(before)) &&
			strings.HasPrefix(string(after[len(before):]), fmt.Sprintf("user%d:$2y$10$", i)) &&
			len(after)-len(before) == len(fmt.Sprintf("user%d:", i))+60+1) {
			t.Fatalf("after kill %d the file is\n%s\nand it was\n%s", i, after, before)
		}
		before = after
	}
	if err := addUser(dir, "last", "secret"); err != nil {
		t.Errorf("the file stays locked: %v", err)
	}
}

func TestTheCostOfAPassword(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, tt := range []struct {
		cost string
		want int
	}{{"", 10}, {"10", 10}, {"12", 12}} {
		var args []string
		if tt.cost != "" {
			args = []string{"--cost", tt.cost}
		}
		if err := addUser(dir, "ci", "secret", args...); err != nil {
			t.Fatal(err)
		}
		if got, err := bcrypt.Cost([]byte(hashOf(t, dir, "ci"))); err != nil || got != tt.want {
			t.Errorf("--cost %s makes %d, %v", tt.cost, got, err)
		}
	}
	for _, cost := range []int{-1, 0, 4, 9, 17, 31} {
		code, _, stderr := dcs(t, "users", "add", "ci", "--password-stdin", "--storage.directory", dir, "--cost",
			strconv.Itoa(cost))
		if code != 2 || !strings.Contains(stderr, "is not between 10 and 16") {
			t.Errorf("--cost %d: exit code %d\n%s", cost, code, stderr)
		}
	}
}
