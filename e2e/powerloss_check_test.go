//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// check holds a data directory against what was acknowledged before a record: by its files, and then by a server.
func (h *history) check(t *testing.T, dir string, record int) {
	t.Helper()
	states := h.at(record)
	files := &stockTree{T: t, root: filepath.Join(dir, "docker/registry/v2"), blobs: map[digest.Digest]string{}}
	files.look()
	for repo, s := range states {
		files.holds(repo, s)
	}
	addr, server := serveOpen(t, dir)
	for repo, s := range states {
		(&served{t, "http://" + addr + "/v2/" + repo + "/", map[string]digest.Digest{}}).holds(repo, s)
	}
	server.stop(t)
	out, errs, code := try(t, exec.Command(dcsBin, "inspect", "--check", "--deep", "--storage.directory", dir))
	if code != 0 {
		t.Errorf("dcs inspect --check --deep: exit code %d\n%s%s", code, out, errs)
	}
}

// stockTree is a directory as a stock registry sees it.
type stockTree struct {
	*testing.T
	root  string
	blobs map[digest.Digest]string // that were read, and what is wrong with each
}

// look reads all files: a blob has the bytes that its name says, and a link leads to where its name says. A tag names a
// manifest that is whole.
func (f *stockTree) look() {
	err := filepath.WalkDir(f.root, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) && path == f.root || err == nil && e.Name() == "_uploads" {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		in, hex := filepath.Dir(path), filepath.Base(filepath.Dir(path))
		switch {
		case e.Name() == "data":
			f.blobs[digest.Digest("sha256:"+hex)] = ""
			if got := digest.FromBytes(data); got.Encoded() != hex {
				f.Errorf("%s has %d bytes of %s", path, len(data), got)
			}
		case hex == "current":
			repo := strings.TrimPrefix(filepath.Join(in, "../../../.."), f.root+"/repositories/")
			if why := f.broken(repo, digest.Digest(data)); why != "" {
				f.Errorf("%s is %q: %s", path, data, why)
			}
		case string(data) != "sha256:"+hex:
			f.Errorf("%s is %q", path, data)
		}
		return nil
	})
	if err != nil {
		f.Error(err)
	}
}

// broken says what is missing of an image.
func (f *stockTree) broken(repo string, d digest.Digest) (why string) {
	if d.Validate() != nil {
		return "no digest"
	}
	if !f.has(repo, "_manifests/revisions", d) {
		return "no revision " + d.String()
	}
	data, err := os.ReadFile(f.blob(d))
	if err != nil {
		return err.Error()
	}
	var m struct {
		Config            struct{ Digest digest.Digest }
		Layers, Manifests []struct{ Digest digest.Digest }
	}
	if err := json.Unmarshal(data, &m); err != nil || digest.FromBytes(data) != d {
		return fmt.Sprintf("%s has %d bytes of another: %v", d, len(data), err)
	}
	for _, child := range m.Manifests {
		if why := f.broken(repo, child.Digest); why != "" {
			return why
		}
	}
	if len(m.Manifests) > 0 {
		return ""
	}
	for _, part := range append(m.Layers, m.Config) {
		if !f.has(repo, "_layers", part.Digest) {
			return "no link to layer " + part.Digest.String()
		}
		if _, err := os.Stat(f.blob(part.Digest)); err != nil { // look compares the bytes of all
			return err.Error()
		}
	}
	return ""
}

func (f *stockTree) blob(d digest.Digest) string {
	return filepath.Join(f.root, "blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

// has says whether a repository has a link.
func (f *stockTree) has(repo, in string, d digest.Digest) bool {
	data, err := os.ReadFile(filepath.Join(f.root, "repositories", repo, in, "sha256", d.Encoded(), "link"))
	return err == nil && string(data) == d.String()
}

// holds wants what is right.
func (f *stockTree) holds(repo string, s *state) {
	for d, right := range s.manifests {
		if is := f.has(repo, "_manifests/revisions", d); !slices.Contains(right, is) {
			f.Errorf("files of %s: manifest %s is there: %v, want %v", repo, d, is, right)
		} else if is {
			if why := f.broken(repo, d); why != "" {
				f.Errorf("files of %s: manifest %s: %s", repo, d, why)
			}
		}
	}
	for tag, right := range s.tags {
		link, err := os.ReadFile(filepath.Join(f.root, "repositories", repo, "_manifests/tags", tag, "current/link"))
		if is := digest.Digest(link); err != nil && !os.IsNotExist(err) || !slices.Contains(right, is) {
			f.Errorf("files of %s: tag %s is %q, want %v: %v", repo, tag, is, right, err)
		}
	}
	for d, right := range s.layers {
		_, blob := f.blobs[d]
		if is := f.has(repo, "_layers", d); !slices.Contains(right, is) || is && !blob {
			f.Errorf("files of %s: layer %s has a link: %v, want %v; a blob: %v", repo, d, is, right, blob)
		}
	}
}

// served is a repository as a client sees it.
type served struct {
	*testing.T
	url  string
	seen map[string]digest.Digest // what get returned
}

// holds wants what is right, and the bytes of all that is served.
func (s *served) holds(repo string, want *state) {
	for d, right := range want.layers {
		if is := s.get("blobs/"+d.String()) == d; !slices.Contains(right, is) {
			s.Errorf("%s: layer %s is served: %v, want %v", repo, d, is, right)
		}
	}
	for d, right := range want.manifests {
		is := s.get("manifests/"+d.String()) == d
		if !slices.Contains(right, is) {
			s.Errorf("%s: manifest %s is served: %v, want %v", repo, d, is, right)
		}
		if is {
			s.whole(repo, d, want)
		}
	}
	for tag, right := range want.tags {
		if is := s.get("manifests/" + tag); !slices.Contains(right, is) {
			s.Errorf("%s: tag %s is %q, want %v", repo, tag, is, right)
		}
	}
}

func (s *served) whole(repo string, d digest.Digest, want *state) {
	for _, part := range want.parts[d] {
		kind := "blobs/"
		if _, manifest := want.parts[part]; manifest {
			kind = "manifests/"
		}
		if s.get(kind+part.String()) != part {
			s.Errorf("%s: %s of manifest %s is not served", repo, part, d)
		}
	}
}

// get returns the digest of the bytes that are served, if any are: it must be the one that is said.
func (s *served) get(what string) digest.Digest {
	got, seen := s.seen[what]
	if !seen {
		got = s.ask(what)
		s.seen[what] = got
	}
	return got
}

func (s *served) ask(what string) digest.Digest {
	resp, data, err := ask(http.MethodGet, s.url+what, "", nil, http.StatusOK, http.StatusNotFound)
	switch {
	case err != nil:
		s.Error(err)
		return ""
	case resp.StatusCode == http.StatusNotFound:
		return ""
	}
	got, said := digest.FromBytes(data), digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if _, asked, byDigest := strings.Cut(what, "/sha256:"); got != said || byDigest && got.Encoded() != asked {
		s.Errorf("%s%s: %d bytes of %s, with the header %s", s.url, what, len(data), got, said)
	}
	return got
}
