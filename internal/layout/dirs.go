package layout

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// LinksDir holds the layer links of a repository, or with the kind Manifest the links of its manifests.
func LinksDir(kind Kind, repo string) string {
	if kind == Manifest {
		return Repositories + "/" + repo + "/_manifests/revisions"
	}
	return Repositories + "/" + repo + "/_layers"
}

// ManifestsDir holds the links of a repository's manifests, and its tags.
func ManifestsDir(repo string) string { return Repositories + "/" + repo + "/_manifests" }

// TagsDir holds the tags of a repository.
func TagsDir(repo string) string { return ManifestsDir(repo) + "/tags" }

// TagDir holds a tag: its link, and its history.
func TagDir(repo, tag string) string { return TagsDir(repo) + "/" + tag }

// TagIndexDir holds the history of a tag: an entry for each manifest that it pointed to.
func TagIndexDir(repo, tag string) string { return TagDir(repo, tag) + "/index" }

// TagIndexEntryDir holds one entry of a tag's history.
func TagIndexEntryDir(repo, tag string, d digest.Digest) string {
	return TagIndexDir(repo, tag) + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// UploadsDir holds the unfinished uploads of a repository.
func UploadsDir(repo string) string { return Repositories + "/" + repo + "/_uploads" }

// Upload names an unfinished upload.
type Upload struct{ Repository, ID string }

// Dir holds the files of the upload.
func (u Upload) Dir() string { return UploadsDir(u.Repository) + "/" + u.ID }

// Data is the file of the bytes that came. StartedAt says when the upload began, and is touched when it goes on.
func (u Upload) Data() Path { return Path{Kind: UploadData, Repository: u.Repository, Upload: u.ID} }
func (u Upload) StartedAt() Path {
	return Path{Kind: UploadStartedAt, Repository: u.Repository, Upload: u.ID}
}

// UploadFiles are the files that are written when an upload goes on, and UploadEntries all that its directory may hold.
var (
	UploadFiles   = []string{"data", "startedat"}
	UploadEntries = append([]string{"hashstates"}, UploadFiles...)
)

// Known says whether a path is that of a file of the tree, or of a directory that may hold one.
func Known(path string) bool {
	if strings.HasPrefix(Root+"/", path+"/") {
		return true
	}
	base := path[strings.LastIndex(path, "/")+1:]
	for _, alg := range algorithms {
		hex := strings.Repeat("00", alg.Size())
		for _, below := range []string{"", "/link", "/data", "/0", "/a/data",
			"/current/link", "/a/current/link", "/tags/a/current/link",
			"/" + hex + "/link", "/" + alg.String() + "/" + hex + "/link", "/_layers/" + alg.String() + "/" + hex +
				"/link",
			"/a/_layers/" + alg.String() + "/" + hex + "/link", "/" + strings.Repeat(base, alg.Size()) + "/data",
			"/00/" + hex + "/data", "/" + alg.String() + "/00/" + hex + "/data"} {
			if _, ok := Parse(path + below); ok {
				return true
			}
		}
	}
	return false
}
