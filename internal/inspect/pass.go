package inspect

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
)

// pass is one pass over everything that a store holds. In memory it has a few figures of each image, if images were
// asked for, and no blobs.
type pass struct {
	expiry
	options Options
	only    string          // a glob of repositories; empty: all, and what is in none
	add     func(Row) error // is called with each row that was asked for; nil: only the figures are

	figures      Figures
	measures     map[imageID]measure // of images
	repositories map[string]*Repository
}

// imageID is an image of a repository.
type imageID struct {
	repository string
	digest     digest.Digest
}

// measure is what an image has on disk, in bytes.
type measure struct{ size, unique int64 }

// newPass makes a pass that calls add with each row; with a nil add it only makes the figures.
func newPass(x expiry, o Options, add func(Row) error) *pass {
	return &pass{expiry: x, options: o, only: o.Repository, add: add, measures: map[imageID]measure{},
		repositories: map[string]*Repository{}}
}

// progressEvery is how many blobs lie between two calls of Options.OnProgress: some milliseconds.
const progressEvery = 1000

// run reads blobs first: the sizes of images are the sums of theirs. All is read in one View, so rows and figures are
// of one state of the index. Writers need not wait for it.
func (p *pass) run(ctx context.Context) error {
	err := p.store.View(ctx, func(r index.Reader) error {
		all, err := r.Totals()
		if err != nil {
			return err
		}
		j, err := p.judge(r)
		if err == nil {
			err = j.all(r)
		}
		if err != nil {
			return err
		}
		var done int64
		listing := index.BlobListing{Images: p.measured(), Owners: j != nil}
		err = r.ListBlobs(listing, func(b index.Blob) error {
			if done++; done%progressEvery == 0 {
				p.options.progress(done, all.Blobs)
			}
			if err := p.blob(b); err != nil {
				return err
			}
			return ctx.Err()
		})
		if err == nil {
			err = p.names(r)
		}
		p.options.progress(all.Blobs, all.Blobs)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	return nil
}

// selects says whether a repository was asked for.
func (p *pass) selects(repository string) bool { return rule.Match(p.only, repository) }

// list adds a row, if it was asked for.
func (p *pass) list(kind Kind, row Row) error {
	if kind != p.options.Kind || !p.options.lists(row, p.now) {
		return nil
	}
	p.figures.Rows++
	if p.add == nil {
		return nil
	}
	return p.add(row)
}

// blob counts one blob for images or repositories, for the figures, and as a row. A blob that no selected repository
// has counts for the sizes only: it may be a part of what is shared.
func (p *pass) blob(b index.Blob) error {
	switch p.options.Kind {
	case Images, Tags:
		p.measure(b)
	case Repositories:
		p.share(b)
	}
	if p.only != "" && !slices.ContainsFunc(b.Repositories, p.selects) {
		return nil
	}
	row := p.blobRow(b)
	p.count(b, row)
	return p.list(Blobs, row)
}

// measured says whether rows have the sizes of images.
func (p *pass) measured() bool { return p.options.Kind == Images || p.options.Kind == Tags }

// measure adds a blob to the images that it is part of.
func (p *pass) measure(b index.Blob) {
	for _, i := range b.Images {
		id := imageID{i.Repository, i.Digest}
		m := p.measures[id]
		if i.Own {
			m.size += b.Size
		}
		if len(b.Images) == 1 && !b.Unnamed {
			m.unique += b.Size
		}
		p.measures[id] = m
	}
}

// share adds a blob to the repositories that it can be pulled from.
func (p *pass) share(b index.Blob) {
	for _, name := range b.Repositories {
		r := p.repositories[name]
		if r == nil {
			r = &Repository{Repository: name}
			p.repositories[name] = r
		}
		r.Size += b.Size
		if len(b.Repositories) == 1 {
			r.UniqueBytes += b.Size
		}
	}
}

// count adds a blob to the figures.
func (p *pass) count(b index.Blob, row Blob) {
	f := &p.figures
	f.Blobs++
	f.Bytes += b.Size
	if b.IsManifest {
		f.Files++
	}
	if !b.Tagged {
		f.Untagged += b.Size
	}
	if due := row.expires(); !due.IsZero() {
		left := due.Sub(time.UnixMilli(p.now))
		if left <= day {
			f.Day += b.Size
		}
		if left <= week {
			f.Week += b.Size
		}
	}
	f.Ages[ageOf(time.UnixMilli(p.now).Sub(b.LastUse))].add(b.Size)
}

// names adds images, tags and repositories.
func (p *pass) names(r index.Reader) (err error) {
	switch p.options.Kind {
	case Images, Repositories:
		err = r.ListImages(0, p.image)
	case Tags:
		err = r.ListTags(0, p.tag)
	}
	if err != nil {
		return err
	}
	return r.ListRepositories(p.repository)
}

// image makes the row of an image whose blobs were read before.
func (p *pass) image(i index.Image) error {
	if r := p.repositories[i.Key.Repository]; r != nil {
		r.Images++
	}
	if p.options.Kind != Images || !p.selects(i.Key.Repository) {
		return nil
	}
	row := p.imageRow(i)
	m := p.measures[imageID{i.Key.Repository, i.Digest}]
	row.Size, row.UniqueBytes = m.size, m.unique
	return p.list(Images, row)
}

// tag makes the row of a tag. A tag whose manifest is missing has no size.
func (p *pass) tag(t index.Image) error {
	if !p.selects(t.Key.Repository) {
		return nil
	}
	row := p.tagRow(t)
	if !t.Absent {
		m := p.measures[imageID{t.Key.Repository, t.Digest}]
		row.Size, row.UniqueBytes = m.size, m.unique
	}
	return p.list(Tags, row)
}

// repository counts the tags and manifests of a repository, and makes its row. One without blobs has no row.
func (p *pass) repository(found index.Repository) error {
	if !p.selects(found.Name) {
		return nil
	}
	p.figures.Tags += found.Tags
	p.figures.Manifests += found.Manifests
	r := p.repositories[found.Name]
	if r == nil {
		return nil
	}
	r.LastAccess = stamp.Time(found.LastUse)
	return p.list(Repositories, *r)
}
