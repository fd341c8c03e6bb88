package layout

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// The directories below are those that hold several others, and so grow with what is stored. They are named by their
// paths below Root, without a slash at the beginning.

const (
	blobsDir        = "blobs"
	repositoriesDir = "repositories"
)

// Below is a path of the tree, as one below Root.
func Below(path string) string { return strings.TrimPrefix(path, Root+"/") }

// Above returns the directories that hold the directory of a key's file, the nearest one first.
func Above(k Key) []string {
	if k.Kind == Blob {
		return above(blobsDir + "/" + k.Digest.Algorithm().String() + "/" + prefix(k.Digest))
	}
	if k.Kind == Tag {
		return above(Below(TagsDir(k.Repository)))
	}
	return above(Below(LinksDir(k.Kind, k.Repository)) + "/" + k.Digest.Algorithm().String())
}

// above returns a directory and those that it is in.
func above(dir string) (dirs []string) {
	for i := len(dir); i > 0; i = strings.LastIndexByte(dir[:i], '/') {
		dirs = append(dirs, dir[:i])
	}
	return dirs
}

// RepositoryDirs returns the directories that may hold what belongs to a repository, and those that they are in.
func RepositoryDirs(repo string) []string {
	dirs := append(above(Below(TagsDir(repo))), Below(LinksDir(Layer, repo)), Below(LinksDir(Manifest, repo)))
	for _, alg := range algorithms {
		dirs = append(dirs, Below(LinksDir(Layer, repo))+"/"+alg.String(),
			Below(LinksDir(Manifest, repo))+"/"+alg.String())
	}
	return dirs
}

// BlobDirs returns the directories that may hold blobs, and those that they are in.
func BlobDirs() []string {
	const hex = "0123456789abcdef"
	dirs := []string{blobsDir}
	for _, alg := range algorithms {
		of := blobsDir + "/" + alg.String()
		dirs = append(dirs, of)
		for i := range 256 {
			dirs = append(dirs, of+"/"+string([]byte{hex[i/16], hex[i%16]}))
		}
	}
	return dirs
}

// UploadsAbove returns the list of uploads of a repository, and the directories that it is in.
func UploadsAbove(repo string) []string { return above(Below(UploadsDir(repo))) }

// algorithms are those of digests that a registry stores.
var algorithms = []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512}
