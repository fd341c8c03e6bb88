package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// useParts lets clients loose that do not ask for all that they need: lazy pullers, which read the bytes of a layer now
// and then, and those that pull an image whose signature is in another repository. What is used so is whole, and what
// nothing uses beside it goes. What was begun when ctx ends is ended.
func (st *storm) useParts(ctx context.Context, clients int) {
	var wg sync.WaitGroup
	for i := range clients {
		id := 1000 + i
		p := &partUser{worker: &worker{storm: st, id: id, random: rand.New(rand.NewPCG(*seed, uint64(id)))}}
		scenes := []func(){p.readLazily, p.useSigned, p.useSignature}
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				scenes[n%len(scenes)]()
				p.round++
			}
		})
	}
	wg.Wait()
}

// partUser is a client with repositories of its own, so that nothing but its uses keeps what is in them.
type partUser struct {
	*worker
	round int
}

// tagged is an image under a tag.
type tagged struct{ repo, tag string }

// image makes one that no other push makes, with a layer that another image may have.
func (p *partUser) image(name string, pool []blob) (content, map[digest.Digest]blob) {
	config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","client":%d,"round":%d,"name":%q}`, p.id, p.round,
		name))
	return p.imageWith(nil, pool, blob{digest.FromBytes(config), config})
}

// readLazily reads the bytes of a layer that two images of a repository have. The one that was used last lives by that,
// and the other goes.
func (p *partUser) readLazily() {
	repo := fmt.Sprint("lazy/", p.id)
	shared := pick(p.worker, p.blobs)
	older, olderBlobs := p.image("older", []blob{shared})
	newer, newerBlobs := p.image("newer", append(slices.Clone(p.blobs[:4]), shared))
	if !slices.Contains(newer.blobs, shared.digest) {
		return
	}
	if _, ok := p.pushMade(repo, "older", older, olderBlobs, nil); !ok {
		return
	}
	if _, ok := p.pushMade(repo, "newer", newer, newerBlobs, nil); !ok {
		return
	}
	p.keep(tagged{repo, "newer"}, tagged{repo, "older"}, "/v2/"+repo+"/blobs/"+shared.digest.String())
}

// useSigned pulls an image. Its signature in another repository lives by that, and that of another image goes.
func (p *partUser) useSigned() {
	signatures := fmt.Sprint("signatures/", p.id)
	of := map[string]string{}
	for _, name := range []string{"unused", "used"} {
		c, blobs := p.image(name, p.blobs)
		d, ok := p.pushMade(fmt.Sprint("signed/", p.id), name, c, blobs, nil)
		if !ok {
			return
		}
		of[name] = signatureOf(d)
		c, blobs = p.image("signature of "+name, p.blobs)
		if _, ok := p.pushMade(signatures, of[name], c, blobs, nil); !ok {
			return
		}
	}
	p.keep(tagged{signatures, of["used"]}, tagged{signatures, of["unused"]},
		fmt.Sprintf("/v2/signed/%d/manifests/used", p.id))
}

// useSignature pulls a signature. That is no use of the image in another repository that it is about.
func (p *partUser) useSignature() {
	signed, signatures := fmt.Sprint("signed/", p.id), fmt.Sprint("signatures/", p.id)
	c, blobs := p.image("signed", p.blobs)
	d, ok := p.pushMade(signed, "signed", c, blobs, nil)
	if !ok {
		return
	}
	c, blobs = p.image("signature", p.blobs)
	if _, ok := p.pushMade(signatures, signatureOf(d), c, blobs, nil); !ok {
		return
	}
	p.keep(tagged{signatures, signatureOf(d)}, tagged{signed, "signed"},
		"/v2/"+signatures+"/manifests/"+signatureOf(d))
}

func signatureOf(d digest.Digest) string { return "sha256-" + d.Encoded() + ".sig" }

// keep asks for a path, over and over and never later than the ttl, until an image is gone that this is no use of, and
// for two ttls more. Then the image that it is a use of has to be whole; and that goes, too, once nothing asks.
func (p *partUser) keep(alive, dying tagged, path string) {
	var used time.Time
	use := func() bool {
		a, ok := p.ask("GET", path, nil, "Accept", "*/*")
		if ok && a.code != 200 && a.received.Sub(used) < stormTTL {
			p.violation("GET %s: %d %s, %v after it was used", path, a.code, a.body, a.received.Sub(used))
		}
		used = a.sent
		time.Sleep(stormTTL * time.Duration(30+p.random.IntN(40)) / 100)
		return ok && a.code == 200 // or this client was too slow
	}
	if !p.gone(dying, use) || !use() || !use() || !use() || !use() {
		return
	}
	a, ok := p.ask("GET", "/v2/"+alive.repo+"/manifests/"+alive.tag, nil, "Accept", "*/*")
	switch {
	case !ok:
		return
	case a.code == 200:
		p.readManifest(alive.repo, alive.tag, a)
		p.outlived.Add(1)
	case a.received.Sub(used) < stormTTL:
		p.violation("%v: %d, %v after GET %s", alive, a.code, a.received.Sub(used), path)
	}
	p.gone(alive, func() bool {
		time.Sleep(100 * time.Millisecond)
		return true
	})
}

// gone does something until an image is not listed any more. False: it could not be done, or the image stays.
func (p *partUser) gone(image tagged, meanwhile func() bool) bool {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		there, ok := p.listed(image)
		if !ok || !there {
			return ok
		}
		if !meanwhile() {
			return false
		}
	}
	p.violation("%v is still there, which nothing used for a minute", image)
	return false
}

// listed says whether a tag is, which is no use of it. ok: it is known.
func (p *partUser) listed(image tagged) (there, ok bool) {
	a, ok := p.ask("GET", "/v2/"+image.repo+"/tags/list", nil)
	if !ok || a.code == 404 {
		return false, ok
	}
	var list struct{ Tags []string }
	if err := json.Unmarshal(a.body, &list); err != nil {
		p.violation("tags of %s: %d %s", image.repo, a.code, a.body)
		return false, false
	}
	return slices.Contains(list.Tags, image.tag), true
}
