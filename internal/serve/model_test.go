package serve

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

var (
	duration = flag.Duration("duration", 3*time.Second,
		"how long the model test looks for a sequence that breaks something")
	seed  = flag.Uint64("seed", 0, "where the model test begins; 0: from the clock")
	steps = flag.Int("steps", 60, "operations in a sequence of the model test")
)

// resolution is that of the policy of the stories.
const resolution = time.Minute

// thing is a tag, a manifest or a blob of a repository: "repo:tag" or "repo@digest".
type thing string

func named(repo, reference string) thing {
	if strings.Contains(reference, ":") {
		return thing(repo + "@" + reference)
	}
	return thing(repo + ":" + reference)
}

func (th thing) split() (repo, reference string) {
	if repo, d, ok := strings.Cut(string(th), "@"); ok {
		return repo, d
	}
	repo, tag, _ := strings.Cut(string(th), ":")
	return repo, tag
}

// known is a manifest that was made: what follows from its digest.
type known struct {
	data      []byte
	mediaType string
	names     []string // digests of blobs and children
	subject   string
}

// model is what must be there, and what must not, by what the clients of one sequence saw.
//
// used is when a name was last used for certain: it keeps what it refers to for the ttl. recent is the
// latest use that a thing may count, its own or one that it inherited: once that is older than its life
// the thing has to go. Between the two, whatever happens is right.
type model struct {
	*world
	random *rand.Rand
	log    []string

	tags      map[thing]string // what a tag points to
	used      map[thing]time.Time
	recent    map[thing]time.Time
	promised  map[thing]time.Time // until when, at least
	manifests map[string]known
	linked    map[thing]bool // blobs and manifests that were put into a repository
	doubtful  map[thing]bool // may have gone in a run, and nobody saw it since
	pool      [][]byte

	expiries, crashes, losses int
}

func newModel(w *world, seed uint64) *model {
	m := &model{world: w, random: rand.New(rand.NewPCG(seed, 0)), tags: map[thing]string{}, used: map[thing]time.Time{},
		recent:   map[thing]time.Time{},
		promised: map[thing]time.Time{}, manifests: map[string]known{},
		linked: map[thing]bool{}, doubtful: map[thing]bool{}}
	for i := range 8 {
		m.pool = append(m.pool, []byte(fmt.Sprintf("layer %d of %d", i, seed)))
	}
	return m
}

var modelRepos = []string{"a", "b/c"}

// operations are what a sequence is made of, with their weights.
var operations = []struct {
	name   string
	weight int
	do     func(*model, string)
}{
	{"push", 14, (*model).pushImage},
	{"push part", 5, (*model).pushPart},
	{"index", 7, (*model).pushIndex},
	{"cache index", 4, (*model).pushCache},
	{"referrer", 6, (*model).pushReferrer},
	{"retag", 7, (*model).retag},
	{"mount", 5, (*model).mount},
	{"pull", 10, (*model).pullTag},
	{"pull by digest", 7, (*model).pullDigest},
	{"pull a blob", 4, (*model).pullBlob},
	{"ask for a blob", 2, (*model).headBlob},
	{"delete a tag", 4, (*model).deleteTag},
	{"delete a manifest", 5, (*model).deleteManifest},
	{"delete a blob", 4, (*model).deleteBlob},
	{"minutes pass", 10, func(m *model, _ string) { m.pass(time.Duration(m.random.IntN(40)) * time.Minute) }},
	{"hours pass", 8, func(m *model, _ string) { m.pass(time.Duration(m.random.IntN(12*60)) * time.Minute) }},
	{"expire", 14, (*model).expireHere},
	{"expire from another process", 5, (*model).expireBeside},
	{"restart", 2, (*model).restartServer},
	{"crash", 2, (*model).crash},
	{"lose the index", 1, (*model).loseIndex},
}

// step does one operation. What it does hangs on its own number and the state, so that a sequence keeps
// its meaning when operations are taken out of it.
func (m *model) step(seed uint64, n int) {
	m.random = rand.New(rand.NewPCG(seed, uint64(n+1)))
	total := 0
	for _, op := range operations {
		total += op.weight
	}
	at := m.random.IntN(total)
	for _, op := range operations {
		if at -= op.weight; at < 0 {
			repo := modelRepos[m.random.IntN(len(modelRepos))]
			m.log = append(m.log, fmt.Sprintf("%d %s in %s", n, op.name, repo))
			op.do(m, repo)
			break
		}
	}
	m.check()
}

// touch is a use of a name. Its whole image may count it from now on.
func (m *model) touch(th thing) {
	m.used[th] = m.Now()
	delete(m.doubtful, th)
	m.spread(th, m.Now(), map[thing]bool{})
}

// spread lets a thing, and all that it keeps, be as recent as a use.
func (m *model) spread(th thing, at time.Time, seen map[thing]bool) {
	if seen[th] {
		return
	}
	seen[th] = true
	if at.After(m.recent[th]) {
		m.recent[th] = at
	}
	repo, reference := th.split()
	if to, ok := m.tags[th]; ok {
		m.spread(named(repo, to), at, seen)
		return
	}
	for _, d := range m.manifests[reference].names {
		m.spread(named(repo, d), at, seen)
	}
	for d, c := range m.manifests {
		if c.subject == reference && m.linked[named(repo, d)] {
			m.spread(named(repo, d), at, seen)
		}
	}
}

// promise is an answer that said that a thing is there: it and what it refers to stay for the grace.
func (m *model) promise(th thing) {
	until := m.Now().Add(grace)
	if until.After(m.promised[th]) {
		m.promised[th] = until
	}
	repo, reference := th.split()
	if to, ok := m.tags[th]; ok {
		m.promise(named(repo, to))
	}
	for _, d := range m.manifests[reference].names {
		m.promise(named(repo, d))
	}
}

func (m *model) blob() []byte { return m.pool[m.random.IntN(len(m.pool))] }

// give brings a blob into a repository as clients do: ask first.
func (m *model) give(repo string, data []byte) string {
	d := digestOf(data)
	th := named(repo, d)
	switch code := m.do("HEAD", "/v2/"+repo+"/blobs/"+d, nil, "").StatusCode; code {
	case 200:
		if !m.linked[th] {
			m.Errorf("HEAD of %s: 200, but nobody put it there", th)
		}
	case 404:
		m.upload(repo, data)
	default:
		m.Errorf("HEAD of %s: %d", th, code)
	}
	m.linked[th] = true
	m.spread(th, m.Now(), map[thing]bool{})
	m.promise(th)
	return d
}

// place puts a manifest and says what it is.
func (m *model) place(repo, reference, subject string, names []string, manifest map[string]any) {
	d := m.put(repo, reference, manifest)
	data, err := json.Marshal(manifest)
	if err != nil {
		m.Fatal(err)
	}
	m.placed(repo, reference, d, known{data, manifest["mediaType"].(string), names, subject})
}

func (m *model) placed(repo, reference, d string, k known) {
	m.manifests[d] = k
	m.linked[named(repo, d)] = true
	if reference != "" && reference != d {
		m.tags[named(repo, reference)] = d
		m.touch(named(repo, reference))
		m.promise(named(repo, reference))
	}
	m.touch(named(repo, d))
	m.promise(named(repo, d))
}

func (m *model) tag() string { return fmt.Sprintf("t%d", m.random.IntN(4)) }

// imageOf is a manifest of a few shared layers.
func (m *model) imageOf(repo string, subject map[string]any) (names []string, manifest map[string]any) {
	config := m.give(repo, []byte(fmt.Sprintf(`{"os":"linux","n":%d}`, m.random.IntN(6))))
	names = []string{config}
	var layers []any
	for range 1 + m.random.IntN(3) {
		data := m.blob()
		d := m.give(repo, data)
		names = append(names, d)
		layers = append(layers, descriptor(ociLayer, d, len(data)))
	}
	manifest = map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": descriptor(ociConfig, config, 20),
		"layers": layers}
	if subject != nil {
		manifest["subject"] = subject
	}
	return names, manifest
}

func (m *model) pushImage(repo string) {
	names, manifest := m.imageOf(repo, nil)
	reference := m.tag()
	if m.random.IntN(3) == 0 {
		reference = ""
	}
	m.place(repo, reference, "", names, manifest)
}

// pushPart is a push that ends before its manifest, or in the middle of a blob.
func (m *model) pushPart(repo string) {
	m.give(repo, m.blob())
	loc := m.want(202, "POST", "/v2/"+repo+"/blobs/uploads/", nil, "").Header.Get("Location")
	if m.random.IntN(2) == 0 {
		m.want(202, "PATCH", strings.TrimPrefix(loc, m.http.URL), []byte("half of"), "application/octet-stream")
	}
}

// existing are the manifests of a repository that a HEAD finds, at most so many.
func (m *model) existing(repo string, most int) (found []string) {
	all := slices.Sorted(maps.Keys(m.manifests))
	m.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, d := range all {
		if len(found) < most && m.linked[named(repo, d)] && m.do("HEAD", "/v2/"+repo+"/manifests/"+d, nil,
			"").StatusCode == 200 {
			m.touch(named(repo, d))
			m.promise(named(repo, d))
			found = append(found, d)
		}
	}
	return found
}

func (m *model) pushIndex(repo string) {
	children := m.existing(repo, 1+m.random.IntN(2))
	if len(children) == 0 {
		return
	}
	var list []any
	for _, d := range children {
		list = append(list, descriptor(m.manifests[d].mediaType, d, len(m.manifests[d].data)))
	}
	m.place(repo, m.tag(), "", children, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": list})
}

// pushCache is what BuildKit exports: an index that names layers as if they were manifests.
func (m *model) pushCache(repo string) {
	var names []string
	var list []any
	for range 2 {
		data := m.blob()
		d := m.give(repo, data)
		names = append(names, d)
		list = append(list, descriptor(ociLayer, d, len(data)))
	}
	m.place(repo, "cache", "", names, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": list})
}

func (m *model) pushReferrer(repo string) {
	subjects := m.existing(repo, 1)
	if len(subjects) == 0 {
		return
	}
	names, manifest := m.imageOf(repo, descriptor(ociManifest, subjects[0], 1))
	m.place(repo, "", subjects[0], names, manifest)
}

func (m *model) retag(repo string) {
	for _, d := range m.existing(repo, 1) {
		k, tag := m.manifests[d], m.tag()
		m.want(201, "PUT", "/v2/"+repo+"/manifests/"+tag, k.data, k.mediaType)
		m.placed(repo, tag, d, k)
	}
}

func (m *model) mount(repo string) {
	from := modelRepos[m.random.IntN(len(modelRepos))]
	d := digestOf(m.blob())
	if m.do("POST", "/v2/"+repo+"/blobs/uploads/?mount="+d+"&from="+from, nil, "").StatusCode == 201 {
		if !m.linked[named(from, d)] && !m.linked[named(repo, d)] {
			m.Errorf("%s was mounted from %s, where nobody put it", d, from)
		}
		for _, r := range []string{from, repo} { // the source was asked for, too
			if r == repo || m.linked[named(r, d)] {
				m.linked[named(r, d)] = true
				m.spread(named(r, d), m.Now(), map[thing]bool{})
			}
		}
		m.promise(named(repo, d))
	}
}

// use is a pull of a name, all of it or only the manifest.
func (m *model) use(th thing) {
	repo, reference := th.split()
	if m.do("GET", "/v2/"+repo+"/manifests/"+reference, nil, "").StatusCode != 200 {
		return // check says whether it had to be there
	}
	m.touch(th)
	if to, ok := m.tags[th]; ok {
		m.touch(named(repo, to))
	}
	m.promise(th)
}

func (m *model) pullTag(repo string) {
	if th := named(repo, m.tag()); m.tags[th] != "" {
		m.use(th)
	}
}

func (m *model) pullDigest(repo string) {
	if all := slices.Sorted(maps.Keys(m.manifests)); len(all) > 0 {
		m.use(named(repo, all[m.random.IntN(len(all))]))
	}
}

func (m *model) pullBlob(repo string) {
	d := digestOf(m.blob())
	th := named(repo, d)
	alive := m.alive() // as it was before the answer
	if m.do("GET", "/v2/"+repo+"/blobs/"+d, nil, "").StatusCode == 200 {
		m.spread(th, m.Now(), map[thing]bool{})
		m.promise(th)
		m.readBytes(repo, d, alive)
	}
}

// headBlob asks for a blob, which is no use of an image.
func (m *model) headBlob(repo string) {
	d := digestOf(m.blob())
	if th := named(repo, d); m.do("HEAD", "/v2/"+repo+"/blobs/"+d, nil, "").StatusCode == 200 {
		m.spread(th, m.Now(), map[thing]bool{})
		m.promise(th)
	}
}

// readBytes is a read of a blob's bytes, which uses the last used image of the repository that holds it. Which one that
// is the model knows for certain only if there is one: then the image has to stay. All that may be the one may be as
// recent as this use; of any other the expiry has to take no notice.
func (m *model) readBytes(repo, d string, alive map[thing]bool) {
	owners := m.owners(repo, d)
	if len(owners) == 1 && alive[named(repo, owners[0])] && len(m.owners(repo, owners[0])) == 0 {
		m.touch(named(repo, owners[0]))
	}
	seen := map[string]bool{}
	for len(owners) > 0 {
		at := m.recentEnough(repo, owners)
		var above []string
		for _, o := range owners {
			if th := named(repo, o); !seen[o] && !m.recent[th].Before(at) {
				seen[o] = true
				m.spread(th, m.Now(), map[thing]bool{})
				above = append(above, m.owners(repo, o)...)
			}
		}
		owners = above
	}
}

// owners are the manifests of a repository that name a digest.
func (m *model) owners(repo, d string) (owners []string) {
	for o, k := range m.manifests {
		if m.linked[named(repo, o)] && slices.Contains(k.names, d) {
			owners = append(owners, o)
		}
	}
	return owners
}

// recentEnough is the earliest time at which one of these manifests may have been used, and still be the last used one.
func (m *model) recentEnough(repo string, manifests []string) (at time.Time) {
	for _, d := range manifests {
		if used := m.used[named(repo, d)]; used.After(at) {
			at = used
		}
	}
	return at.Add(-time.Minute) // the server's resolution is no longer
}

// left is for a name that a client deleted: what it referred to keeps its grace, the name does not.
func (m *model) left(th thing) {
	delete(m.tags, th)
	delete(m.used, th)
	delete(m.promised, th)
}

func (m *model) deleteTag(repo string) {
	th := named(repo, m.tag())
	_, tag := th.split()
	if m.do("DELETE", "/v2/"+repo+"/manifests/"+tag, nil, "").StatusCode == 202 {
		m.left(th)
	}
}

func (m *model) deleteManifest(repo string) {
	for _, d := range m.existing(repo, 1) {
		switch code := m.do("DELETE", "/v2/"+repo+"/manifests/"+d, nil, "").StatusCode; code {
		case 202:
			for th, to := range maps.Clone(m.tags) {
				if r, _ := th.split(); r == repo && to == d {
					m.left(th)
				}
			}
			m.left(named(repo, d))
			delete(m.linked, named(repo, d))
		case 405: // an index needs it
		default:
			m.Errorf("DELETE of %s@%s: %d", repo, d, code)
		}
	}
}

func (m *model) deleteBlob(repo string) {
	th := named(repo, digestOf(m.blob()))
	_, d := th.split()
	switch code := m.do("DELETE", "/v2/"+repo+"/blobs/"+d, nil, "").StatusCode; code {
	case 202:
		if by := m.keeper(th); by != "" {
			m.Errorf("DELETE of %s was accepted, which %s needs", th, by)
		}
		m.left(th)
		delete(m.linked, th)
	case 404, 405:
	default:
		m.Errorf("DELETE of %s: %d", th, code)
	}
}

// keeper is a manifest that has to be there and names a thing.
func (m *model) keeper(th thing) thing {
	repo, d := th.split()
	for alive := range m.alive() {
		r, reference := alive.split()
		if r == repo && slices.Contains(m.manifests[reference].names, d) {
			return alive
		}
	}
	return ""
}

func (m *model) expireHere(string) {
	m.doubt()
	m.expire()
	m.checkForgotten()
}

// expireBeside is what dcs gc does beside a server: a connection of its own, and a clock of its own.
func (m *model) expireBeside(string) {
	m.doubt()
	dir := tree.Dir(m.dir)
	tree, err := tree.Open(dir)
	if err != nil {
		m.Fatal(err)
	}
	ix, err := sqlite.Open(m.Context(), dir.Index(), sqlite.Beside, m.Now)
	if err != nil {
		m.Fatal(err)
	}
	c := gc.Collector{Files: gc.LocalFiles(dir, tree), Index: ix, Log: m.s.log}
	_, err = c.Run(m.Context(), m.s.policy(), false)
	if cerr := ix.Close(); err != nil || cerr != nil {
		m.Fatal(err, cerr)
	}
}

// doubt is for a run: what does not have to stay may go.
func (m *model) doubt() {
	m.expiries++
	alive := m.alive()
	for th := range m.linked {
		m.doubtful[th] = m.doubtful[th] || !alive[th]
	}
	for th := range m.tags {
		m.doubtful[th] = m.doubtful[th] || !alive[th]
	}
}

func (m *model) restartServer(string) { m.restart() }

// crash goes on with the files as they are at this moment, as after kill -9, while layers wait for their names.
func (m *model) crash(repo string) {
	for range 3 {
		m.give(repo, m.blob())
	}
	m.mount(repo)
	if err := m.s.store.Index.Beat(m.Context()); err != nil { // every 5 s, which are hours here
		m.Fatal(err)
	}
	elsewhere := m.TempDir()
	waiting := m.pendingLog()
	out, err := exec.Command("cp", "-a", m.dir+"/.", elsewhere).CombinedOutput()
	if m.pendingLog() != waiting || strings.Contains(string(out), "No such file or directory") {
		return // names were given beside the copy, which is of no moment; files and uploads move by that
	}
	if err != nil {
		m.Fatalf("cp: %v\n%s", err, out)
	}
	m.crashes++
	m.stop()
	m.dir = elsewhere
	m.start()
}

// pendingLog is what waits.
func (m *model) pendingLog() string {
	log, err := os.ReadFile(filepath.Join(tree.Dir(m.dir).Pending(), "log"))
	if err != nil && !os.IsNotExist(err) {
		m.Fatal(err)
	}
	return string(log)
}

// loseIndex stops the server and removes what it knew: everything counts as used now.
func (m *model) loseIndex(string) {
	m.losses++
	m.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(tree.Dir(m.dir).Index() + suffix); err != nil && !os.IsNotExist(err) {
			m.Fatal(err)
		}
	}
	for th := range m.linked {
		m.spread(th, m.Now(), map[thing]bool{})
	}
	for th := range m.tags {
		m.spread(th, m.Now(), map[thing]bool{})
	}
	m.start()
}

// alive are the names that have to be there, and everything that they keep.
func (m *model) alive() map[thing]bool {
	alive := map[thing]bool{}
	after := m.Now().Add(-ttl)
	for th, at := range m.used {
		if !at.Before(after) {
			m.keep(th, alive)
		}
	}
	for th, to := range m.tags { // a tag lives as long as it or its manifest was used
		repo, _ := th.split()
		if at, ok := m.used[named(repo, to)]; ok && !at.Before(after) && !m.doubtful[th] {
			m.keep(th, alive)
		}
	}
	for th, until := range m.promised {
		if !m.Now().After(until) {
			alive[th] = true
		}
	}
	return alive
}

func (m *model) keep(th thing, alive map[thing]bool) {
	if alive[th] {
		return
	}
	alive[th] = true
	repo, reference := th.split()
	if to, ok := m.tags[th]; ok {
		m.keep(named(repo, to), alive)
		return
	}
	for _, d := range m.manifests[reference].names {
		m.keep(named(repo, d), alive)
	}
	for d, c := range m.manifests {
		if r := named(repo, d); c.subject == reference && m.linked[r] && !m.doubtful[r] {
			m.keep(r, alive)
		}
	}
}

// check looks at the files, so that it is no use: what has to be there is there, with its bytes; and
// every tag that resolves is whole.
func (m *model) check() {
	m.Helper()
	m.flush()
	dir := tree.Dir(m.dir)
	for th := range m.alive() {
		repo, reference := th.split()
		if !strings.Contains(reference, ":") {
			link, err := os.ReadFile(dir.File(layout.Path{Kind: layout.TagLink, Repository: repo, Tag: reference}))
			if err != nil || string(link) != m.tags[th] {
				m.Errorf("tag %s has to point to %s: %s %v", th, m.tags[th], link, err)
			}
			continue
		}
		m.present(dir, repo, reference)
	}
}

// present wants a blob or a manifest, its link and its bytes.
func (m *model) present(dir tree.Dir, repo, d string) {
	m.Helper()
	kind := layout.LayerLink
	if _, is := m.manifests[d]; is {
		kind = layout.RevisionLink
	}
	p, _ := layout.Parse(layout.Path{Kind: kind, Repository: repo, Digest: digestFrom(d)}.String())
	if _, err := os.Stat(dir.File(p)); err != nil {
		m.Errorf("%s@%s has to be there: %v", repo, d, err)
	}
	data, err := os.ReadFile(dir.File(layout.Path{Kind: layout.BlobData, Digest: digestFrom(d)}))
	if err != nil || digestOf(data) != d {
		m.Errorf("the bytes of %s@%s have to be there: %d of %s, %v", repo, d, len(data), digestOf(data), err)
	}
}

// checkForgotten wants everything gone that cannot have been used for its life.
func (m *model) checkForgotten() {
	m.Helper()
	dir := tree.Dir(m.dir)
	oldest := m.Now().Add(-ttl - resolution - time.Second)
	there := map[string]bool{} // digests that some repository may still have, or had until a client took its link away
	for th, at := range m.recent {
		life := ttl
		if !m.linked[th] {
			life = grace
		}
		if _, d := th.split(); !at.Before(m.Now().Add(-life - resolution - time.Second)) {
			there[d] = true
		}
	}
	for th := range m.linked {
		repo, d := th.split()
		if !m.recent[th].Before(oldest) {
			continue
		}
		for _, kind := range []layout.PathKind{layout.LayerLink, layout.RevisionLink} {
			if _, err := os.Stat(dir.File(layout.Path{Kind: kind, Repository: repo,
				Digest: digestFrom(d)})); err == nil {
				m.Errorf("%s is still linked, %v after its last use", th, m.Now().Sub(m.recent[th]))
			}
		}
		if _, err := os.Stat(dir.File(layout.Path{Kind: layout.BlobData, Digest: digestFrom(d)})); err == nil &&
			!there[d] {
			m.Errorf("the bytes of %s are still there, %v after its last use", th, m.Now().Sub(m.recent[th]))
		}
		delete(m.linked, th)
	}
	for th, to := range m.tags {
		repo, tag := th.split()
		if m.recent[th].Before(oldest) && m.recent[named(repo, to)].Before(oldest) {
			if _, err := os.Stat(dir.Native(layout.TagDir(repo, tag))); err == nil {
				m.Errorf("tag %s is still there, %v after its last use", th, m.Now().Sub(m.recent[th]))
			}
			m.left(th)
		}
	}
}

// sequence runs the operations of a seed but for those that are taken out, and says whether all was well.
func sequence(t *testing.T, name string, seed uint64, without map[int]bool, total *model) bool {
	var m *model
	return t.Run(name, func(t *testing.T) {
		w := &world{T: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, dir: t.TempDir()}
		m = newModel(w, seed)
		w.start()
		defer func() {
			w.http.CloseClientConnections()
			w.stop()
			total.expiries, total.crashes = total.expiries+m.expiries, total.crashes+m.crashes
			total.losses += m.losses
			if t.Failed() {
				t.Logf("seed %d, %d operations:\n%s", seed, len(m.log), strings.Join(m.log, "\n"))
			}
		}()
		for n := range *steps {
			if !without[n] {
				m.step(seed, n)
			}
			if t.Failed() {
				return
			}
		}
		m.pass(2 * (ttl + grace))
		m.expireHere("")
		m.log = append(m.log, "everything is old")
		for _, f := range m.files() {
			if !strings.Contains(f, "_uploads") && strings.HasSuffix(f, "/link") || strings.HasSuffix(f, "/data") &&
				strings.Contains(f, "/blobs/") {
				t.Errorf("left: %s", f)
			}
		}
	})
}

// TestModel compares a server with a model, over random sequences of operations. A sequence that fails is
// made shorter as long as it fails; -seed and -steps run it again.
func TestModel(t *testing.T) {
	start := *seed
	if start == 0 {
		start = uint64(time.Now().UnixNano())
	}
	var total model
	began, runs := time.Now(), 0
	for ; time.Since(began) < *duration || runs == 0; runs++ {
		if !sequence(t, fmt.Sprintf("seed %d", start+uint64(runs)), start+uint64(runs), nil, &total) {
			shrink(t, start+uint64(runs), &total)
			return
		}
	}
	t.Logf("seeds %d to %d: %d operations, %d runs of gc, %d crashes, %d lost indexes, 0 violations",
		start, start+uint64(runs)-1, runs**steps, total.expiries, total.crashes, total.losses)
}

// shrink takes operations out of a sequence that fails, as long as it fails without them.
func shrink(t *testing.T, seed uint64, total *model) {
	without := map[int]bool{}
	for n, began := *steps-1, time.Now(); n >= 0 && time.Since(began) < 30*time.Second; n-- {
		without[n] = true
		if sequence(t, fmt.Sprintf("seed %d without %d", seed, n), seed, without, total) {
			delete(without, n)
		}
	}
	sequence(t, fmt.Sprintf("seed %d at its shortest", seed), seed, without, total)
}

func digestFrom(s string) digest.Digest { return digest.Digest(s) }
