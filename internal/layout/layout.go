// Package layout knows where things are in a data directory, and nothing else about them.
//
// Below a data directory stand two trees. `docker/registry/v2` is distribution's, exactly: a stock
// registry can serve it, and what a stock registry wrote can be adopted. `.metadata` is dcs's own: the
// index, which can be deleted at any time at the price of the recency in it, the users, and the key that
// signs uploads.
//
//	docker/registry/v2/blobs/ALG/XX/HEX/data
//	docker/registry/v2/repositories/NAME/_layers/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_manifests/revisions/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_manifests/tags/TAG/current/link
//	docker/registry/v2/repositories/NAME/_manifests/tags/TAG/index/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_uploads/ID/{data,startedat,hashstates/ALG/OFFSET}
//
// Parse reads such a path and Path.String writes it: each is the inverse of the other.
package layout

import (
	_ "crypto/sha256" // go-digest knows an algorithm when it is linked in
	_ "crypto/sha512"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// PathKind says what a path of the tree is.
type PathKind uint8

// The kinds of paths. A kind whose name ends in Dir is a directory.
const (
	BlobsDir PathKind = iota + 1
	BlobDir
	BlobData
	RepositoriesDir
	RepositoryDir
	LayersDir
	LayerDir
	LayerLink
	ManifestsDir
	RevisionsDir
	RevisionDir
	RevisionLink
	TagsDir
	TagDir
	TagLink
	TagIndexDir
	TagIndexEntryDir
	TagIndexLink
	UploadsDir
	UploadDir
	UploadData
	UploadStartedAt
	UploadHashStatesDir
	UploadHashState
)

// Path is a parsed path of the tree. Which fields are set follows from its kind.
type Path struct {
	Kind       PathKind
	Repository string
	Digest     digest.Digest    // blobs, layers, revisions, entries of a tag's index
	Tag        string           // everything below a tag
	Upload     string           // everything below an upload
	Algorithm  digest.Algorithm // hash states, and the directory that lists them
	Offset     string           // hash states: decimal, in bytes
}

// Root is the top of distribution's tree, as its storage drivers spell it: absolute, with slashes.
const Root = "/docker/registry/v2"

const (
	Blobs        = Root + "/blobs"
	Repositories = Root + "/repositories"
)

var (
	tagName  = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)
	uploadID = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	decimal  = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

// String writes the path as distribution does. A Path whose Kind is not known gives "".
func (p Path) String() string {
	switch p.Kind { // those that every request needs, in one piece each
	case BlobData:
		return Blobs + "/" + p.Digest.Algorithm().String() + "/" + prefix(p.Digest) + "/" + p.Digest.Encoded() + "/data"
	case LayerLink:
		return Repositories + "/" + p.Repository + "/_layers/" + p.Digest.Algorithm().String() + "/" + p.Digest.Encoded() + "/link"
	case RevisionLink:
		return Repositories + "/" + p.Repository + "/_manifests/revisions/" + p.Digest.Algorithm().String() + "/" + p.Digest.Encoded() + "/link"
	case TagLink:
		return Repositories + "/" + p.Repository + "/_manifests/tags/" + p.Tag + "/current/link"
	}
	repo := Repositories + "/" + p.Repository
	switch p.Kind {
	case BlobsDir:
		return Blobs
	case BlobDir:
		return Blobs + "/" + p.Digest.Algorithm().String() + "/" + prefix(p.Digest) + "/" + p.Digest.Encoded()
	case RepositoriesDir:
		return Repositories
	case RepositoryDir:
		return repo
	case LayersDir:
		return repo + "/_layers"
	case LayerDir:
		return repo + "/_layers/" + slashed(p.Digest)
	case ManifestsDir:
		return repo + "/_manifests"
	case RevisionsDir:
		return repo + "/_manifests/revisions"
	case RevisionDir:
		return repo + "/_manifests/revisions/" + slashed(p.Digest)
	case TagsDir:
		return repo + "/_manifests/tags"
	}
	return p.belowTagOrUpload(repo)
}

func (p Path) belowTagOrUpload(repo string) string {
	tag := repo + "/_manifests/tags/" + p.Tag
	upload := repo + "/_uploads/" + p.Upload
	switch p.Kind {
	case TagDir:
		return tag
	case TagIndexDir:
		return tag + "/index"
	case TagIndexEntryDir:
		return tag + "/index/" + slashed(p.Digest)
	case TagIndexLink:
		return tag + "/index/" + slashed(p.Digest) + "/link"
	case UploadsDir:
		return repo + "/_uploads"
	case UploadDir:
		return upload
	case UploadData:
		return upload + "/data"
	case UploadStartedAt:
		return upload + "/startedat"
	case UploadHashStatesDir:
		return upload + "/hashstates/" + p.Algorithm.String()
	case UploadHashState:
		return upload + "/hashstates/" + p.Algorithm.String() + "/" + p.Offset
	}
	return ""
}

func slashed(d digest.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() }

// prefix is the directory that spreads the blobs of an algorithm over 256 directories.
func prefix(d digest.Digest) string { return d.Encoded()[:2] }

// Parse reads a path of the tree. False for everything that distribution never writes.
func Parse(s string) (Path, bool) {
	if s == Blobs {
		return Path{Kind: BlobsDir}, true
	}
	if s == Repositories {
		return Path{Kind: RepositoriesDir}, true
	}
	if rest, ok := strings.CutPrefix(s, Blobs+"/"); ok {
		return ParseBlob(strings.Split(rest, "/"))
	}
	if rest, ok := strings.CutPrefix(s, Repositories+"/"); ok {
		return parseRepository(rest)
	}
	return Path{}, false
}

func ParseBlob(parts []string) (Path, bool) {
	if len(parts) < 3 || len(parts) > 4 {
		return Path{}, false
	}
	d, ok := NewDigest(parts[0], parts[2])
	if !ok || prefix(d) != parts[1] {
		return Path{}, false
	}
	if len(parts) == 3 {
		return Path{Kind: BlobDir, Digest: d}, true
	}
	return Path{Kind: BlobData, Digest: d}, parts[3] == "data"
}

func NewDigest(alg, hex string) (digest.Digest, bool) {
	d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	return d, d.Validate() == nil
}

// parseRepository splits at the first component that starts with an underscore: no component of a
// repository name does.
func parseRepository(rest string) (Path, bool) {
	name, below := rest, ""
	if i := strings.Index(rest, "/_"); i >= 0 {
		name, below = rest[:i], rest[i+1:]
	}
	if !ValidName(name) {
		return Path{}, false
	}
	if below == "" {
		return Path{Kind: RepositoryDir, Repository: name}, true
	}
	p, ok := parseBelow(strings.Split(below, "/"))
	p.Repository = name
	return p, ok
}

// ValidName says whether a repository may be called so: distribution's name rule, without a port. A
// name with one passes distribution's router, and then fails in its storage driver.
func ValidName(name string) bool {
	if isPlain(name) {
		return true
	}
	n, err := reference.WithName(name)
	return err == nil && n.Name() == name && !strings.Contains(name, ":")
}

// isPlain says so of nearly every name there is, without the rule's expression, which takes longer than all
// else that is done to a path: lower case words, with one separator between any two.
func isPlain(name string) bool {
	word := false
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			word = true
		case c == '/' || c == '-' || c == '_' || c == '.':
			if !word {
				return false
			}
			word = false
		default:
			return false
		}
	}
	return word && len(name) <= 200
}

// ValidTag says whether a tag may be called so.
func ValidTag(name string) bool { return tagName.MatchString(name) }

// ParseDigest reads a digest of an algorithm that is stored.
func ParseDigest(s string) (digest.Digest, error) {
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && len(hex) == 64 && IsHex(hex) {
		return digest.Digest(s), nil
	}
	return digest.Parse(s)
}

func IsHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

func parseBelow(parts []string) (Path, bool) {
	switch parts[0] {
	case "_layers":
		return parseLinks(parts[1:], LayersDir, LayerDir, LayerLink)
	case "_uploads":
		return parseUpload(parts[1:])
	case "_manifests":
		return parseManifests(parts[1:])
	}
	return Path{}, false
}

func parseLinks(parts []string, list, dir, link PathKind) (Path, bool) {
	if len(parts) == 0 {
		return Path{Kind: list}, true
	}
	if len(parts) < 2 || len(parts) > 3 {
		return Path{}, false
	}
	d, ok := NewDigest(parts[0], parts[1])
	if len(parts) == 2 {
		return Path{Kind: dir, Digest: d}, ok
	}
	return Path{Kind: link, Digest: d}, ok && parts[2] == "link"
}

func parseManifests(parts []string) (Path, bool) {
	switch {
	case len(parts) == 0:
		return Path{Kind: ManifestsDir}, true
	case parts[0] == "revisions":
		return parseLinks(parts[1:], RevisionsDir, RevisionDir, RevisionLink)
	case parts[0] == "tags" && len(parts) == 1:
		return Path{Kind: TagsDir}, true
	case parts[0] == "tags" && ValidTag(parts[1]):
		p, ok := parseTag(parts[2:])
		p.Tag = parts[1]
		return p, ok
	}
	return Path{}, false
}

func parseTag(parts []string) (Path, bool) {
	switch {
	case len(parts) == 0:
		return Path{Kind: TagDir}, true
	case parts[0] == "current":
		return Path{Kind: TagLink}, len(parts) == 2 && parts[1] == "link"
	case parts[0] == "index":
		return parseLinks(parts[1:], TagIndexDir, TagIndexEntryDir, TagIndexLink)
	}
	return Path{}, false
}

func parseUpload(parts []string) (Path, bool) {
	if len(parts) == 0 {
		return Path{Kind: UploadsDir}, true
	}
	p := Path{Upload: parts[0]}
	if !uploadID.MatchString(p.Upload) || p.Upload == "." || p.Upload == ".." {
		return Path{}, false
	}
	switch rest := parts[1:]; {
	case len(rest) == 0:
		p.Kind = UploadDir
	case len(rest) == 1 && rest[0] == "data":
		p.Kind = UploadData
	case len(rest) == 1 && rest[0] == "startedat":
		p.Kind = UploadStartedAt
	case rest[0] == "hashstates" && (len(rest) == 2 || len(rest) == 3):
		return parseHashState(p, rest[1:])
	default:
		return Path{}, false
	}
	return p, true
}

func parseHashState(p Path, rest []string) (Path, bool) {
	p.Kind, p.Algorithm = UploadHashStatesDir, digest.Algorithm(rest[0])
	if !p.Algorithm.Available() {
		return Path{}, false
	}
	if len(rest) == 2 {
		p.Kind, p.Offset = UploadHashState, rest[1]
		return p, decimal.MatchString(p.Offset)
	}
	return p, true
}

// ValidUpload says whether an upload may be called so.
func ValidUpload(id string) bool { return uploadID.MatchString(id) && id != "." && id != ".." }
