package gc

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// history is what the index remembers of one run. What cannot be written down stops nothing.
type history struct {
	*Collector
	goneFor time.Duration
	run     index.Run
}

// history is that of a run that begins now. Nil: the index remembers nothing of it, not even that it was.
func (c *Collector) history(p index.Policy, dryRun bool, began time.Time) *history {
	if dryRun {
		return nil
	}
	return &history{c, p.GoneFor, index.Run{StartedAt: began, By: cmp.Or(c.By, index.ByServer)}}
}

// begin is called before the first removal, so that a run that is killed is remembered, too.
func (h *history) begin(ctx context.Context) {
	if h != nil && h.goneFor > 0 {
		h.note(ctx)
	}
}

// end remembers what the run did, and forgets what is too old.
func (h *history) end(ctx context.Context, rep Report, err error) {
	if h == nil || h.inVain(rep) {
		return
	}
	ctx = context.WithoutCancel(ctx) // which may be why the run ended
	if h.goneFor > 0 {
		r, n := &h.run, rep.Removed
		r.Took, r.Ended, r.Images = time.Duration(rep.DurationMS)*time.Millisecond, true, int64(len(rep.Images))
		r.Tags, r.Manifests, r.Blobs, r.Uploads = n.Tags, n.Manifests, n.Blobs, n.Uploads
		r.FreedBytes, r.HeldBy = rep.FreedBytes, rep.HeldBy
		if rep.HeldBy == "" {
			r.Error = why(err)
		}
		h.note(ctx)
	}
	if err := h.Index.Forget(ctx, h.goneFor); err != nil {
		h.Log.WithError(err).Debug("cannot forget old removals and clean-ups")
	}
}

// inVain says that a run for a budget removed nothing. While nothing may go, one begins each second: all of them
// together would push the others out of the history.
func (h *history) inVain(rep Report) bool { return h.AtMost > 0 && h.run.ID == 0 && !rep.Removed.Any() }

func (h *history) note(ctx context.Context) {
	if err := h.Index.NoteRun(ctx, &h.run); err != nil {
		h.Log.WithError(err).Debug("cannot remember a clean-up")
	}
}

// longestWhy is how many bytes of an error are remembered: a run may have failed for thousands of objects.
const longestWhy = 500

// why says in one short line why a run ended early, or what it could not do.
func why(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // a file that a registry did not write may have any name
			return '?'
		}
		return r
	}, strings.ReplaceAll(err.Error(), "\n", "; "))
	return strings.ToValidUTF8(text[:min(len(text), longestWhy)], "")
}

// removal is what is remembered of an image whose row goes. Nil: the row is none of an image.
func (x *execution) removal(k layout.Key) *index.Removal {
	i, ok := x.images[k]
	if !ok || x.forgets {
		return nil
	}
	r := &index.Removal{Repository: i.Repository, Tag: i.Tag, Digest: i.Digest, LastAccess: i.LastAccess,
		Reason: i.Reason, UniqueBytes: i.UniqueBytes}
	if i.Rule != rule.Default {
		r.Rule, r.RuleName = i.Rule+1, x.plan.rules.Name(i.Rule)
	}
	return r
}
