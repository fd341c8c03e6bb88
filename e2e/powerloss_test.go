//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// TestPowerLoss records what a server asks of the kernel during pushes, and takes the power away in thought
// after each step. A file's bytes are sure after its fsync, a name after that of its directory, a directory
// after that of its parent. What was asked for and not synced may be on the disk or not, in any combination.
func TestPowerLoss(t *testing.T) {
	dir, record := t.TempDir(), filepath.Join(t.TempDir(), "strace")
	addr, serve := openCommand(t, dir)
	traced := append([]string{"-D", "-f", "-qq", "-y", "-s", "16", "-o", record,
		"-e", "trace=openat,mkdirat,renameat,renameat2,unlinkat,write," +
			"pwrite64,ftruncate,fsync,fdatasync"}, serve.Args...)
	server := startServer(t, addr, 20*time.Second, exec.Command("strace", traced...))
	one := remote.WithJobs(1) // request at a time: what another one has not answered yet need not be sure
	stored := map[string]v1.Hash{}
	for i := range 3 {
		name := fmt.Sprintf("app%d:v1", i)
		stored[name] = pushImage(t, addr+"/"+name, newImage(t, 4<<10), one)
	}
	stored["multi:v1"] = pushIndex(t, addr+"/multi:v1", newIndex(t), one)
	stored["app0:v2"] = pushImage(t, addr+"/app0:v2", newImage(t, 1<<10), one)
	server.end(syscall.SIGTERM)

	k := &kernel{T: t, dir: dir, tree: filepath.Join(dir, "docker"), dirty: map[string]int{},
		rand: rand.New(rand.NewPCG(1, 2))}
	for _, c := range readCalls(t, record) {
		k.apply(c)
	}
	t.Logf("%d names, %d answers, %d states of the disk after a power loss", len(k.names), k.answers, k.losses)
	if k.answers < 15 || k.losses < 50 {
		t.Fatal("too little was recorded to say anything")
	}
	after := t.TempDir()
	k.write(after, func(n *entry) bool { return n.durable })
	addr, again := serveOpen(t, after)
	pullAll(t, addr, stored)
	again.stop(t)
}

// call is a system call that succeeded. It took effect between two lines of the record.
type call struct {
	name, args string
	start, end int
}

var (
	unfinished = regexp.MustCompile(`^(\w+)\((.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	complete   = regexp.MustCompile(`^(\w+)\((.*)$`)
	result     = regexp.MustCompile(`\)\s+= (-?\d+)`)
	quoted     = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	descriptor = regexp.MustCompile(`^\d+<([^>]*)>`)
)

// readCalls reads what strace wrote, in the order in which the calls came back.
func readCalls(t *testing.T, record string) (calls []call) {
	t.Helper()
	f, err := os.Open(record)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pending := map[string]call{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 0; lines.Scan(); n++ {
		pid, text, _ := strings.Cut(lines.Text(), " ")
		text = strings.TrimSpace(text)
		var c call
		if m := unfinished.FindStringSubmatch(text); m != nil {
			pending[pid] = call{name: m[1], args: m[2], start: n}
			continue
		} else if m := resumed.FindStringSubmatch(text); m != nil {
			c = pending[pid]
			c.args += m[2]
		} else if m := complete.FindStringSubmatch(text); m != nil {
			c = call{name: m[1], args: m[2], start: n}
		}
		c.end = n
		if m := result.FindStringSubmatch(c.args); m != nil && !strings.HasPrefix(m[1], "-") {
			calls = append(calls, c)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}

// entry is a name in a directory.
type entry struct {
	path    string
	dir     bool
	since   int // when it was there
	durable bool
}

// kernel is what is sure to be on the disk.
type kernel struct {
	*testing.T
	dir, tree string
	rand      *rand.Rand
	names     []*entry
	dirty     map[string]int // file -> when it was last written to, unless that was synced
	answers   int
	losses    int
}

func (k *kernel) apply(c call) {
	var paths []string
	for _, m := range quoted.FindAllStringSubmatch(c.args, -1) {
		paths = append(paths, m[1])
	}
	file := ""
	if m := descriptor.FindStringSubmatch(c.args); m != nil {
		file = m[1]
	}
	switch c.name {
	case "openat":
		if strings.Contains(c.args, "O_CREAT") && k.find(paths[0]) == nil {
			k.add(paths[0], false, c)
		}
	case "mkdirat":
		k.add(paths[0], true, c)
	case "renameat", "renameat2":
		k.rename(paths[0], paths[1], c)
	case "unlinkat":
		k.remove(paths[0])
	case "write", "pwrite64", "ftruncate":
		if strings.HasPrefix(file, k.dir+"/") {
			k.dirty[file] = c.end
		} else if strings.Contains(c.args, `"HTTP/1.1 2`) {
			k.answered(c)
		}
	case "fsync", "fdatasync":
		if at, ok := k.dirty[file]; ok && at < c.start {
			delete(k.dirty, file)
		}
		for _, n := range k.names {
			if filepath.Dir(n.path) == file && n.since < c.start {
				n.durable = true
			}
		}
	}
}

func (k *kernel) find(path string) *entry {
	for _, n := range k.names {
		if n.path == path {
			return n
		}
	}
	return nil
}

func (k *kernel) add(path string, dir bool, c call) {
	if strings.HasPrefix(path, k.dir+"/") {
		k.remove(path)
		k.names = append(k.names, &entry{path: path, dir: dir, since: c.end})
	}
}

func (k *kernel) remove(path string) {
	for i, n := range k.names {
		if n.path == path {
			k.names = append(k.names[:i], k.names[i+1:]...)
			return
		}
	}
}

func (k *kernel) rename(from, to string, c call) {
	if !k.promises(to) {
		k.remove(from)
		return
	}
	if _, ok := k.dirty[from]; ok {
		k.Errorf("%s got its name before its bytes were synced", to)
	}
	k.remove(from)
	k.add(to, false, c)
	k.lose()
}

// promises says whether a name means something to clients.
func (k *kernel) promises(path string) bool {
	return strings.HasPrefix(path, k.tree+"/") && !strings.Contains(path, "/_uploads/")
}

// answered holds what was promised against what is sure.
func (k *kernel) answered(c call) {
	k.answers++
	for _, n := range k.names {
		if n.dir || !k.promises(n.path) || n.since > c.start {
			continue
		}
		for path := n.path; len(path) > len(k.dir); path = filepath.Dir(path) {
			if e := k.find(path); e != nil && !e.durable {
				k.Errorf("answer %d came before the name of %s was synced", k.answers, path)
				e.durable = true // said once
			}
		}
	}
	k.lose()
}

// lose takes the power away: some of what is not sure made it to the disk.
func (k *kernel) lose() {
	for range 4 {
		k.losses++
		lucky := map[*entry]bool{}
		for _, n := range k.names {
			lucky[n] = n.durable || k.rand.IntN(2) == 0
		}
		k.whole(func(n *entry) bool { return lucky[n] })
	}
}

// there says which files can be reached in a state of the disk.
func (k *kernel) there(kept func(*entry) bool) map[string]bool {
	files, lost := map[string]bool{}, map[string]bool{}
	for _, n := range k.names {
		lost[n.path] = !kept(n)
	}
	for _, n := range k.names {
		reachable := !n.dir
		for path := n.path; len(path) > len(k.dir); path = filepath.Dir(path) {
			reachable = reachable && !lost[path]
		}
		if _, torn := k.dirty[n.path]; reachable && !torn {
			files[n.path] = true
		}
	}
	return files
}

// whole wants every manifest that has a name to be complete.
func (k *kernel) whole(kept func(*entry) bool) {
	files := k.there(kept)
	for path := range files {
		if repo, rest, ok := strings.Cut(path, "/_manifests/"); ok {
			data, err := os.ReadFile(path) // never written to again: distribution names content by its digest
			if err != nil {
				k.Fatal(err)
			}
			k.complete(repo, digest.Digest(data), rest, files)
		}
	}
}

func (k *kernel) blob(d digest.Digest) string {
	return filepath.Join(k.tree, "registry/v2/blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

func (k *kernel) complete(repo string, d digest.Digest, what string, files map[string]bool) {
	if !files[k.blob(d)] {
		k.Errorf("after a power loss %s of %s has no content", what, repo)
		return
	}
	data, err := os.ReadFile(k.blob(d))
	if err != nil {
		k.Fatal(err)
	}
	var m struct {
		Config            *v1.Descriptor
		Layers, Manifests []v1.Descriptor
	}
	if err := json.Unmarshal(data, &m); err != nil {
		k.Fatal(err)
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, l := range m.Layers {
		link := filepath.Join(repo, "_layers", l.Digest.Algorithm, l.Digest.Hex, "link")
		if !files[link] || !files[k.blob(digest.Digest(l.Digest.String()))] {
			k.Errorf("after a power loss %s of %s lacks %s", what, repo, l.Digest)
		}
	}
	for _, child := range m.Manifests {
		k.complete(repo, digest.Digest(child.Digest.String()), what, files)
	}
}

// write makes a directory as the power loss would leave it.
func (k *kernel) write(to string, kept func(*entry) bool) {
	for path := range k.there(kept) {
		if !k.promises(path) {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			k.Fatal(err)
		}
		copied := filepath.Join(to, strings.TrimPrefix(path, k.dir))
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			k.Fatal(err)
		}
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			k.Fatal(err)
		}
	}
}
