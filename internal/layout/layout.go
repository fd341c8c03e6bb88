// Package layout says where a registry's files are below its data directory, and which names are valid. It is pure:
// it opens no file.
//
// A data directory has two parts. `docker/registry/v2` is laid out exactly as distribution does it: a stock registry
// can serve it, and dcs can adopt what a stock registry wrote. `.metadata` is dcs's own, and package tree names what
// is in it.
//
//	docker/registry/v2/blobs/ALG/XX/HEX/data
//	docker/registry/v2/repositories/NAME/_layers/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_manifests/revisions/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_manifests/tags/TAG/current/link
//	docker/registry/v2/repositories/NAME/_manifests/tags/TAG/index/ALG/HEX/link
//	docker/registry/v2/repositories/NAME/_uploads/ID/{data,startedat,hashstates/ALG/OFFSET}
//
// A Key names a row of the index and its file; Key.Path and Path.Key translate between the two. Parse reads the path of
// a file and Path.String writes it: each is the inverse of the other.
package layout

import (
	_ "crypto/sha256" // go-digest knows an algorithm when it is linked in
	_ "crypto/sha512"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// PathKind says what a file of the tree is.
type PathKind uint8

// The kinds of files. The first four are those of keys.
const (
	BlobData PathKind = iota + 1
	LayerLink
	RevisionLink
	TagLink
	TagIndexLink // an entry of a tag's history
	UploadData
	UploadStartedAt
	UploadHashState // of stock registries only
)

// Path is the parsed path of a file. Which fields are set follows from its kind.
type Path struct {
	Kind       PathKind
	Repository string
	Digest     digest.Digest    // blobs, layers, revisions, entries of a tag's history
	Tag        string           // links of a tag
	Upload     string           // files of an upload
	Algorithm  digest.Algorithm // hash states
	Offset     string           // hash states: decimal, in bytes
}

// The top of distribution's tree, and its two parts, as its storage drivers spell them: absolute, with slashes.
const (
	Root         = "/docker/registry/v2"
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
	switch p.Kind { // each in one piece: every request needs some
	case BlobData:
		return Blobs + "/" + p.Digest.Algorithm().String() + "/" + prefix(p.Digest) + "/" + p.Digest.Encoded() + "/data"
	case LayerLink:
		return Repositories + "/" + p.Repository + "/_layers/" +
			p.Digest.Algorithm().String() + "/" + p.Digest.Encoded() + "/link"
	case RevisionLink:
		return Repositories + "/" + p.Repository + "/_manifests/revisions/" +
			p.Digest.Algorithm().String() + "/" + p.Digest.Encoded() + "/link"
	case TagLink:
		return Repositories + "/" + p.Repository + "/_manifests/tags/" + p.Tag + "/current/link"
	case TagIndexLink:
		return TagIndexEntryDir(p.Repository, p.Tag, p.Digest) + "/link"
	case UploadData:
		return Upload{p.Repository, p.Upload}.Dir() + "/data"
	case UploadStartedAt:
		return Upload{p.Repository, p.Upload}.Dir() + "/startedat"
	case UploadHashState:
		return Upload{p.Repository, p.Upload}.Dir() + "/hashstates/" + p.Algorithm.String() + "/" + p.Offset
	}
	return ""
}

// prefix is the directory that spreads the blobs of an algorithm over 256 directories.
func prefix(d digest.Digest) string { return d.Encoded()[:2] }

// Parse reads the path of a file. False for everything that distribution never writes.
func Parse(s string) (Path, bool) {
	if rest, ok := strings.CutPrefix(s, Blobs+"/"); ok {
		d, ok := ParseBlobDir(strings.TrimSuffix(rest, "/data"))
		return Path{Kind: BlobData, Digest: d}, ok && strings.HasSuffix(rest, "/data")
	}
	if rest, ok := strings.CutPrefix(s, Repositories+"/"); ok {
		return parseRepository(rest)
	}
	return Path{}, false
}

// ParseBlobDir reads the path of a blob's directory below Blobs: ALG/XX/HEX.
func ParseBlobDir(path string) (digest.Digest, bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return "", false
	}
	d, ok := NewDigest(parts[0], parts[2])
	return d, ok && prefix(d) == parts[1]
}

// NewDigest puts a digest together. False if it is not valid.
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
	p, ok := parseBelow(strings.Split(below, "/"))
	p.Repository = name
	return p, ok
}

// ValidName says whether a repository may have this name: distribution's rule for names, without a port. A name with a
// port passes distribution's router, and then fails in its storage driver.
func ValidName(name string) bool {
	if isPlain(name) {
		return true
	}
	n, err := reference.WithName(name)
	return err == nil && n.Name() == name && !strings.Contains(name, ":")
}

// isPlain says so of nearly every name, without the regular expression of the rule, which takes longer than all else
// that is done to a path. Plain is: lower case words, with one separator between any two.
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

// ValidTag says whether a tag may have this name.
func ValidTag(name string) bool { return tagName.MatchString(name) }

// ParseDigest reads a digest of an algorithm that is stored.
func ParseDigest(s string) (digest.Digest, error) {
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && len(hex) == 64 && IsHex(hex) {
		return digest.Digest(s), nil
	}
	return digest.Parse(s)
}

// IsHex says whether a string has hexadecimal digits only, in lower case.
func IsHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

func parseBelow(parts []string) (Path, bool) {
	switch {
	case parts[0] == "_layers":
		return parseLink(parts[1:], LayerLink)
	case parts[0] == "_uploads" && len(parts) > 2 && ValidUpload(parts[1]):
		return parseUpload(parts[1], parts[2:])
	case parts[0] == "_manifests" && len(parts) > 1 && parts[1] == "revisions":
		return parseLink(parts[2:], RevisionLink)
	case parts[0] == "_manifests" && len(parts) > 3 && parts[1] == "tags" && ValidTag(parts[2]):
		return parseTag(parts[2], parts[3:])
	}
	return Path{}, false
}

func parseLink(parts []string, kind PathKind) (Path, bool) {
	if len(parts) != 3 || parts[2] != "link" {
		return Path{}, false
	}
	d, ok := NewDigest(parts[0], parts[1])
	return Path{Kind: kind, Digest: d}, ok
}

func parseTag(tag string, parts []string) (Path, bool) {
	if len(parts) == 2 && parts[0] == "current" && parts[1] == "link" {
		return Path{Kind: TagLink, Tag: tag}, true
	}
	if parts[0] != "index" {
		return Path{}, false
	}
	p, ok := parseLink(parts[1:], TagIndexLink)
	p.Tag = tag
	return p, ok
}

func parseUpload(id string, parts []string) (Path, bool) {
	switch {
	case len(parts) == 1 && parts[0] == "data":
		return Path{Kind: UploadData, Upload: id}, true
	case len(parts) == 1 && parts[0] == "startedat":
		return Path{Kind: UploadStartedAt, Upload: id}, true
	case len(parts) == 3 && parts[0] == "hashstates":
		alg := digest.Algorithm(parts[1])
		p := Path{Kind: UploadHashState, Upload: id, Algorithm: alg, Offset: parts[2]}
		return p, alg.Available() && decimal.MatchString(p.Offset)
	}
	return Path{}, false
}

// ValidUpload says whether an upload may have this name.
func ValidUpload(id string) bool { return uploadID.MatchString(id) && id != "." && id != ".." }
