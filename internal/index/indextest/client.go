package indextest

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// memory makes leases relaxed, as a server's does: a row is written when its lease is older than the
// resolution.
type memory struct {
	mu     sync.Mutex // guards leased; held over no call
	leased map[layout.Key]time.Time
}

func (m *memory) fresh(k layout.Key, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Sub(m.leased[k]) < racePolicy.Resolution
}

func (m *memory) note(k layout.Key, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leased[k] = at
}

// client does what requests do, in the order that the laws demand, and tells the witness what it promised.
type client struct {
	*witness
	index.Store
	memory *memory
	start  time.Time
	done   map[string]int
}

// work makes requests about one image of one repository for a while, then about another, so that the
// rest gets old.
func (c *client) work(over func() bool) {
	images := []string{"m0", "i0", "m1", "s0", "m2"}
	for !over() && !c.Failed() {
		phase := int(time.Since(c.start) / (100 * time.Millisecond))
		repo, image := raceRepos[phase%2], images[phase/2%len(images)]
		layer, tag := raceImages[image][rand.IntN(2)%len(raceImages[image])], raceTags[rand.IntN(2)]
		if _, ok := raceImages[layer]; ok {
			layer = "l2"
		}
		switch n := rand.IntN(100); {
		case n < 2:
			c.onlyHeads(repo)
		case n < 4:
			c.onlyPulls(repo)
		case n < 15:
			c.head(repo, layer)
		case n < 30:
			c.upload(repo, layer)
		case n < 38:
			c.mount(raceRepos[(phase+1)%2], repo, layer)
		case n < 60:
			c.push(repo, image, tag)
		case n < 72:
			c.pull(repo, image)
		case n < 88:
			c.pullTag(repo, tag)
		case n < 92:
			c.deleteManifest(repo, image)
		case n < 95:
			c.deleteTag(repo, tag)
		default:
			c.deleteLayer(repo, layer)
		}
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		}
	}
}

// stall is a request that loses the processor, now and then for longer than any grace.
func (c *client) stall() {
	switch rand.IntN(60) {
	case 0:
		time.Sleep(raceLease + 20*time.Millisecond)
	case 1, 2, 3:
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
}

func (c *client) ok(err error) bool {
	c.Helper()
	if err != nil && !errors.Is(err, errMissing) {
		c.Errorf("%v", err)
	}
	return err == nil
}

// see leases, then looks; what is there and unknown is adopted by looking again.
func (c *client) see(k layout.Key) (since time.Time, there bool) {
	since = time.Now()
	known := c.memory.fresh(k, since)
	if !known {
		leased, err := c.Lease(c.Context(), k)
		c.ok(err)
		if known = leased[0].Found; known {
			c.memory.note(k, since)
		}
	}
	c.stall()
	there = c.disk.has(k)
	if there && !known {
		c.ok(c.Adopt(c.Context(), func() (index.Adoption, bool, error) {
			there = c.disk.has(k)
			a := index.Adoption{Claim: c.claimOf(k)}
			if k.Kind == layout.Tag {
				a.Digest, there = c.disk.target(k)
			}
			return a, there, nil
		}))
		c.done["adopted"]++
	}
	return since, there
}

func (c *client) claimOf(k layout.Key) index.Claim {
	claim := index.Claim{Key: k}
	for m := range raceImages {
		if k.Kind == layout.Manifest && dg(m) == k.Digest {
			claim.Manifest = raceContent(m)
		}
	}
	return claim
}

// place claims, writes beside, and renames once all that it needs was looked at. seen says since when
// each of them is in lease.
func (c *client) place(k layout.Key, text string, seen map[layout.Key]time.Time) (since time.Time, ok bool) {
	since = time.Now()
	if !c.ok(c.Claim(c.Context(), c.claimOf(k))) {
		return since, false
	}
	c.memory.note(k, since)
	c.stall()
	file, err := c.disk.prepare(text)
	if !c.ok(err) {
		return since, false
	}
	c.stall()
	err = Place(c.Context(), c, c.claimOf(k), func() error { return c.rename(file, k, c.disk.needs(k), seen) })
	if err != nil && rand.IntN(2) == 0 {
		c.ok(c.Unclaim(c.Context(), k))
	}
	return since, c.ok(err)
}

func (c *client) rename(file string, k layout.Key, needs []layout.Key, seen map[layout.Key]time.Time) error {
	for _, n := range needs {
		if !c.disk.has(n) {
			c.refused(seen[n], n, "place "+k.String())
			return errors.Join(errMissing, os.Remove(file))
		}
	}
	return os.Rename(file, c.disk.path(k))
}

func (c *client) head(repo, layer string) bool {
	k := link(repo, layer)
	since, ok := c.see(k)
	if !ok {
		return false
	}
	if !c.disk.has(blob(layer)) {
		c.refused(since, blob(layer), "head "+k.String())
		return false
	}
	c.done["head"]++
	c.promise(since, "HEAD", c.disk.all(k)...)
	return true
}

// onlyHeads is a layer that no manifest holds: it lives by being asked for.
func (c *client) onlyHeads(repo string) {
	if !c.head(repo, "alone") {
		c.upload(repo, "alone")
	}
	for range 8 {
		time.Sleep(15 * time.Millisecond)
		c.head(repo, "alone")
	}
}

// onlyPulls is an image whose layers no client asks for before it is deleted.
func (c *client) onlyPulls(repo string) {
	if !c.pull(repo, "short") {
		c.pushManifest(repo, "short")
	}
	for range 6 {
		time.Sleep(15 * time.Millisecond)
		c.pull(repo, "short")
	}
	c.deleteManifest(repo, "short")
}

// upload skips the blob when it is there, as distribution does.
func (c *client) upload(repo, layer string) (since time.Time, ok bool) {
	since, ok = c.see(blob(layer))
	if !ok {
		if since, ok = c.place(blob(layer), layer, nil); !ok {
			return since, false
		}
	}
	c.done["upload"]++
	return c.putLink(repo, layer, since)
}

func (c *client) putLink(repo, layer string, seen time.Time) (since time.Time, ok bool) {
	k := link(repo, layer)
	since, ok = c.place(k, layer, map[layout.Key]time.Time{blob(layer): seen})
	if ok {
		c.promise(since, "link", c.disk.all(k)...)
	}
	return since, ok
}

func (c *client) mount(from, to, layer string) {
	if since, ok := c.see(link(from, layer)); ok {
		c.done["mount"]++
		c.putLink(to, layer, since)
	}
}

// pushManifest pushes what the manifest names unless it is there, then the manifest.
func (c *client) pushManifest(repo, image string) (since time.Time, ok bool) {
	seen := map[layout.Key]time.Time{}
	for _, ref := range raceImages[image] {
		k := named(repo, ref)
		at, ok := c.see(k)
		if !ok {
			if k.Kind == layout.Manifest {
				at, ok = c.pushManifest(repo, ref)
			} else {
				at, ok = c.upload(repo, ref)
			}
		}
		if !ok {
			return since, false
		}
		seen[k] = at
	}
	at, ok := c.see(blob(image))
	if !ok {
		if at, ok = c.place(blob(image), image, nil); !ok {
			return since, false
		}
	}
	seen[blob(image)] = at
	k := man(repo, image)
	since, ok = c.place(k, image, seen)
	if ok {
		c.done["manifest"]++
		c.promise(since, "PUT", c.disk.all(k)...)
	}
	return since, ok
}

func (c *client) push(repo, image, tag string) {
	seen, ok := c.pushManifest(repo, image)
	if !ok {
		return
	}
	to, k := man(repo, image), tagged(repo, tag)
	c.stall()
	file, err := c.disk.prepare(to.Digest.String())
	if !c.ok(err) {
		return
	}
	since := time.Now()
	err = MoveTag(c.Context(), c, repo, tag, to.Digest, func() error {
		return c.rename(file, k, []layout.Key{to}, map[layout.Key]time.Time{to: seen})
	})
	if c.ok(err) {
		c.done["tag"]++
		c.promise(since, "PUT of a tag", k)
	}
}

func (c *client) pull(repo, image string) bool {
	k := man(repo, image)
	since, ok := c.see(k)
	if ok {
		c.done["pull"]++
		c.promise(since, "GET", c.disk.all(k)...)
	}
	return ok
}

// pullTag reads the link of the tag, then that of the revision.
func (c *client) pullTag(repo, tag string) {
	k := tagged(repo, tag)
	since, ok := c.see(k)
	to, there := c.disk.target(k)
	if !ok || !there {
		return
	}
	c.stall()
	of := layout.ManifestKey(repo, to)
	at, ok := c.see(of)
	if !ok {
		c.refused(since, of, "pull "+k.String())
		return
	}
	c.done["pull of a tag"]++
	c.promise(since, "GET of a tag", k)
	c.promise(at, "GET by tag", c.disk.all(of)...)
}

func (c *client) deleteManifest(repo, image string) {
	k := man(repo, image)
	err := c.DeleteManifest(c.Context(), repo, k.Digest, func(tags []string) error {
		for _, t := range tags {
			if err := c.remove(tagged(repo, t)); err != nil {
				return err
			}
		}
		return c.remove(k)
	})
	c.deletedOrNeeded("manifest", err)
}

func (c *client) deleteLayer(repo, layer string) {
	k := link(repo, layer)
	c.deletedOrNeeded("layer", c.DeleteLayer(c.Context(), repo, k.Digest, func() error { return c.remove(k) }))
}

func (c *client) deleteTag(repo, tag string) {
	c.deletedOrNeeded("tag", c.DeleteTag(c.Context(), repo, tag, func() error { return c.remove(tagged(repo, tag)) }))
}

func (c *client) deletedOrNeeded(what string, err error) {
	var needed *index.ReferencedError
	if errors.As(err, &needed) {
		c.done["refused "+what]++
	} else if c.ok(err) {
		c.done["deleted "+what]++
	}
}
