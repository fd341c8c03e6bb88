package serve

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/event"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/reuse"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// samplingInterval is how old the file of the sample may become while clients pull.
const samplingInterval = time.Minute

// sampling follows what clients pull and push, so that dcs inspect --what-if can judge other budgets and ttls. It keeps
// what it knows in a file, over restarts.
type sampling struct {
	sampler *reuse.Sampler
	tree    *tree.Tree
	log     logrus.FieldLogger
	failing bool // the last save failed, and the log says so
}

// newSampling goes on with the file, if there is one. A file that cannot be read is put aside.
func newSampling(t *tree.Tree, memory int64, now func() time.Time, log logrus.FieldLogger) *sampling {
	if now == nil {
		now = time.Now
	}
	s := &sampling{tree: t, log: log}
	recording, err := inspect.ReadRecording(t.Dir)
	if err != nil {
		aside := t.Reuse() + ".broken"
		err = errors.Join(err, os.RemoveAll(aside), os.Rename(t.Reuse(), aside))
		log.WithError(err).Warnf("cannot read what was recorded for dcs inspect --what-if; it is put aside as %s, "+
			"and recorded anew", aside)
	}
	s.sampler = reuse.New(memory, recording, now)
	return s
}

// observe records a request of a client. It may be called concurrently.
func (s *sampling) observe(e event.Event) {
	get := e.Request.Method == http.MethodGet
	switch {
	case e.Kind == event.Pull && !e.Hit:
		if get {
			s.missed(e)
		}
		return
	case e.Kind == event.Push:
		s.sampler.Pushed(reuse.OfDigest(e.Digest), e.Size)
	case e.Kind == event.Pull && get && e.Request.Status != http.StatusNotModified:
		s.sampler.Pulled(reuse.OfDigest(e.Digest), e.Size, e.Request.Sent)
	case e.Kind == event.Pull:
		s.sampler.Offered(reuse.OfDigest(e.Digest), e.Size)
	default:
		return
	}
	if e.Manifest == nil {
		return
	}
	manifest := reuse.OfDigest(e.Digest)
	if e.Kind == event.Push || !s.sampler.Lately(manifest) {
		s.sampler.Remember(manifest, s.parts(e))
	}
	if e.Tag != "" {
		s.sampler.Named(reuse.OfTag(e.Repository, e.Tag), s.sampler.ImageSize(manifest))
	}
}

// missed records a GET of what is not there, by its digest or by its tag.
func (s *sampling) missed(e event.Event) {
	if e.Digest != "" {
		s.sampler.Missed(reuse.OfDigest(e.Digest))
	} else {
		s.sampler.Missed(reuse.OfTag(e.Repository, e.Tag))
	}
}

// parts records that the parts of an image were used with its manifest, and returns how many bytes the image has. Of an
// image index clients pull one image: its size is that of the largest.
func (s *sampling) parts(e event.Event) int64 {
	use := s.sampler.Offered
	if e.Kind == event.Push {
		use = s.sampler.Pushed
	}
	bytes, largest := e.Size, int64(0)
	for i := range e.Manifest.Parts {
		p := &e.Manifest.Parts[i]
		if p.Size < 0 || p.Foreign {
			continue // it is of a kind that is not pushed any more, or on another server
		}
		k, size := reuse.OfDigest(p.Digest), min(p.Size, reuse.MostSize)
		use(k, size)
		if p.Blob {
			bytes += size
		} else {
			largest = max(largest, size, s.sampler.ImageSize(k))
		}
	}
	return bytes + largest
}

// saveChanges saves what was recorded since the last time that it could be saved.
func (s *sampling) saveChanges(context.Context) {
	if s.failing || s.sampler.Changed() {
		s.save()
	}
}

// save writes the file. It must not be called concurrently.
func (s *sampling) save() {
	err := s.tree.WriteMetadata(s.tree.Reuse(), s.sampler.Encode())
	if err != nil && !s.failing {
		s.log.WithError(err).Warn("cannot save what is recorded for dcs inspect --what-if; trying again each minute")
	}
	s.failing = err != nil
}
