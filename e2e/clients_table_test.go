//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// scenario is what one client does with a registry of its own, to the end of what it does not use.
type scenario struct {
	client, does, transport string
	play                    func(s *stage)
}

func (s scenario) String() string { return s.does + " " + s.transport }

// scenarios is every client with every way to the registry. A client that is not installed fails; none is skipped.
func scenarios() (all []scenario) {
	for _, c := range []struct {
		client, does string
		play         func(s *stage)
	}{
		{"docker", "build, push, pull, run, manifest list", playDocker},
		{"buildx", "multi-platform, provenance, cache", playBuildx},
		{"podman", "build, push, pull, manifest list", playPodman},
		{"buildah", "build with cache, push, pull", playBuildah},
		{"skopeo", "copy, sync, inspect, delete", playSkopeo},
		{"ctr", "pull, tag, push", playCtr},
		{"crane", "append, index, copy, validate, delete", playCrane},
		{"regctl", "copy, artifacts, chunked upload, delete", playRegctl},
		{"oras", "push, attach, discover, copy, delete", playOras},
		{"helm", "push, show, pull", playHelm},
		{"cosign", "sign, verify by tag", playCosignTag},
		{"cosign", "sign, verify by referrer (oci-1-1)", playCosignReferrer},
		{"buildctl", "build, push, cache", playBuildctl},
	} {
		for _, transport := range []string{overHTTP, withLogin, overTLS} {
			all = append(all, scenario{c.client, c.does, transport, c.play})
		}
	}
	for _, form := range cacheForms {
		all = append(all, scenario{"buildctl", "cache " + form, overHTTP, func(s *stage) { playCache(s, form) }})
	}
	return all
}

// The registry of the n-th scenario listens at firstStagePort+n: no port that the kernel gives to others.
const firstStagePort = 21000

// TestClients plays every scenario and prints a line for each: `make e2e` has said which client, in which version,
// did what. A scenario that did not get to its end fails the test, whatever the reason.
func TestClients(t *testing.T) {
	all := scenarios()
	c := newCast(t)
	ended := newOutcomes()
	t.Cleanup(func() { ended.report(t, all) })
	t.Cleanup(func() { documentedIsPlayed(t, c.played) })
	for n, scene := range all {
		t.Run(scene.client+"/"+scene.String(), func(t *testing.T) {
			t.Parallel()
			ended.add(scene, false)
			scene.play(newStage(t, c, scene.transport, firstStagePort+n))
			ended.add(scene, !t.Failed())
		})
	}
}

// outcomes is which scenarios began, and whether they got to their end.
type outcomes struct {
	mu sync.Mutex // guards ok
	ok map[string]bool
}

func newOutcomes() *outcomes { return &outcomes{ok: map[string]bool{}} }

func (o *outcomes) add(s scenario, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ok[s.client+s.String()] = ok
}

func (o *outcomes) report(t *testing.T, all []scenario) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		outcome := "ok"
		switch ok, played := o.ok[s.client+s.String()]; {
		case !played && onlySome():
			continue
		case !played:
			outcome = "MISSING"
			t.Errorf("client %s did not even begin: %s", s.client, s)
		case !ok:
			outcome = "FAILED"
		}
		fmt.Printf("client %-9s %-9s %-68s %s\n", s.client, version(s.client), s, outcome)
	}
}

// onlySome tells whether somebody asked for a part of the tests, by go test -run.
func onlySome() bool {
	filter := flag.Lookup("test.run").Value.String()
	return strings.Contains(filter, "/")
}

// A client that the Makefile builds is in a folder with the version in its name; those of Debian say it themselves.
var (
	folderVersion  = regexp.MustCompile(`-v(\d+\.\d+\.\d+)/`)
	printedVersion = regexp.MustCompile(`\d+\.\d+\.\d+`)
)

func version(client string) string {
	path, err := exec.LookPath(client)
	if err != nil {
		return "missing"
	}
	if found := folderVersion.FindStringSubmatch(path); found != nil {
		return found[1]
	}
	printed, err := exec.Command(client, "--version").CombinedOutput()
	if err != nil {
		return "unknown"
	}
	return printedVersion.FindString(string(printed))
}

var codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```")

// documentedIsPlayed holds that every command line and every configuration of docs/clients.md was part of a scenario.
func documentedIsPlayed(t *testing.T, played *played) {
	if onlySome() {
		return
	}
	doc, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plainHTTP {
		if !strings.Contains(string(doc), "`"+p.flags+"`") {
			t.Errorf("docs/clients.md does not say who wants to be told %s", p.flags)
		}
	}
	for _, block := range codeBlock.FindAllStringSubmatch(string(doc), -1) {
		texts := []string{block[2]}
		if block[1] == "sh" {
			texts = strings.Split(strings.TrimSpace(strings.ReplaceAll(block[2], "\\\n", " ")), "\n")
		}
		for _, text := range texts {
			if !played.has(text) {
				t.Errorf("docs/clients.md has what no scenario played:\n%s", text)
			}
		}
	}
}
