package inspect

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Reference names an image as people do: NAME, NAME:TAG or NAME@DIGEST.
type Reference struct {
	Repository string // as it was typed, perhaps with the host of a registry, which no repository has
	Tag        string // empty when there is a digest, which says more
	Digest     string // whole, or shortened as tables show it
}

// defaultTag is what docker takes when there is neither a tag nor a digest.
const defaultTag = "latest"

var (
	bareSum     = regexp.MustCompile(`^[0-9a-f]{6,64}$`) // of sha256, as a narrow table shows it
	digestStart = regexp.MustCompile(`^(sha256|sha512):[0-9a-f]{1,128}$`)
	host        = regexp.MustCompile(
		`^(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+:[0-9]+|\[[0-9A-Fa-f:]+\](:[0-9]+)?)$`)
)

// ReferenceError says that a text cannot name an image.
type ReferenceError struct {
	Text   string
	Reason string
	Try    string
}

func (e *ReferenceError) Error() string { return fmt.Sprintf("image %q: %s", e.Text, e.Reason) }

// ParseReference reads NAME[:TAG][@DIGEST]. As with docker the digest decides when there are both.
func ParseReference(text string) (Reference, error) {
	fail := func(reason, try string) (Reference, error) { return Reference{}, &ReferenceError{text, reason, try} }
	named, dgst, pinned := strings.Cut(text, "@")
	ref := Reference{Repository: named, Digest: dgst}
	if colon := strings.LastIndex(named, ":"); colon > strings.LastIndex(named, "/") {
		ref.Repository, ref.Tag = named[:colon], named[colon+1:]
		if !layout.ValidTag(ref.Tag) {
			return fail(fmt.Sprintf("%q is no tag", ref.Tag),
				"a tag has letters, digits, dots, dashes and underscores: NAME:TAG")
		}
	}
	if !layout.ValidName(ref.Repository) && !layout.ValidName(withoutHost(ref.Repository)) {
		return fail(fmt.Sprintf("%q is no name of a repository", ref.Repository),
			"names are lower case, such as team/app: dcs inspect NAME[:TAG|@DIGEST]")
	}
	if bareSum.MatchString(dgst) {
		ref.Digest = "sha256:" + dgst
		dgst = ref.Digest
	}
	switch {
	case pinned && !digestStart.MatchString(dgst):
		return fail(fmt.Sprintf("%q is no digest", dgst), "a digest may be shortened: NAME@sha256:1a2b3c4d5e6f")
	case pinned:
		ref.Tag = ""
	case ref.Tag == "":
		ref.Tag = defaultTag
	}
	return ref, nil
}

// String returns a reference as an operator types it.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Repository + "@" + shortened(r.Digest)
	}
	return r.Repository + ":" + r.Tag
}

// digestAlone returns the digest if the operator typed one without a repository, as a listing shows it, or "". Such a
// reference parses like a repository called sha256, or like one without a tag.
func (r Reference) digestAlone() string {
	switch typed := r.Repository + ":" + r.Tag; {
	case digestStart.MatchString(typed):
		return typed
	case r.Tag == defaultTag && bareSum.MatchString(r.Repository):
		return "sha256:" + r.Repository
	}
	return ""
}

// in is the same image in another repository.
func (r Reference) in(repo string) Reference {
	r.Repository = repo
	return r
}

// withoutHost is what follows the host of a registry, as people paste it; empty if there is none.
func withoutHost(name string) string {
	if first, rest, _ := strings.Cut(name, "/"); host.MatchString(first) {
		return rest
	}
	return ""
}

// whole returns the digest unless it is shortened.
func (r Reference) whole() (digest.Digest, bool) {
	d := digest.Digest(r.Digest)
	return d, d.Validate() == nil
}

// byDigest names an image of a repository by its digest, shortened.
func byDigest(repo string, d digest.Digest) string {
	return Reference{Repository: repo, Digest: d.String()}.String()
}

// shortDigest is how many characters of the sum of a digest people see, as with docker.
const shortDigest = 12

// shortened cuts the sum of a digest, or of the beginning of one, for people.
func shortened(d string) string {
	algorithm, sum, _ := strings.Cut(d, ":")
	return algorithm + ":" + sum[:min(len(sum), shortDigest)]
}
