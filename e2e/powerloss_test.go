//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content/files"
)

// TestPowerLoss records what a server asks of the kernel during pushes, and takes the power away in thought
// after each step. A file's bytes are sure after its fsync, a name after that of its directory, a directory
// after that of its parent. A sync of the file system makes all sure that was done before it began. What was asked
// for and not synced may be on the disk or not, in any combination; where a journal keeps the order of names, those
// that survive are the first of them.
//
// Nothing gets a name in the tree before its bytes are sure. The answer to a manifest promises all of its image, that
// to a layer nothing: it is there as a whole, or it is not.
func TestPowerLoss(t *testing.T) {
	for name, options := range map[string]string{
		"with a journal, which is synced as a whole": "has_journal",
		"without one, file by file":                  "^has_journal",
	} {
		t.Run(name, func(t *testing.T) { losePower(t, newExt4(t, options), options == "has_journal") })
	}
}

// newExt4 mounts a file system with or without a journal, and returns a data directory in it.
func newExt4(t *testing.T, feature string) (dir string) {
	t.Helper()
	image, at := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	run(t, exec.Command("truncate", "-s", "128M", image))
	run(t, exec.Command("mkfs.ext4", "-q", "-O", feature, image))
	mountImage(t, image, at, "rw")
	dir = filepath.Join(at, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// traced starts a server whose system calls are recorded.
func traced(t *testing.T, dir string) (addr string, server *process, record string) {
	t.Helper()
	record = filepath.Join(t.TempDir(), "strace")
	addr, serve := openCommand(t, dir)
	args := append([]string{"-D", "-f", "-qq", "-y", "-s", "512", "-o", record,
		"-e", "trace=openat,mkdirat,renameat,renameat2,unlinkat,write," +
			"pwrite64,ftruncate,fsync,fdatasync,syncfs"}, serve.Args...)
	return addr, startServer(t, addr, time.Minute, exec.Command("strace", args...)), record
}

func losePower(t *testing.T, dir string, ordered bool) {
	addr, server, record := traced(t, dir)
	one := remote.WithJobs(1) // request at a time: what another one has not answered yet need not be sure
	stored := map[string]v1.Hash{}
	for i := range 3 {
		name := fmt.Sprintf("app%d:v1", i)
		stored[name] = pushImage(t, addr+"/"+name, newImage(t, 4<<10), one)
	}
	stored["multi:v1"] = pushIndex(t, addr+"/multi:v1", newIndex(t), one)
	stored["app0:v2"] = pushImage(t, addr+"/app0:v2", newImage(t, 1<<10), one)
	server.end(syscall.SIGTERM)

	k := &kernel{T: t, dir: dir, tree: filepath.Join(dir, "docker"), dirty: map[string]int{}, ordered: ordered,
		rand: rand.New(rand.NewPCG(1, 2))}
	for _, c := range readCalls(t, record) {
		k.apply(c)
	}
	t.Logf("%d names, %d answers, %d manifests, %d states of the disk after a power loss, %d syncs of all",
		len(k.names), k.answers, k.manifests, k.losses, k.syncs)
	if k.answers < 15 || k.manifests < 7 || k.losses < 50 || ordered != (k.syncs > 0) {
		t.Fatal("too little was recorded to say anything")
	}
	after := t.TempDir()
	k.write(after, func(n *entry) bool { return n.durable })
	addr, again := serveOpen(t, after)
	pullAll(t, addr, stored)
	again.stop(t)
}

// TestSyncsOfAPush counts those of an image of five layers that is pushed by one client: a few however many files it
// has, where the file system can be synced as a whole.
func TestSyncsOfAPush(t *testing.T) {
	for _, feature := range []string{"has_journal", "^has_journal"} {
		addr, server, record := traced(t, newExt4(t, feature))
		img, err := random.Image(4<<10, 5)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		pushImage(t, addr+"/app:v1", img, remote.WithJobs(1))
		// Layers wait for their names for a second at most: a push that takes longer has a group for each.
		late := int(time.Since(start) / files.Linger)
		server.end(syscall.SIGTERM)
		syncs, pages, begun, began, took := map[string]int{}, 0, false, 0, 0
		for i, c := range readCalls(t, record) {
			switch {
			case strings.Contains(c.args, `"HTTP/1.1 202`) && !begun:
				begun, began = true, i
			case begun && manifestAnswer.MatchString(c.args):
				took = i - began
			case begun && took == 0 && strings.Contains(c.name, "sync") && !strings.Contains(c.args, "index.db"):
				syncs[c.name]++
			case begun && took == 0 && c.name == "pwrite64" && strings.Contains(c.args, "index.db"):
				pages++
			}
		}
		if took == 0 {
			t.Fatal("the push was not recorded")
		}
		n := syncs["fsync"] + syncs["fdatasync"] + syncs["syncfs"]
		t.Logf("ext4 with %s: %d syncs, %v, and %d page writes of the index", feature, n, syncs, pages)
		if most := 8 + 2*late; feature == "has_journal" && n > most {
			t.Errorf("%d syncs of an image, want at most %d", n, most)
		}
	}
}

// TestAStartAfterAPowerLoss is one of a real server, on layers that were answered a moment before and that no sync
// covered: their files are empty, short, of zeros, or whole. What is whole is there.
func TestAStartAfterAPowerLoss(t *testing.T) {
	dir := t.TempDir()
	torn := map[string]func(data string) string{
		"whole":      func(data string) string { return data },
		"whole, too": func(data string) string { return data },
		"empty":      func(string) string { return "" },
		"short":      func(data string) string { return data[:len(data)/2] },
		"zeros":      func(data string) string { return strings.Repeat("\x00", len(data)) },
	}
	for try := 0; ; try++ { // a layer waits for a second at most, for which this machine may be too slow
		if try == 20 {
			t.Fatal("all layers had their names whenever the server was killed")
		}
		addr, server := serveOpen(t, dir)
		pushed := map[string]string{} // data of each layer, by how it is torn
		for how := range torn {
			pushed[how] = fmt.Sprintf("a layer that is %s, try %d", how, try)
			upload(t, addr, "app", pushed[how])
		}
		server.end(syscall.SIGKILL)
		pending := map[string]string{} // data -> file
		files, err := filepath.Glob(filepath.Join(dir, ".metadata/pending/*-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pending[string(data)] = file
		}
		if len(pending) < len(torn) {
			continue
		}
		for how, tear := range torn {
			if err := os.WriteFile(pending[pushed[how]], []byte(tear(pushed[how])), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		addr, server = serveOpen(t, dir)
		for how, data := range pushed {
			want := http.StatusNotFound
			if torn[how](data) == data {
				want = http.StatusOK
			}
			resp, err := http.Get("http://" + addr + "/v2/app/blobs/" + digest.FromString(data).String())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != want || want == http.StatusOK && string(got) != data {
				t.Errorf("a layer that is %s: %s, %q, %v", how, resp.Status, got, err)
			}
			resp.Body.Close()
		}
		server.stop(t)
		run(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", dir))
		return
	}
}

// upload sends a layer by one request.
func upload(t *testing.T, addr, repo, data string) {
	t.Helper()
	resp, err := http.Post("http://"+addr+"/v2/"+repo+"/blobs/uploads/?digest="+digest.FromString(data).String(),
		"application/octet-stream", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %s", resp.Status)
	}
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

	manifestAnswer = regexp.MustCompile(`"HTTP/1\.1 201.*Location: [^\\]*/v2/([^\\]+)/manifests/(sha256:[0-9a-f]{64})`)
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
	ordered   bool // of names the first survive a power loss, and not any of them
	rand      *rand.Rand
	names     []*entry       // in the order in which they were given
	dirty     map[string]int // file -> when it was last written to, unless that was synced
	answers   int
	manifests int // of the answers
	losses    int
	syncs     int // of the whole file system
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
	case "syncfs":
		if k.answers > 0 { // a start has some, too
			k.syncs++
		}
		maps.DeleteFunc(k.dirty, func(_ string, at int) bool { return at < c.start })
		for _, n := range k.names {
			n.durable = n.durable || n.since < c.start
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
	at, torn := k.dirty[from]
	delete(k.dirty, from)
	delete(k.dirty, to)
	if k.remove(from); torn {
		k.dirty[to] = at
	}
	if !k.promises(to) {
		return
	}
	if torn {
		k.Errorf("%s got its name before its bytes were synced", to)
	}
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
	if m := manifestAnswer.FindStringSubmatch(c.args); m != nil {
		k.manifests++
		k.promised(c)
		repo := filepath.Join(k.tree, "registry/v2/repositories", m[1])
		k.complete(repo, digest.Digest(m[2]), "an answer", k.there(func(n *entry) bool { return n.durable }))
	}
	k.lose()
}

// promised wants all names to be sure: the answer is to the only client.
func (k *kernel) promised(c call) {
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
}

// lose takes the power away: some of what is not sure made it to the disk.
func (k *kernel) lose() {
	for range 4 {
		k.losses++
		lucky := map[*entry]bool{}
		first := k.rand.IntN(len(k.names) + 1)
		for i, n := range k.names {
			lucky[n] = n.durable || k.ordered && i < first || !k.ordered && k.rand.IntN(2) == 0
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
