package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// NotFoundError says that a reference names no image, and what it might have meant. What is a clause that says what is
// missing. Try is a hint: a command to type, or names that exist. Both are for people.
type NotFoundError struct {
	What string
	Try  string
}

func (e *NotFoundError) Error() string { return e.What }

// finder looks up one image. The index has an answer for each whole name. What only starts like a
// digest, and what people may have meant, is read from the directories of the repository.
type finder struct {
	index.Reader
	ctx context.Context
	dir tree.Dir
}

// find returns the row of the manifest that a reference names, or a *NotFoundError. A reference with a tag and a digest
// means the digest, as for every client: the tag may have moved since.
func (f finder) find(ref Reference) (*index.Row, error) {
	if !layout.ValidName(ref.Repository) {
		return nil, f.unknownRepository(ref)
	}
	if ref.Digest != "" {
		return f.byDigest(ref)
	}
	tag, err := f.Row(layout.TagKey(ref.Repository, ref.Tag))
	if err != nil {
		return nil, err
	}
	if tag == nil {
		return f.anywhere(ref)
	}
	if tag.Digest == "" {
		return nil, &NotFoundError{fmt.Sprintf("tag %s points at nothing: its link on disk says no digest", ref),
			"push the image again, or remove the tag"}
	}
	m, err := f.manifest(ref.Repository, tag.Digest)
	if err == nil && m == nil {
		err = &NotFoundError{fmt.Sprintf("tag %s points at manifest %s, which is missing", ref, tag.Digest),
			"push the image again, or remove the tag"}
	}
	return m, err
}

// anywhere looks in all repositories for what may be a digest alone.
func (f finder) anywhere(ref Reference) (*index.Row, error) {
	start := ref.digestAlone()
	known, err := f.known(ref.Repository)
	if err != nil || known || start == "" {
		return nil, errors.Join(err, f.unknown(ref))
	}
	short := shortened(start)
	found, err := f.blobsLike(start)
	if err != nil {
		return nil, err
	}
	switch {
	case len(found) == 0:
		return nil, &NotFoundError{"no blob has a digest that begins with " + short,
			"dcs inspect lists all blobs, dcs inspect --images the images"}
	case len(found) > 1:
		var candidates []string
		for _, d := range found[:min(len(found), suggestions)] {
			candidates = append(candidates, d.String())
		}
		return nil, &NotFoundError{fmt.Sprintf("%d blobs have a digest that begins with %s", len(found), short),
			"name one of them: " + list(candidates, len(found) > suggestions)}
	}
	return f.ownManifest(found[0])
}

// blobsLike returns the blobs on disk whose digests begin so. It lists one directory of two hex digits, not the whole
// store.
func (f finder) blobsLike(start string) (found []digest.Digest, err error) {
	w, err := f.dir.Walk()
	if err != nil {
		return nil, err
	}
	err = w.BlobsLike(f.ctx, start, func(d digest.Digest) error { found = append(found, d); return nil })
	return found, err
}

// ownManifest returns the manifest of that digest if one repository has it, or says which repositories own the blob.
func (f finder) ownManifest(d digest.Digest) (*index.Row, error) {
	owners, err := f.Owners(d, suggestions+1)
	if err != nil {
		return nil, err
	}
	var manifests []*index.Row
	var names, layers []string
	for _, o := range owners {
		switch {
		case !o.Placed:
		case o.Key.Kind == layout.Manifest:
			manifests = append(manifests, &o)
			names = append(names, byDigest(o.Key.Repository, d))
		default:
			layers = append(layers, o.Key.Repository)
		}
	}
	short := shortened(d.String())
	switch {
	case len(manifests) == 1:
		return manifests[0], nil
	case len(manifests) > 1:
		return nil, &NotFoundError{short + " is a manifest of several repositories",
			"name one of them: dcs inspect " + list(names[:min(len(names), suggestions)], len(names) > suggestions)}
	case len(layers) > 0:
		return nil, f.isLayer(short, layers, d)
	}
	return nil, &NotFoundError{"no repository holds " + short,
		"nothing can be pulled that uses it; dcs gc removes it once its grace is over"}
}

// manifest returns the row of a manifest that is there, or nil.
func (f finder) manifest(repo string, d digest.Digest) (*index.Row, error) {
	m, err := f.Row(layout.ManifestKey(repo, d))
	if m != nil && !m.Placed {
		m = nil
	}
	return m, err
}

// byDigest returns the manifest of a repository that has a digest, or whose digest alone begins so.
func (f finder) byDigest(ref Reference) (*index.Row, error) {
	found, err := f.matches(layout.Manifest, ref)
	if err != nil {
		return nil, err
	}
	var manifests []*index.Row
	for _, d := range found {
		m, err := f.manifest(ref.Repository, d)
		if err != nil {
			return nil, err
		}
		if m != nil {
			manifests = append(manifests, m)
		}
	}
	switch len(manifests) {
	case 0:
		return nil, f.noManifest(ref)
	case 1:
		return manifests[0], nil
	}
	var candidates []string
	for _, m := range manifests[:min(len(manifests), suggestions)] {
		candidates = append(candidates, ref.Repository+"@"+m.Digest.String())
	}
	what := fmt.Sprintf("image %s: %d manifests of the repository start like this", ref, len(manifests))
	return nil, &NotFoundError{what,
		"name one of them: " + list(candidates, len(manifests) > suggestions)}
}

// matches returns the digests that a reference may mean: itself, or those on disk that start like it.
func (f finder) matches(kind layout.Kind, ref Reference) (found []digest.Digest, err error) {
	if d, whole := ref.whole(); whole {
		return []digest.Digest{d}, nil
	}
	w, err := f.dir.Walk()
	if err != nil {
		return nil, err
	}
	err = w.Links(f.ctx, kind, ref.Repository, func(d digest.Digest) error {
		if strings.HasPrefix(d.String(), ref.Digest) {
			found = append(found, d)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}

// noManifest explains a digest that is no manifest of its repository. A layer or a config is a part of
// images: people get their names.
func (f finder) noManifest(ref Reference) error {
	layers, err := f.matches(layout.Layer, ref)
	if err != nil {
		return err
	}
	for _, d := range layers {
		link, err := f.Row(layout.LayerKey(ref.Repository, d))
		if err != nil {
			return err
		}
		if link != nil && link.Placed {
			return f.isLayer(shortened(d.String())+" in repository "+ref.Repository, []string{ref.Repository}, d)
		}
	}
	d, whole := ref.whole()
	if !whole {
		return f.unknown(ref)
	}
	owners, err := f.Owners(d, suggestions)
	if err != nil {
		return err
	}
	for _, o := range owners {
		if o.Key.Kind == layout.Manifest && o.Placed {
			return &NotFoundError{fmt.Sprintf("image %s is unknown", ref),
				fmt.Sprintf("repository %s has it: dcs inspect %s", o.Key.Repository, ref.in(o.Key.Repository))}
		}
	}
	return f.unknown(ref)
}

// isLayer explains a digest that is a layer or a config in some repositories.
func (f finder) isLayer(what string, repos []string, d digest.Digest) error {
	what += " is a layer or a config, not an image"
	// Several of these manifests may have one name, so more are asked for than are told.
	var users []index.Row
	for _, repo := range repos {
		of, err := f.Parents(repo, d, 4*suggestions)
		if err != nil {
			return err
		}
		users = append(users, of...)
	}
	names, err := imageNames(f, users)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return &NotFoundError{what, "no image uses it yet; dcs inspect --repository " + repos[0] + " lists it"}
	}
	more := len(names) > suggestions || len(users) >= 4*suggestions
	first := list(names[:min(len(names), suggestions)], more)
	return &NotFoundError{what, "it is a part of " + first + ": dcs inspect " + names[0]}
}

// unknown explains a reference that names nothing.
func (f finder) unknown(ref Reference) error {
	known, err := f.known(ref.Repository)
	switch {
	case err != nil:
		return err
	case known && ref.Digest != "":
		return &NotFoundError{fmt.Sprintf("repository %s has no manifest %s", ref.Repository, ref.Digest),
			"dcs inspect --images --repository " + ref.Repository + " lists what it has"}
	case known:
		return f.unknownTag(ref)
	}
	return f.unknownRepository(ref)
}

// known says whether a repository has anything.
func (f finder) known(repo string) (bool, error) { return f.dir.HasRepository(repo) }
