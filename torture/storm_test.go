package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The policy of a storm. Grace is long enough for a client on a busy machine to come back within it, and
// short enough for content to go all the time.
const (
	stormGrace = 1500 * time.Millisecond
	stormTTL   = 2 * time.Second
)

// storm is many clients at once on one store, while gc runs back to back. Each client believes
// nothing but its own observations.
//
// A promise counts from the moment at which its request was sent: the server cannot have looked earlier.
// It is broken when an answer that was received within grace of that says that the thing is not there.
type storm struct {
	*store
	grace   time.Duration
	mayFail bool   // requests may get no answer: somebody kills the server
	links   bool   // links appear in the tree, so that it is compared with the index again
	blobs   []blob // shared by all images
	loose   []blob // never held for long: they live by promises
	repos   []string

	mu        sync.Mutex                // guards what follows
	deleted   map[string]time.Time      // when a client last asked to delete repo@digest or repo:tag
	acked     map[string]digest.Digest  // repo:tag of pushes that nobody else touches, once acknowledged
	manifests map[digest.Digest]content // everything that was ever put

	operations, refused, lost, expiries, kills atomic.Int64
	outlived                                   atomic.Int64 // see useParts
	violations                                 atomic.Int64
}

type blob struct {
	digest digest.Digest
	data   []byte
}

// content is a manifest that was made.
type content struct {
	mediaType string
	data      []byte
	blobs     []digest.Digest
	children  []digest.Digest
}

func newStorm(t *testing.T, s *store, grace time.Duration) *storm {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	st := &storm{store: s, grace: grace, repos: []string{"app", "team/app", "team/cache", "base"},
		deleted: map[string]time.Time{}, acked: map[string]digest.Digest{}, manifests: map[digest.Digest]content{}}
	for range 32 {
		data := make([]byte, 100+random.IntN(8000))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		st.blobs = append(st.blobs, blob{digest.FromBytes(data), data})
	}
	st.loose, st.blobs = st.blobs[:8], st.blobs[8:]
	return st
}

// violation is a promise that was broken.
func (st *storm) violation(format string, args ...any) {
	if st.violations.Add(1) <= 20 {
		st.t.Errorf("violation: "+format, args...)
	}
}

// worker is one client with its own randomness.
type worker struct {
	*storm
	id     int
	random *rand.Rand
	pushed int
}

// rage lets clients loose until ctx ends.
func (st *storm) rage(ctx context.Context, clients int) {
	var wg sync.WaitGroup
	for id := range clients {
		w := &worker{storm: st, id: id, random: rand.New(rand.NewPCG(*seed, uint64(id+1)))}
		wg.Go(func() {
			for ctx.Err() == nil {
				w.operation()
				st.operations.Add(1)
			}
		})
	}
	wg.Wait()
}

func (w *worker) operation() {
	repo := w.repos[w.random.IntN(len(w.repos))]
	switch n := w.random.IntN(100); {
	case n < 14:
		w.pushLate(fmt.Sprintf("late/%d", w.random.IntN(8)))
	case n < 30:
		w.push(repo, fmt.Sprintf("t%d", w.random.IntN(6)))
	case n < 38:
		w.pushOwn(repo)
	case n < 46:
		w.pushIndex(repo)
	case n < 52:
		w.pushReferrer(repo)
	case n < 75:
		w.pull(repo, fmt.Sprintf("t%d", w.random.IntN(6)))
	case n < 80:
		w.retag(repo)
	case n < 84:
		w.abandon(repo)
	case n < 88:
		w.list(repo)
	case n < 92:
		w.deleteTag(repo, fmt.Sprintf("t%d", w.random.IntN(6)))
	case n < 96:
		w.deleteManifest(repo)
	default:
		w.deleteBlob(repo)
	}
}

func pick[T any](w *worker, from []T) T { return from[w.random.IntN(len(from))] }

// ask is a request whose answer is judged for what no answer may be. ok: there is one.
func (w *worker) ask(method, path string, body []byte, header ...string) (a answer, ok bool) {
	a, err := w.do(method, path, body, header...)
	switch {
	case err != nil && w.mayFail:
		w.lost.Add(1)
		time.Sleep(10 * time.Millisecond) // the server is being started again
		return a, false
	case err != nil:
		w.violation("%s %s: %v", method, path, err)
		return a, false
	case a.code == 503 && method == "DELETE" && (w.mayFail || w.links) && strings.Contains(string(a.body), "rebuilt"):
		return a, true // nothing goes before the index is whole again
	case a.code >= 500:
		w.violation("%s %s: %d %s", method, path, a.code, a.body)
		return a, false
	}
	return a, true
}

// within says whether an answer came while a promise held that was asked for at a time, and that no
// client took back by a DELETE of any of the things.
func (w *worker) within(a answer, promised time.Time, things ...string) bool {
	if a.received.Sub(promised) >= w.grace {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, thing := range things {
		if at, was := w.deleted[thing]; was && at.After(promised.Add(-time.Minute)) {
			return false // its own grace is another test's: here a DELETE excuses everything for a while
		}
	}
	return true
}

// deleting is called before a DELETE is sent.
func (w *worker) deleting(thing string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[thing] = time.Now().Add(time.Minute)
}

// deletedNow is called when it was answered: from then on a new promise counts.
func (w *worker) deletedNow(thing string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted[thing] = time.Now().Add(-time.Minute)
}

func inRepo(repo string, d digest.Digest) string { return repo + "@" + d.String() }

// offer makes sure that a blob is in a repository, as clients do: ask, mount or upload. It says since
// when that is promised.
func (w *worker) offer(repo string, b blob) (since time.Time, ok bool) {
	if w.random.IntN(8) > 0 {
		a, ok := w.ask("HEAD", "/v2/"+repo+"/blobs/"+b.digest.String(), nil)
		if !ok {
			return since, false
		}
		if a.code == 200 {
			return a.sent, true
		}
	}
	start := "/v2/" + repo + "/blobs/uploads/"
	mount := w.random.IntN(3) == 0
	if mount {
		start += "?mount=" + b.digest.String() + "&from=" + url.QueryEscape(pick(w, w.repos))
	}
	a, ok := w.ask("POST", start, nil)
	if !ok {
		return since, false
	}
	if a.code == 201 && mount {
		return a.sent, true
	}
	if a.code != 202 {
		w.violation("POST %s: %d %s", start, a.code, a.body)
		return since, false
	}
	return w.upload(a.header.Get("Location"), b)
}

func (w *worker) upload(location string, b blob) (since time.Time, ok bool) {
	rest := b.data
	if w.random.IntN(2) == 0 { // in pieces
		cut := w.random.IntN(len(rest))
		a, ok := w.ask("PATCH", location, rest[:cut], "Content-Type", "application/octet-stream")
		if !ok {
			return since, false
		}
		if a.code != 202 {
			w.violation("PATCH %s: %d %s", location, a.code, a.body)
			return since, false
		}
		location, rest = a.header.Get("Location"), rest[cut:]
	}
	to := location + "&digest=" + url.QueryEscape(b.digest.String())
	a, ok := w.ask("PUT", to, rest, "Content-Type", "application/octet-stream")
	if !ok {
		return since, false
	}
	if a.code != 201 {
		w.violation("PUT %s: %d %s", to, a.code, a.body)
		return since, false
	}
	return a.sent, true
}

// image makes an image of blobs of a pool, and of a configuration that few others have.
func (w *worker) image(subject *v1.Descriptor, pool []blob) (content, map[digest.Digest]blob) {
	config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","client":%d,"of":%d}`, w.id, w.random.IntN(40)))
	return w.imageWith(subject, pool, blob{digest.FromBytes(config), config})
}

func (w *worker) imageWith(subject *v1.Descriptor, pool []blob, config blob) (content, map[digest.Digest]blob) {
	blobs := map[digest.Digest]blob{}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Subject: subject}
	m.SchemaVersion = 2
	describe := func(mediaType string, b blob) v1.Descriptor {
		blobs[b.digest] = b
		return v1.Descriptor{MediaType: mediaType, Digest: b.digest, Size: int64(len(b.data))}
	}
	m.Config = describe(v1.MediaTypeImageConfig, config)
	for range 1 + w.random.IntN(4) {
		m.Layers = append(m.Layers, describe(v1.MediaTypeImageLayerGzip, pick(w, pool)))
	}
	data, err := json.Marshal(m)
	if err != nil {
		w.t.Error(err)
	}
	return content{mediaType: m.MediaType, data: data, blobs: slices.Collect(maps.Keys(blobs))}, blobs
}

// put puts a manifest whose parts were promised since the given times.
func (w *worker) put(repo, reference string, c content, since map[string]time.Time) bool {
	d := digest.FromBytes(c.data)
	w.mu.Lock()
	w.manifests[d] = c
	w.mu.Unlock()
	a, ok := w.ask("PUT", "/v2/"+repo+"/manifests/"+reference, c.data, "Content-Type", c.mediaType)
	if !ok {
		return false
	}
	if a.code == 201 {
		return true
	}
	w.refused.Add(1)
	for thing, promised := range since {
		if !w.within(a, promised, thing) {
			return false // something was promised too long ago, or deleted by somebody
		}
	}
	w.violation("PUT of %s to %s:%s was refused with %d %s, though all of it was promised within the last %v", d, repo,
		reference, a.code, a.body, w.grace)
	return false
}

func (w *worker) push(repo, tag string) (digest.Digest, bool) { return w.pushWith(repo, tag, nil, nil) }

func (w *worker) pushWith(repo, tag string, subject *v1.Descriptor, since map[string]time.Time) (digest.Digest, bool) {
	c, blobs := w.image(subject, w.blobs)
	return w.pushMade(repo, tag, c, blobs, since)
}

// pushMade pushes an image, beside whose blobs other things were promised since the given times.
func (w *worker) pushMade(repo, tag string, c content, blobs map[digest.Digest]blob,
	since map[string]time.Time) (digest.Digest, bool) {
	promised := maps.Clone(since)
	if promised == nil {
		promised = map[string]time.Time{}
	}
	for d, b := range blobs {
		at, ok := w.offer(repo, b)
		if !ok {
			return "", false
		}
		promised[inRepo(repo, d)] = at
	}
	if w.random.IntN(3) == 0 { // the manifest comes last, and as late as it may
		time.Sleep(stormGrace * time.Duration(40+w.random.IntN(50)) / 100)
	}
	d := digest.FromBytes(c.data)
	if tag == "" {
		tag = d.String()
	}
	return d, w.put(repo, tag, c, promised)
}

// pushLate is a client that has its layers promised and comes with the manifest as late as it may. Then
// it takes the manifest back, so that nothing but promises keeps the layers. Few upload anything into
// these repositories: an upload renews what other pushes were promised.
func (w *worker) pushLate(repo string) {
	c, blobs := w.imageWith(nil, w.loose, pick(w, w.loose))
	since := map[string]time.Time{}
	for d, b := range blobs {
		at, ok := w.offer(repo, b)
		if !ok {
			return
		}
		since[inRepo(repo, d)] = at
	}
	time.Sleep(w.grace * time.Duration(w.random.IntN(95)) / 100)
	d := digest.FromBytes(c.data)
	if w.put(repo, d.String(), c, since) {
		w.deleting(inRepo(repo, d))
		w.delete(inRepo(repo, d), "/v2/"+repo+"/manifests/"+d.String())
	}
}

// pushOwn pushes to a tag that no other client writes or deletes.
func (w *worker) pushOwn(repo string) {
	w.pushed++
	tag := fmt.Sprintf("own-%d-%d", w.id, w.pushed)
	d, ok := w.push(repo, tag)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[repo+":"+tag] = d
}

// pushIndex makes an index of what tags of the repository point to.
func (w *worker) pushIndex(repo string) {
	idx := v1.Index{MediaType: v1.MediaTypeImageIndex}
	idx.SchemaVersion = 2
	since := map[string]time.Time{}
	var c content
	for range 2 {
		a, ok := w.ask("HEAD", fmt.Sprintf("/v2/%s/manifests/t%d", repo, w.random.IntN(6)), nil, "Accept", "*/*")
		d := digest.Digest(a.header.Get("Docker-Content-Digest"))
		if !ok || a.code != 200 || slices.Contains(c.children, d) {
			continue
		}
		w.mu.Lock()
		child := w.manifests[d]
		w.mu.Unlock()
		idx.Manifests = append(idx.Manifests, v1.Descriptor{MediaType: child.mediaType, Digest: d,
			Size: int64(len(child.data))})
		c.children = append(c.children, d)
		since[inRepo(repo, d)] = a.sent
	}
	if len(idx.Manifests) == 0 {
		return
	}
	c.mediaType = idx.MediaType
	var err error
	if c.data, err = json.Marshal(idx); err != nil {
		w.t.Error(err)
	}
	w.put(repo, fmt.Sprintf("i%d", w.random.IntN(3)), c, since)
}

func (w *worker) pushReferrer(repo string) {
	a, ok := w.ask("HEAD", fmt.Sprintf("/v2/%s/manifests/t%d", repo, w.random.IntN(6)), nil, "Accept", "*/*")
	if !ok || a.code != 200 {
		return
	}
	d := digest.Digest(a.header.Get("Docker-Content-Digest"))
	w.pushWith(repo, "", &v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: d, Size: 1}, nil)
}

// pull reads everything that a tag promises, sometimes slowly.
func (w *worker) pull(repo, tag string) {
	if w.random.IntN(4) == 0 {
		tag = fmt.Sprintf("i%d", w.random.IntN(3))
	}
	a, ok := w.ask("GET", "/v2/"+repo+"/manifests/"+tag, nil, "Accept", "*/*")
	if !ok || a.code == 404 {
		return
	}
	w.readManifest(repo, tag, a)
}

func (w *worker) readManifest(repo, reference string, a answer) {
	d := digest.FromBytes(a.body)
	w.mu.Lock()
	c, made := w.manifests[d]
	w.mu.Unlock()
	if a.code != 200 || !made || a.header.Get("Docker-Content-Digest") != d.String() {
		w.violation("GET of %s:%s: %d, and bytes of digest %s that nobody pushed", repo, reference, a.code, d)
		return
	}
	since := a.sent
	names := []string{inRepo(repo, d), repo + ":" + reference}
	for _, child := range c.children {
		w.dawdle()
		a, ok := w.ask("GET", "/v2/"+repo+"/manifests/"+child.String(), nil, "Accept", "*/*")
		if !ok {
			return
		}
		if a.code == 404 && w.within(a, since, append(names, inRepo(repo, child))...) {
			w.violation("child %s of %s:%s is not there %v after its index was served", child, repo, reference,
				a.received.Sub(since))
		}
		if a.code != 404 {
			w.readManifest(repo, child.String(), a)
		}
	}

	for _, b := range c.blobs {
		w.dawdle()
		a, ok := w.ask("GET", "/v2/"+repo+"/blobs/"+b.String(), nil)
		if !ok {
			return
		}
		switch {
		case a.code == 200 && digest.FromBytes(a.body) != b:
			w.violation("GET of blob %s of %s: other bytes", b, repo)
		case a.code == 404 && w.within(a, since, append(names, inRepo(repo, b))...):
			w.violation("blob %s of %s:%s is not there %v after its manifest was served", b, repo, reference,
				a.received.Sub(since))
		case a.code != 200 && a.code != 404:
			w.violation("GET of blob %s of %s: %d", b, repo, a.code)
		}
	}
}

// dawdle is a slow client, one in a few.
func (w *worker) dawdle() {
	if w.random.IntN(16) == 0 {
		time.Sleep(time.Duration(w.random.Int64N(int64(stormGrace) / 2)))
	}
}

func (w *worker) retag(repo string) {
	a, ok := w.ask("GET", fmt.Sprintf("/v2/%s/manifests/t%d", repo, w.random.IntN(6)), nil, "Accept", "*/*")
	if !ok || a.code != 200 {
		return
	}
	d := digest.FromBytes(a.body)
	w.mu.Lock()
	c := w.manifests[d]
	w.mu.Unlock()
	since := map[string]time.Time{inRepo(repo, d): a.sent}
	for _, b := range c.blobs {
		since[inRepo(repo, b)] = a.sent
	}
	w.put(repo, fmt.Sprintf("t%d", w.random.IntN(6)), c, since)
}

// abandon begins an upload that nobody finishes.
func (w *worker) abandon(repo string) {
	a, ok := w.ask("POST", "/v2/"+repo+"/blobs/uploads/", nil)
	if ok && a.code == 202 && w.random.IntN(2) == 0 {
		w.ask("PATCH", a.header.Get("Location"), pick(w, w.blobs).data, "Content-Type", "application/octet-stream")
	}
}

// list wants that what is listed can be asked for.
func (w *worker) list(repo string) {
	w.ask("GET", "/v2/_catalog", nil)
	w.ask("GET", "/v2/"+repo+"/tags/list", nil)
}

func (w *worker) deleteTag(repo, tag string) {
	w.delete(repo+":"+tag, "/v2/"+repo+"/manifests/"+tag)
}

func (w *worker) deleteManifest(repo string) {
	a, ok := w.ask("HEAD", fmt.Sprintf("/v2/%s/manifests/t%d", repo, w.random.IntN(6)), nil, "Accept", "*/*")
	if ok && a.code == 200 {
		d := a.header.Get("Docker-Content-Digest")
		w.deleting(inRepo(repo, digest.Digest(d)))
		w.delete(inRepo(repo, digest.Digest(d)), "/v2/"+repo+"/manifests/"+d)
	}
}

func (w *worker) deleteBlob(repo string) {
	d := pick(w, w.blobs).digest
	w.delete(inRepo(repo, d), "/v2/"+repo+"/blobs/"+d.String())
}

func (w *worker) delete(thing, path string) {
	w.deleting(thing)
	a, ok := w.ask("DELETE", path, nil)
	w.deletedNow(thing)
	if ok && a.code != 202 && a.code != 404 && a.code != 405 && a.code != 503 {
		w.violation("DELETE %s: %d %s", path, a.code, a.body)
	}
}

// expire runs dcs gc processes back to back until ctx ends, and kills one now and then if it may.
func (st *storm) expire(ctx context.Context) {
	random := rand.New(rand.NewPCG(*seed, 1000))
	for ctx.Err() == nil {
		run, end := context.WithCancel(context.Background())
		killed := make(chan bool, 1)
		if st.mayFail && random.IntN(4) == 0 {
			timer := time.AfterFunc(time.Duration(random.IntN(120))*time.Millisecond, func() { killed <- true; end() })
			defer timer.Stop()
		}
		code, out, err := st.dcs(run, "gc")
		end()
		switch {
		case len(killed) > 0:
			st.kills.Add(1)
		case err != nil || code != 0:
			st.violation("dcs gc: exit %d, %v\n%s", code, err, out)
		}
		st.expiries.Add(1)
	}
}

// atRest pulls everything that is listed, and has the store checked.
func (st *storm) atRest() {
	w := &worker{storm: st, random: rand.New(rand.NewPCG(*seed, 2000))}
	for _, repo := range st.repos {
		a, ok := w.ask("GET", "/v2/"+repo+"/tags/list", nil)
		if !ok || a.code != 200 {
			continue // nothing in it
		}
		var list struct{ Tags []string }
		if err := json.Unmarshal(a.body, &list); err != nil {
			st.violation("tags of %s: %v", repo, err)
		}
		for _, tag := range list.Tags {
			got, ok := w.ask("GET", "/v2/"+repo+"/manifests/"+tag, nil, "Accept", "*/*")
			if ok && got.code == 200 {
				w.readManifest(repo, tag, got)
			} else if w.within(got, a.sent, repo+":"+tag) && st.grace > time.Minute {
				st.violation("tag %s:%s is listed and answers %d", repo, tag, got.code)
			}
		}
	}
	if code, out, err := st.dcs(context.Background(), "inspect", "--check", "--deep"); err != nil || code != 0 {
		st.violation("dcs inspect --check --deep: exit %d, %v\n%s", code, err, out)
	}
}

// allGone waits until the store has forgotten everything: names, content, uploads, trash. It gives up when nothing more
// goes for a minute: a busy disk may take longer for all.
func (st *storm) allGone() {
	st.t.Helper()
	var left []string
	fewest, deadline := math.MaxInt, time.Now()
	for ; fewest == math.MaxInt || time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var err error
		if left, err = st.files("docker", ".metadata/tmp", ".metadata/trash"); err != nil {
			st.t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if len(left) < fewest {
			fewest, deadline = len(left), time.Now().Add(time.Minute)
		}
	}
	st.violation("%d files are still there that nobody used for long: %.2000s", len(left), strings.Join(left, "\n"))
}

func (st *storm) end() {
	st.t.Helper()
	for _, line := range st.log.complaints() {
		st.violation("the server said: %s", line)
	}
	if n := st.outlived.Load(); n > 0 {
		st.t.Logf("%d images lived by uses of a part, or of what they sign, longer than one that had none", n)
	}
	st.t.Logf("seed %d: %d operations (%d PUTs refused, %d without an answer), %d runs of dcs gc, %d kills, %d violations",
		*seed, st.operations.Load(), st.refused.Load(), st.lost.Load(), st.expiries.Load(), st.kills.Load(),
		st.violations.Load())
}

// TestStorm lets clients loose on a server whose content lives for two seconds, while its own sweeper and
// dcs gc processes expire without a pause.
func TestStorm(t *testing.T) {
	s := newStore(t, "--cache.ttl", stormTTL.String(), "--cache.grace", stormGrace.String(), "--cache.cleanup_interval",
		"100ms")
	s.start()
	st := newStorm(t, s, stormGrace)
	st.awaitGate() // until then a DELETE is told to come again
	ctx, cancel := context.WithTimeout(t.Context(), *duration/storms)
	defer cancel()
	var gc sync.WaitGroup
	gc.Go(func() { st.expire(ctx) })
	gc.Go(func() { st.useParts(ctx, 8) })
	st.rage(ctx, 20)
	gc.Wait()
	st.atRest()
	st.allGone()
	if code, out, err := st.dcs(t.Context(), "inspect", "--check", "--deep"); err != nil || code != 0 {
		st.violation("dcs inspect --check --deep of what is left: exit %d, %v\n%s", code, err, out)
	}
	s.stop()
	st.end()
}

// TestStormOfKills kills the server again and again under the same load, and its dcs gc too. What was
// acknowledged is there afterwards, all of it; nothing half-written is ever served; and once the ttl is
// short, everything goes: no crash left anything behind that nobody would remove.
func TestStormOfKills(t *testing.T) {
	const grace = time.Second
	policy := func(ttl string) []string {
		return []string{"--cache.ttl", ttl, "--cache.grace", grace.String(), "--cache.cleanup_interval", "100ms"}
	}
	s := newStore(t, policy("1h")...)
	ready := s.start()
	st := newStorm(t, s, grace)
	st.mayFail = true
	ctx, cancel := context.WithTimeout(t.Context(), *duration/storms)
	defer cancel()
	var others sync.WaitGroup
	others.Go(func() { st.expire(ctx) })
	others.Go(func() { st.rage(ctx, 10) })
	random := rand.New(rand.NewPCG(*seed, 3000))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(50+random.IntN(1200)) * time.Millisecond):
			s.kill()
			st.kills.Add(1)
			ready = max(ready, s.start())
		}
	}
	others.Wait()
	st.mayFail = false
	st.checkAcknowledged()
	st.grace = time.Hour // nothing is expired by now: what is listed has to be there
	st.atRest()
	s.stop()
	t.Logf("%d acknowledged pushes; ready after at most %v", len(st.acked), ready.Round(time.Millisecond))

	s.args = policy("1s")
	s.start()
	st.allGone()
	s.stop()
	st.end()
}

// checkAcknowledged pulls every image whose push was acknowledged and whose name nobody deleted since.
func (st *storm) checkAcknowledged() {
	w := &worker{storm: st, random: rand.New(rand.NewPCG(*seed, 4000))}
	for ref, d := range st.acked {
		repo, tag, _ := strings.Cut(ref, ":")
		if _, was := st.deleted[inRepo(repo, d)]; was {
			continue // the same image under a shared tag, deleted by its digest
		}
		a, ok := w.ask("GET", "/v2/"+repo+"/manifests/"+tag, nil, "Accept", "*/*")
		if !ok || a.code != 200 || digest.FromBytes(a.body) != d {
			st.violation("%s was acknowledged as %s and answers %d", ref, d, a.code)
			continue
		}
		st.mu.Lock()
		c := st.manifests[d]
		st.mu.Unlock()
		for _, b := range c.blobs {
			if a, ok := w.ask("GET", "/v2/"+repo+"/blobs/"+b.String(), nil); ok && digest.FromBytes(a.body) != b {
				st.violation("blob %s of %s, which was acknowledged, answers %d", b, ref, a.code)
			}
		}
	}
}
