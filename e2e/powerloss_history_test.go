//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// history is what clients did, by the records of the disk: what was answered before a record happened before it, and
// what began after it did not.
type history struct {
	*disk
	addr    string
	settled []int // records before which all that was answered is sure

	mu  sync.Mutex // guards ops
	ops []*op
}

// op is a request, or the few that make one upload. Those of a repository come one after another.
type op struct {
	what            string // layer, manifest, delete layer, delete manifest, delete tag
	repo, tag       string
	digest          digest.Digest
	parts           []digest.Digest // of a manifest: what is needed to pull it
	began, answered int
}

// mark returns a record. No error: the test fails by the next call that wants an answer.
func (h *history) mark() int {
	n, err := h.disk.mark()
	if err != nil {
		h.Error("the disk: ", err)
	}
	return n
}

// do records a request, which must succeed.
func (h *history) do(o op, request func() error) {
	o.began = h.mark()
	err := request()
	o.answered = h.mark()
	if err != nil {
		h.Errorf("%s %s of %s: %v", o.what, o.tag+string(o.digest), o.repo, err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, &o)
}

// impatient gives up on a server that hangs.
var impatient = &http.Client{Timeout: time.Minute}

// ask sends a request, and wants one of some answers.
func ask(method, url, kind string, body []byte, want ...int) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", "+ocispec.MediaTypeImageIndex)
	resp, err := impatient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && !slices.Contains(want, resp.StatusCode) {
		err = fmt.Errorf("%s %s: %s\n%s", method, url, resp.Status, got)
	}
	return resp, got, err
}

// pusher is a client with a repository of its own.
type pusher struct {
	*history
	repo     string
	n, phase int
}

// shared are layers that all clients push.
var shared = [][]byte{noise(1), noise(5000), noise(70000)}

func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never an error
	return b
}

func (p *pusher) url(rest string) string { return "http://" + p.addr + "/v2/" + p.repo + "/" + rest }

func (p *pusher) work() {
	var before []ocispec.Descriptor
	for r := range 6 {
		sizes := []int{100, 4096, 33000}
		if p.n == 0 && r == 1 {
			sizes = append(sizes, 9<<20) // is synced by itself
		}
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: p.layer(fmt.Appendf(nil, `{"author":"%s %d %d"}`, p.repo, p.phase, r), r)}
		for i, size := range sizes {
			m.Layers = append(m.Layers, p.layer(noise(size+i), r+i))
		}
		m.Layers = append(m.Layers, p.layer(shared[r%len(shared)], r))
		parts := []digest.Digest{m.Config.Digest}
		for _, l := range m.Layers {
			parts = append(parts, l.Digest)
		}
		before = append(before, p.manifest(m.MediaType, m, "latest", parts))
		p.layer(noise(2000+r), r)
		switch r {
		case 1:
			p.manifest(m.MediaType, m, "stays", parts)
		case 2: // nothing has it any more but the platforms of an index
			index := ocispec.Index{Versioned: m.Versioned, MediaType: ocispec.MediaTypeImageIndex,
				Manifests: before[1:3]}
			p.manifest(index.MediaType, index, "multi", []digest.Digest{before[1].Digest, before[2].Digest})
		case 3:
			p.remove(op{what: "delete manifest", digest: before[0].Digest}, "manifests/"+before[0].Digest.String())
		case 4:
			p.remove(op{what: "delete tag", tag: "latest"}, "manifests/latest")
			alone := p.layer(noise(3000), r)
			p.remove(op{what: "delete layer", digest: alone.Digest}, "blobs/"+alone.Digest.String())
		case 5:
			p.remove(op{what: "delete manifest", digest: before[5].Digest}, "manifests/"+before[5].Digest.String())
			p.manifest(m.MediaType, m, "latest", parts)
		}
	}
}

// layer uploads one, in one of the ways in which clients do.
func (p *pusher) layer(data []byte, way int) ocispec.Descriptor {
	d := digest.FromBytes(data)
	p.do(op{what: "layer", repo: p.repo, digest: d}, func() error {
		const octets = "application/octet-stream"
		uploads := p.url("blobs/uploads/")
		if way%3 == 0 { // of another repository, if that has it
			resp, _, err := ask(http.MethodPost, uploads+"?from=team/app0&mount="+d.String(), octets, nil,
				http.StatusCreated, http.StatusAccepted)
			if err != nil || resp.StatusCode == http.StatusCreated {
				return err
			}
			_, _, err = ask(http.MethodPut, at(p.addr, resp)+"digest="+d.String(), octets, data, http.StatusCreated)
			return err
		}
		if way%3 == 1 {
			_, _, err := ask(http.MethodPost, uploads+"?digest="+d.String(), octets, data, http.StatusCreated)
			return err
		}
		resp, _, err := ask(http.MethodPost, uploads, octets, nil, http.StatusAccepted)
		if err != nil {
			return err
		}
		resp, _, err = ask(http.MethodPatch, strings.TrimRight(at(p.addr, resp), "?&"), octets, data, http.StatusAccepted)
		if err != nil {
			return err
		}
		_, _, err = ask(http.MethodPut, at(p.addr, resp)+"digest="+d.String(), octets, nil, http.StatusCreated)
		return err
	})
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(data))}
}

// at returns where an upload goes on, ready for a parameter.
func at(addr string, resp *http.Response) string {
	where := resp.Header.Get("Location")
	if strings.HasPrefix(where, "/") {
		where = "http://" + addr + where
	}
	if strings.Contains(where, "?") {
		return where + "&"
	}
	return where + "?"
}

func (p *pusher) manifest(kind string, m any, tag string, parts []digest.Digest) ocispec.Descriptor {
	data, err := json.Marshal(m)
	if err != nil {
		p.Error(err)
	}
	d := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
	p.do(op{what: "manifest", repo: p.repo, tag: tag, digest: d.Digest, parts: parts}, func() error {
		_, _, err := ask(http.MethodPut, p.url("manifests/"+tag), kind, data, http.StatusCreated)
		return err
	})
	return d
}

func (p *pusher) remove(o op, what string) {
	o.repo = p.repo
	p.do(o, func() error {
		_, _, err := ask(http.MethodDelete, p.url(what), "", nil, http.StatusAccepted)
		return err
	})
}

// state is what a repository has: for each tag and manifest and layer that was ever pushed, what is right. Things of a
// request that was under way may be as before it or as after it.
type state struct {
	tags      map[string][]digest.Digest // "": there is none
	manifests map[digest.Digest][]bool
	layers    map[digest.Digest][]bool
	parts     map[digest.Digest][]digest.Digest
}

// at returns what each repository may have when the power was lost before a record.
func (h *history) at(record int) map[string]*state {
	sure := 0 // all that was answered before this record
	for _, s := range h.settled {
		if s <= record {
			sure = s
		}
	}
	for _, o := range h.ops {
		if o.what == "manifest" && o.answered <= record {
			sure = max(sure, o.began)
		}
	}
	repos := map[string]*state{}
	ops := slices.Clone(h.ops)
	slices.SortFunc(ops, func(a, b *op) int { return a.began - b.began })
	for _, o := range ops {
		s := repos[o.repo]
		if s == nil {
			s = &state{map[string][]digest.Digest{}, map[digest.Digest][]bool{}, map[digest.Digest][]bool{},
				map[digest.Digest][]digest.Digest{}}
			repos[o.repo] = s
		}
		if o.began < record {
			s.apply(o, o.answered <= record, o.answered <= sure)
		}
	}
	return repos
}

// apply changes what is right by a request that was answered or, else, may have happened.
func (s *state) apply(o *op, answered, sure bool) {
	switch o.what {
	case "layer":
		set(s.layers, o.digest, true, sure)
	case "delete layer":
		set(s.layers, o.digest, false, answered)
	case "manifest":
		s.parts[o.digest] = o.parts
		set(s.manifests, o.digest, true, answered)
		set(s.tags, o.tag, o.digest, answered)
	case "delete manifest":
		set(s.manifests, o.digest, false, answered)
		for tag, is := range s.tags {
			if slices.Contains(is, o.digest) {
				set(s.tags, tag, "", answered)
			}
		}
	case "delete tag":
		set(s.tags, o.tag, "", answered)
	}
}

// set says what is right from now on, alone or beside what was. What was never set is zero.
func set[K, V comparable](m map[K][]V, k K, v V, alone bool) {
	was, known := m[k]
	switch {
	case alone:
		was = nil
	case !known:
		was = append(was, *new(V))
	}
	m[k] = append(slices.Clone(was), v)
}
