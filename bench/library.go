package main

import (
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/bench/load"
	"github.com/jc-lab/docker-cache-server/bench/stores"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// smallBlob is the size of a small blob.
const smallBlob = 4 << 10

// readImages are the images that are asked for again and again: 384 blobs, few enough for every cache.
var readImages = stores.Shape{Images: 64, Repositories: 4, Layers: 5, Size: smallBlob}

// library is the store that is only read, and what can be asked of it.
type library struct {
	dir    string
	images []stores.Image
	large  load.Request
}

// twin has the same files by other names: each dcs wants a directory of its own.
func (l *library) twin(of string) string { return l.dir + "-" + of }

// The twins.
const forLogin, forTLS = "login", "tls"

// library makes the store when it is first wanted.
func (b *bench) library() (*library, error) {
	if b.images != nil {
		return b.images, nil
	}
	dir, err := b.sub("library")
	if err != nil {
		return nil, err
	}
	l := &library{dir: dir}
	for i := range readImages.Images {
		l.images = append(l.images, readImages.Image(i))
	}
	if err := stores.Disk(tree.Dir(dir), readImages); err != nil {
		return nil, err
	}
	if err := l.addLarge(b.Blob); err != nil {
		return nil, err
	}
	b.images = l
	for _, p := range b.programs() { // before a server makes an index in the first
		for _, to := range []string{l.dir, l.twin(forLogin), l.twin(forTLS)} {
			if to = p.own(to); to == l.dir {
				continue
			}
			if err := link(dir, to); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// addLarge adds a blob of noise to the first repository.
func (l *library) addLarge(size int64) error {
	tmp := filepath.Join(l.dir, "large")
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	hash := digest.Canonical.Digester()
	_, err = io.Copy(io.MultiWriter(f, hash.Hash()), io.LimitReader(rand.NewChaCha8([32]byte{'l'}), size))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	d, repo := hash.Digest(), l.images[0].Repository
	blob, layer := tree.Dir(l.dir).File(layout.BlobKey(d).Path()), tree.Dir(l.dir).File(layout.LayerKey(repo, d).Path())
	for _, file := range []string{blob, layer} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
	}
	l.large = load.Request{Method: "GET", Path: "/v2/" + repo + "/blobs/" + d.String(), Length: size,
		Digest: d}.Prepare()
	return errors.Join(
		os.Rename(tmp, blob),
		os.WriteFile(layer, []byte(d), 0o644))
}

// link gives every file of a tree a second name in another one.
func link(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// accept is what docker sends when it asks for a manifest, to every server alike.
const accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json\r\n"

func blobRequest(method, repo string, b stores.Blob) load.Request {
	return load.Request{Method: method, Path: "/v2/" + repo + "/blobs/" + b.Digest.String(), Length: int64(len(b.Data)),
		Digest: b.Digest}
}

func manifestRequest(method string, im stores.Image, reference string) load.Request {
	return load.Request{Method: method, Path: "/v2/" + im.Repository + "/manifests/" + reference, Header: accept,
		Length: int64(len(im.Manifest.Data)), Digest: im.Manifest.Digest}
}

// asking makes the requests of all images.
func asking(images []stores.Image, of func(stores.Image) []load.Request) (all []load.Request) {
	for _, im := range images {
		for _, r := range of(im) {
			all = append(all, r.Prepare())
		}
	}
	return all
}

func blobs(method string) func(stores.Image) []load.Request {
	return func(im stores.Image) (all []load.Request) {
		for _, b := range im.Blobs {
			all = append(all, blobRequest(method, im.Repository, b))
		}
		return all
	}
}

func byTag(method string) func(stores.Image) []load.Request {
	return func(im stores.Image) []load.Request { return []load.Request{manifestRequest(method, im, im.Tag)} }
}

func byDigest(method string) func(stores.Image) []load.Request {
	return func(im stores.Image) []load.Request {
		return []load.Request{manifestRequest(method, im, im.Manifest.Digest.String())}
	}
}

// wholeImage pulls as clients do: the manifest, then each blob, asked for and got.
func wholeImage(im stores.Image) []load.Request {
	all := byTag("GET")(im)
	for _, b := range im.Blobs {
		all = append(all, blobRequest("HEAD", im.Repository, b), blobRequest("GET", im.Repository, b))
	}
	return all
}

// loggedIn makes the same requests with a password.
func loggedIn(requests []load.Request) []load.Request {
	all := make([]load.Request, len(requests))
	for i, r := range requests {
		r.Header += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
		all[i] = r.Prepare()
	}
	return all
}
