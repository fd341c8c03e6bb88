package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A run that removes much does not push its totals off the screen: people see the images that were not used for the
// longest, and below them how many more there are, and the totals. What reads the output gets all, or as many as it
// says.
func TestARunThatRemovesMuchDoesNotFloodTheScreen(t *testing.T) {
	t.Parallel()
	_, flags := staleStore(t)
	flags = append([]string{"gc", "--dry-run", "--log.level", "error"}, flags...)
	rows := func(text string) int { return strings.Count(text, "stale/") }

	for _, tt := range []struct {
		args []string
		want int
	}{{nil, screenful}, {[]string{"--limit", "3"}, 3}, {[]string{"--limit", "0"}, staleImages}} {
		s := onScreen(t, 100, nil, append(flags, tt.args...)...)
		if code := s.end(); code != 0 {
			t.Fatalf("exit %d\n%s", code, s.out.String())
		}
		lines := s.lines()
		text := strings.Join(lines, "\n")
		more := fmt.Sprintf("… and %d more (use --limit 0 to see all)", staleImages-tt.want)
		if rows(text) != tt.want || strings.Contains(text, more) != (tt.want < staleImages) {
			t.Errorf("%q: %d rows\n%s", tt.args, rows(text), text)
		}
		if last := lines[len(lines)-3:]; !strings.HasPrefix(last[0], "would remove 200 images") ||
			last[1] != "ttl 1d, grace 1ms" {
			t.Errorf("%q ends with %q", tt.args, last)
		}
	}

	for args, want := range map[string]int{"": staleImages, "--limit 0": staleImages, "--limit 3": 3,
		"--limit 9999": staleImages} {
		code, out, _ := dcs(t, append(flags, strings.Fields(args)...)...)
		if code != 0 || rows(out) != want || !strings.Contains(out, "would remove 200 images") ||
			strings.Contains(out, "more (use") != (want == 3) {
			t.Errorf("piped, %s: exit %d, %d rows", args, code, rows(out))
		}
		code, out, _ = dcs(t, append(flags, strings.Fields(args+" --format json")...)...)
		var rep struct {
			Images  []any
			Removed struct{ Tags int }
		}
		if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 0 || len(rep.Images) != want ||
			rep.Removed.Tags != staleImages {
			t.Errorf("JSON, %s: exit %d, %d images, %v", args, code, len(rep.Images), err)
		}
	}
	for _, args := range []string{"--quiet", "--quiet --format json", "--quiet --log.level debug"} {
		if code, out, errs := dcs(t, append(flags, strings.Fields(args)...)...); code != 0 || out != "" || errs != "" {
			t.Errorf("%s: exit %d, %q, %q", args, code, out, errs)
		}
	}
	if code, out, errs := dcs(t, "gc", "--quiet", "--storage.directory", t.TempDir()); code != 1 || out != "" ||
		!strings.HasPrefix(errs, "dcs: error: ") {
		t.Errorf("quiet where there is no store: exit %d, %q, %q", code, out, errs)
	}
	if code, _, errs := dcs(t, append(flags, "--limit", "-1")...); code != 2 ||
		!strings.Contains(errs, "--limit -1 is negative") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// What is found is printed on the terminal on which the bar stands: neither writes over the other, however slowly the
// terminal takes it.
func TestWhatACheckFindsIsNotTornByItsBar(t *testing.T) {
	t.Parallel()
	dir, _ := staleStore(t)
	blobs := blobFiles(t, dir)
	for path := range blobs {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"inspect", "--check"}, {"gc", "--repair", "--dry-run", "--limit", "0", "--ttl",
		"0", "--grace", "1h"}} {
		s := onFrozenScreen(t, 200, nil, append(args, "--storage.directory", dir, "--log.level", "error")...)
		time.Sleep(time.Second) // whoever waits that long wants to see something
		s.thaw()
		code := s.end()
		problem := regexp.MustCompile(
			`^(missing blob|dangling link|orphan file|` +
				`tag to nowhere|stale row|unparsable manifest): .*: .*`)
		found := 0
		for _, line := range s.lines() {
			switch {
			case problem.MatchString(line):
				found++
			case line != "" && !strings.HasPrefix(line, "dcs: ") && !strings.HasPrefix(line, "would remove") &&
				line != "ttl 0, grace 1h":
				t.Errorf("%q: %q", args, line)
			}
		}
		if found < staleImages {
			t.Errorf("%q: exit %d, %d problems\n%.1000s", args, code, found, s.out.String())
		}
		if _, err := os.Stat(filepath.Join(dir, ".metadata")); err != nil {
			t.Error(err)
		}
	}
}
