package files

import (
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// pending are the layers that were answered and have no name yet, by digest. A read asks here first, and then looks at
// the tree: a layer leaves by the rename that gives it its name.
type pending struct {
	mu       sync.Mutex // guards the rest; held over no I/O
	layers   map[digest.Digest][]*tree.Held
	finished map[layout.Upload]bool // uploads whose directories still keep the rest of their push
}

func newPending() *pending {
	return &pending{layers: map[digest.Digest][]*tree.Held{}, finished: map[layout.Upload]bool{}}
}

// add makes a layer known. Its upload is over, if it has one.
func (p *pending) add(h *tree.Held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers[h.Digest] = append(p.layers[h.Digest], h)
	if !h.Mounted() {
		p.finished[uploadOf(h)] = true
	}
}

// leave forgets a layer, which has its name or is dropped.
func (p *pending) leave(h *tree.Held) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(p.layers[h.Digest], func(other *tree.Held) bool { return other == h })
	if p.layers[h.Digest] = left; len(left) == 0 {
		delete(p.layers, h.Digest)
	}
}

// layer returns the layer of a repository. Nil: it is not pending.
func (p *pending) layer(k layout.Key) *tree.Held {
	return p.find(k.Digest, func(h *tree.Held) bool { return h.Repository == k.Repository })
}

// bytes returns a layer of any repository that has the bytes of a blob. Nil: they do not wait.
func (p *pending) bytes(d digest.Digest) *tree.Held {
	return p.find(d, func(h *tree.Held) bool { return !h.Mounted() })
}

func (p *pending) find(d digest.Digest, like func(*tree.Held) bool) *tree.Held {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.layers[d], like); i >= 0 {
		return p.layers[d][i]
	}
	return nil
}

// has says whether a repository has a layer that is pending.
func (p *pending) has(repo string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, hs := range p.layers {
		if slices.ContainsFunc(hs, func(h *tree.Held) bool { return h.Repository == repo }) {
			return true
		}
	}
	return false
}

func uploadOf(h *tree.Held) layout.Upload { return layout.Upload{Repository: h.Repository, ID: h.ID} }

// over says whether an upload is finished, though its directory is there.
func (p *pending) over(u layout.Upload) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished[u]
}

// gone says that the directory of an upload is removed.
func (p *pending) gone(u layout.Upload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.finished, u)
}
