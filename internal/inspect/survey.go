package inspect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
)

// The kinds of blobs in Blob.Kind.
const (
	kindLayer    = "layer"
	kindConfig   = "config"
	kindManifest = "manifest"
	kindIndex    = "index"
	kindOther    = "other"
)

var indexTypes = []string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}

// survey is one pass over everything: names in memory, as few bytes as will do, and blobs as a stream.
type survey struct {
	names
	figures  Figures
	accounts *accounts             // of images; nil: nobody asked
	totals   map[int32]*Repository // by number; what is asked for of repositories
	blob     blobUse               // at hand; used again, since there are many
}

// blobUse is a blob with what the names say about it.
type blobUse struct {
	index.Use
	files    []int32 // the manifests whose file it is
	links    []linkUse
	naming   []int32 // manifests of the links' repositories that name it
	used     int64
	expires  int64
	selected bool // it can be pulled from a repository that was asked for
}

// linkUse is a link with the manifests of its repository that name the blob.
type linkUse struct {
	index.Link
	repo   int32
	naming []int32
}

// progressEvery is how many blobs lie between two calls of Output.OnProgress: some milliseconds.
const progressEvery = 1000

// takeSurvey reads a state of the index. visit is called with each blob that was asked for, and sees it
// for the moment only.
func takeSurvey(ctx context.Context, r index.Reader, x expiry, o Options, visit func(*survey, *blobUse) error) (*survey, error) {
	all, err := r.Totals()
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	s := &survey{names: names{expiry: x}}
	if o.Repository != "" {
		s.only, _ = compileGlob(o.Repository) // checked before
	}
	if err := s.load(r); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	s.figures.Tags, s.figures.Manifests = s.selected.Tags, s.selected.Manifests
	if o.Kind != Blobs {
		s.accounts = s.findImages()
		s.figures.Images = s.accounts.selected()
	}
	s.totals = map[int32]*Repository{}
	var done int64
	err = r.Uses(func(u index.Use) error {
		if done++; done%progressEvery == 0 {
			o.progress(done, all.Blobs)
		}
		b := s.look(u)
		if b.selected {
			s.count(b)
			if err := visit(s, b); err != nil {
				return err
			}
		}
		if s.accounts != nil {
			s.accounts.add(b)
		}
		if o.Kind == Repositories {
			s.addToRepositories(b)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if s.accounts != nil {
		s.accounts.alone.sum()
	}
	o.progress(all.Blobs, all.Blobs)
	return s, nil
}

// look joins a blob with what the names know.
func (s *survey) look(u index.Use) *blobUse {
	b := &s.blob
	b.Use, b.files, b.links, b.naming = u, s.every(fingerprintOf(u.Blob.Digest)), b.links[:0], b.naming[:0]
	b.used, b.expires, b.selected = 0, s.contentDue(u.Blob.AccessedAt.UnixMilli()), s.only == nil
	named := u.Named
	for _, l := range u.Links { // both in the order of repositories
		use := linkUse{Link: l, repo: s.repository(l.Repository)}
		for len(named) > 0 && named[0].Repository < l.Repository {
			named = named[1:]
		}
		first := len(b.naming)
		for ; len(named) > 0 && named[0].Repository == l.Repository; named = named[1:] {
			if m, ok := s.find(fingerprintOf(named[0].Manifest), use.repo); ok {
				b.naming = append(b.naming, m)
			}
		}
		use.naming = b.naming[first:]
		b.links = append(b.links, use)
		used := l.AccessedAt.UnixMilli()
		b.use(used, s.contentDue(used))
		b.selected = b.selected || l.Placed && s.repos[use.repo].selected
	}
	for _, i := range slices.Concat(b.files, b.naming) {
		b.use(s.nodes[i].used, s.nodes[i].expires)
	}
	for _, i := range b.files {
		m := &s.nodes[i]
		b.selected = b.selected || m.placed && s.repos[m.repo].selected
	}
	if b.used == 0 {
		b.used = u.Blob.AccessedAt.UnixMilli() // nothing holds it
	}
	return b
}

func (b *blobUse) use(used, expires int64) {
	b.used, b.expires = max(b.used, used), max(b.expires, expires)
}

// count adds a blob to the figures.
func (s *survey) count(b *blobUse) {
	f, size := &s.figures, b.Blob.Size
	f.Blobs++
	if len(b.files) > 0 {
		f.Files++
	}
	f.Bytes += size
	left := time.Duration(never)
	if b.expires != never {
		left = time.Duration(b.expires-s.now) * time.Millisecond
	}
	if left <= day {
		f.Day += size
	}
	if left <= week {
		f.Week += size
	}
	if !slices.ContainsFunc(slices.Concat(b.files, b.naming), func(i int32) bool { return s.nodes[i].reachable }) {
		f.Untagged += size
	}
	f.Ages[ageOf(time.Duration(s.now-b.used)*time.Millisecond)].add(size)
}

// row makes a row of a blob.
func (s *survey) row(b *blobUse) Blob {
	var repos []string
	for _, l := range b.links {
		if l.Placed {
			repos = append(repos, l.Repository)
		}
	}
	for _, i := range b.files {
		if m := &s.nodes[i]; m.placed {
			repos = append(repos, s.repos[m.repo].name)
		}
	}
	return Blob{Digest: b.Blob.Digest, Size: b.Blob.Size, Kind: s.kind(b), CreatedAt: stampOf(b.Blob.CreatedAt.UnixMilli()),
		LastAccess: stampOf(b.used), ExpiresAt: stampOf(b.expires), Repositories: distinct(repos), Manifests: countManifests(b.Named)}
}

// distinct orders names and drops repetitions. None is an empty list.
func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(append([]string{}, names...))
}

// countManifests counts each digest once, in however many repositories it is.
func countManifests(named []index.Naming) int {
	if len(named) < 2 {
		return len(named)
	}
	seen := make(map[string]bool, len(named))
	for _, n := range named {
		seen[string(n.Manifest)] = true
	}
	return len(seen)
}

// kind says what a blob is. One that a manifest calls its config and another one a layer is what the first
// of them says, by repository and digest.
func (s *survey) kind(b *blobUse) string {
	if len(b.files) > 0 {
		return kindOfManifest(s.nodes[b.files[0]].index)
	}
	if len(b.Named) == 0 {
		return kindOfContent(false, len(b.links) > 0)
	}
	first, ok := s.find(fingerprintOf(b.Named[0].Manifest), s.repository(b.Named[0].Repository))
	return kindOfContent(ok && s.nodes[first].config == fingerprintOf(b.Blob.Digest), true)
}

func kindOfManifest(isIndex bool) string {
	if isIndex {
		return kindIndex
	}
	return kindManifest
}

func kindOfContent(config, held bool) string {
	switch {
	case config:
		return kindConfig
	case held:
		return kindLayer
	}
	return kindOther
}
