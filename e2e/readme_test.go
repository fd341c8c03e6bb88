//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// session is a block of the README that shows a terminal: commands behind a $, and what they print.
var session = regexp.MustCompile("(?s)```console\n(.*?)```")

// What is different each time: digests, ages, and sizes of what the compiler made.
var differs = []struct{ what, with string }{
	{`sha256:[0-9a-f]+`, "DIGEST"},
	{`just now|at next clean-up|in (a|\d+) \w+|\d+ \w+ ago|\bnow`, "TIME"},
	{`\d+(\.\d+)? ?(B|KiB|MiB|M)\b`, "SIZE"},
	{` {2,}`, "  "}, // columns are as wide as what is in them
}

// TestReadmeSession types what the README types, and wants to see what the README shows. What came out is in
// the log of the test, for the next README.
func TestReadmeSession(t *testing.T) {
	clone := copyWorkingTree(t)
	run(t, exec.Command("install", "-D", dcsBin, filepath.Join(clone, "bin/dcs"))) // as make build does
	readme, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	serve := regexp.MustCompile(`(?m)^bin/dcs serve .*--cache\.ttl (\w+) .*$`).FindSubmatch(readme)
	blocks := session.FindAllSubmatch(readme, -1)
	if serve == nil || len(blocks) != 3 {
		t.Fatalf("the README has changed: %d blocks", len(blocks))
	}
	ttl, err := time.ParseDuration(string(serve[1]))
	if err != nil {
		t.Fatal(err)
	}
	docker := startDocker(t)
	shell := func(script string) *exec.Cmd {
		cmd := docker.command()
		cmd.Path, cmd.Args, cmd.Dir = "/bin/sh", []string{"sh", "-c", script}, clone
		cmd.Env = append(cmd.Env, "DCS_STORAGE_DIRECTORY=/tmp/dcs")
		return cmd
	}
	if err := os.RemoveAll("/tmp/dcs"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("/tmp/dcs") })
	startServer(t, "127.0.0.1:5000", time.Minute, shell("exec "+string(serve[0])))

	var real strings.Builder
	for i, block := range blocks {
		for _, command := range commands(string(block[1])) {
			out, errs, code := try(t, shell(command.typed))
			if code != 0 {
				t.Fatalf("%s: exit code %d\n%s%s", command.typed, code, out, errs)
			}
			fmt.Fprintf(&real, "$ %s\n%s", command.typed, out)
			if strings.HasPrefix(command.typed, "docker") || strings.HasPrefix(command.typed, "printf") {
				continue // what docker prints is its own affair
			}
			if got, want := pattern(out), pattern(command.shows); got != want {
				t.Errorf("%s prints\n%s\nand by the README\n%s", command.typed, got, want)
			}
		}
		switch i {
		case 0: // as the README says: so long that what is pulled now stays longer than what is not
			time.Sleep(ttl / 2)
		case 1:
			eventually(t, 2*ttl, "what nobody pulled goes by itself", func() error {
				if tags := run(t, shell("bin/dcs inspect --tags --format csv")); strings.Contains(tags,
					"team/app,1.0,") {
					return fmt.Errorf("it is still there:\n%s", tags)
				}
				return nil
			})
		}
	}
	t.Logf("the session:\n%s", real.String())
}

type typedCommand struct{ typed, shows string }

func commands(block string) (all []typedCommand) {
	for line := range strings.Lines(block) {
		if typed, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, typedCommand{typed: strings.TrimSpace(typed)})
			continue
		}
		all[len(all)-1].shows += line
	}
	return all
}

func pattern(text string) string {
	for _, d := range differs {
		text = regexp.MustCompile(d.what).ReplaceAllString(text, d.with)
	}
	return text
}
