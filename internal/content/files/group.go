package files

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// entry is what gets its name in one step: a layer, or a manifest with its tags. Without a claim it is a mark in the
// queue, for which Flush waits.
type entry struct {
	claim  index.Claim
	layer  layout.Key   // of a mark: the one that Flush asks for
	held   *tree.Held   // layers
	blob   *tree.Staged // manifests
	link   *tree.Staged
	tags   []tagLinks
	faults int        // syncs that had failed when its files were begun
	done   chan error // nil: nothing waits for it

	at  time.Time // before its claim was written
	err error     // why it was refused
}

// tagLinks are the files of a tag.
type tagLinks struct {
	key         layout.Key
	link, entry *tree.Staged
}

func (e *entry) marks() bool { return e.claim.Key.Repository == "" }

// staged are its files.
func (e *entry) staged() (files []*tree.Staged) {
	if e.marks() {
		return nil
	}
	if files = append(files, e.link); e.blob != nil {
		files = append(files, e.blob)
	}
	if e.held != nil && e.held.File != e.link {
		files = append(files, e.held.File)
	}
	for _, t := range e.tags {
		files = append(files, t.link, t.entry)
	}
	return files
}

// paths are those that it gets.
func (e *entry) paths() []layout.Path {
	paths := []layout.Path{e.claim.Key.Path(), layout.BlobKey(e.claim.Key.Digest).Path()}
	for _, t := range e.tags {
		paths = append(paths, t.key.Path(), tree.TagEntry(t.key, e.claim.Key.Digest))
	}
	return paths
}

// group is what was placed together, and is answered once the names are durable.
type group struct {
	entries []*entry
	atOnce  bool // all names were given before one sync: they are made durable by one
}

// publish claims and syncs a group, answers the one before, and places the group.
func (p *publisher) publish(next []*entry, before group) group {
	p.late = nil
	next = p.claimAll(next)
	bytes, names := p.sync(next, before)
	if bytes == nil && names == nil {
		p.answer(before, nil)
		return p.place(next)
	}
	lost := p.fault(before.entries, next, names)
	p.answer(before, names)
	p.endAll(lost, errors.Join(bytes, names))
	return group{}
}

// fault is for a sync that failed. It drops lost, and all that waits, which it may have covered, and returns that.
// Uploads under way go, too: their first bytes may be lost, and no start could tell. Names that it should have made
// durable are taken back where a later sync does not cover them. Clients are answered after all of that.
func (p *publisher) fault(named, lost []*entry, names error) []*entry {
	lost = append(lost, p.failed()...)
	p.release(lost)
	p.uploads.forget()
	if names != nil && !p.fs.Journaled() {
		p.takeBack(named)
	} else if err := p.tree.RemoveUploads(); err != nil {
		p.log.WithError(err).Error("cannot remove all uploads after the disk refused to store data")
	}
	if names != nil {
		p.unclaim(named)
	}
	p.unclaim(lost)
	return lost
}

// claimsAtOnce bounds a transaction of claims: other writers wait for it.
const claimsAtOnce = 64

// claimAll writes the claims of a group, and returns what goes on. When the index can take none at the moment, it is
// not asked again: each try may wait for seconds.
func (p *publisher) claimAll(es []*entry) (claimed []*entry) {
	var none error
	naming := tagsOf(es)
	for some := range slices.Chunk(es, claimsAtOnce) {
		err := none
		if err == nil {
			err = p.claim(some, naming)
		}
		if systemic(err) {
			none = err
		}
		for _, e := range some {
			if e.marks() {
				claimed = append(claimed, e)
			} else if err != nil && !systemic(err) && len(some) > 1 { // it is that of one of them
				if err := p.claim([]*entry{e}, naming); err == nil {
					claimed = append(claimed, e)
				} else {
					p.unclaimed(e, err)
				}
			} else if err != nil {
				p.unclaimed(e, err)
			} else {
				claimed = append(claimed, e)
			}
		}
	}
	return claimed
}

// tagsOf are the tags that a group moves.
func tagsOf(es []*entry) (tags []layout.Key) {
	for _, e := range es {
		for _, t := range e.tags {
			tags = append(tags, t.key)
		}
	}
	return tags
}

func (p *publisher) claim(es []*entry, naming []layout.Key) error {
	var claims []index.Claim
	now := p.index.Now()
	for _, e := range es {
		if e.at = now; !e.marks() {
			claims = append(claims, e.claim)
		}
	}
	if len(claims) == 0 {
		return nil
	}
	claims[0].Naming = naming
	return p.index.Claim(context.Background(), claims...)
}

// systemic says that an error of the index is not that of one claim.
func systemic(err error) bool {
	return errors.Is(err, index.ErrBusy) || errors.Is(err, index.ErrFull) || errors.Is(err, index.ErrCorrupt) ||
		errors.Is(err, index.ErrDisk)
}

// unclaimed has a layer tried again later that the index cannot take at the moment. Anything else is refused.
func (p *publisher) unclaimed(e *entry, err error) {
	if !e.canWait(err) {
		p.refuse([]*entry{e}, err)
		return
	}
	p.wait(e, err)
}

// canWait says whether an entry that failed is tried again: a layer that was answered, where the index or the disk has
// no room or no time at the moment.
func (e *entry) canWait(err error) bool {
	return e.held != nil && e.done == nil && (systemic(err) || noSpace(err))
}

// wait has an entry tried again later.
func (p *publisher) wait(e *entry, err error) {
	p.log.WithError(err).WithField("object", e.claim.Key.String()).Error("cannot record a layer in the index; it waits")
	p.late = append(p.late, e.claim.Key)
	p.putBack(e)
}

// sync makes the bytes of a group durable, and the names of the one before.
func (p *publisher) sync(es []*entry, before group) (bytes, names error) {
	var files []*tree.Staged
	var own int64
	for _, e := range es {
		if files = append(files, e.staged()...); e.claim.WithBlob {
			own += e.claim.Size
		}
	}
	switch {
	case len(files) == 0 && !p.change.Owes():
		return nil, nil
	case before.atOnce && p.change.Owes() || p.fs.Whole():
		err := p.fs.Sync(own)
		if err == nil {
			p.change.Synced()
		}
		return err, err
	}
	return tree.Sync(files...), p.change.Sync()
}

// takeBack removes names whose sync failed, so that nothing relies on them before they are given again. When the index
// can correct no row at the moment, it is not asked again: a read corrects the others.
func (p *publisher) takeBack(es []*entry) {
	if err := p.change.TakeBack(); err != nil {
		p.log.WithError(err).Error("names that the disk refused to store cannot be removed; nothing is stored before")
	}
	for _, e := range es {
		for _, k := range e.keys() {
			if _, err := p.adopt(context.Background(), k); err != nil {
				p.log.WithError(err).WithField("object", k.String()).Error("cannot correct the index")
				if systemic(err) {
					return
				}
			}
		}
	}
}

// answer tells those who wait for a group that its names are durable, or why they are not.
func (p *publisher) answer(g group, err error) {
	p.change.Abandon()
	var held []*tree.Held
	for _, e := range g.entries {
		if e.held != nil {
			held = append(held, e.held)
		}
	}
	p.waiting.Done(held...)
	for _, e := range g.entries {
		if err != nil {
			p.leases.forget(e.keys()...)
		}
		if !e.marks() {
			p.end(e, err)
		}
	}
	for _, e := range g.entries {
		p.discard(e)
	}
	for _, e := range g.entries { // for Flush nothing is left of the others
		if e.marks() {
			p.end(e, err)
		}
	}
}

// keys are those of its rows.
func (e *entry) keys() []layout.Key {
	if e.marks() {
		return nil
	}
	keys := []layout.Key{e.claim.Key}
	for _, t := range e.tags {
		keys = append(keys, t.key)
	}
	return keys
}

// end answers one entry. A layer that has no waiter is in the log. A mark hears of a layer that waits longer, and of
// nothing else: that was told to those whose files were dropped.
func (p *publisher) end(e *entry, err error) {
	if e.marks() {
		err = e.err
	}
	if e.done != nil {
		e.done <- err
	} else if err != nil {
		p.logLost(e.claim.Key, err)
	}
}

// unclaim takes claims back. A refused manifest holds nothing any more; the claim of a layer would run out by itself.
func (p *publisher) unclaim(es []*entry) {
	var claims []layout.Key
	for _, e := range es {
		if !e.marks() {
			claims = append(claims, e.claim.Key)
		}
	}
	if len(claims) == 0 {
		return
	}
	if err := p.index.Unclaim(context.Background(), claims...); err != nil {
		p.log.WithError(err).Error("cannot take claims back")
	}
}

// refuse drops entries, and answers them.
func (p *publisher) refuse(es []*entry, err error) {
	p.release(es)
	p.endAll(es, err)
}

// release removes the files of entries, and what is remembered of them.
func (p *publisher) release(es []*entry) {
	var held []*tree.Held
	for _, e := range es {
		if e.marks() {
			continue
		}
		if e.held != nil {
			held = append(held, e.held)
			p.pending.leave(e.held)
		}
		p.leases.forget(e.keys()...)
		p.discard(e)
	}
	p.waiting.Done(held...)
}

func (p *publisher) endAll(es []*entry, err error) {
	for _, e := range es {
		p.end(e, err)
	}
}

// discard removes the files of an entry that did not get a name, and the directory of its upload: until its claim, that
// kept the other layers of its push.
func (p *publisher) discard(e *entry) {
	for _, f := range e.staged() {
		f.Discard()
	}
	if e.held != nil && !e.held.Mounted() {
		p.remove(uploadOf(e.held))
		p.pending.gone(uploadOf(e.held))
	}
}

// place gives a group its names: blobs and links, then manifests, then tags, in one transaction or, if that would hold
// others up, several. Where a file system keeps no order of names, what refers to a name waits until that is durable.
func (p *publisher) place(es []*entry) group {
	for _, e := range es {
		if !e.marks() {
			e.err = p.change.Prepare(e.paths()...)
		}
	}
	steps := [][]placing{p.content(es), p.manifests(es), p.tags(es)}
	atOnce := p.fs.Whole()
	if atOnce {
		p.placeAll(append(append(steps[0], steps[1]...), steps[2]...))
	} else {
		for i, step := range steps {
			if i > 0 && len(step) > 0 {
				if err := p.change.Sync(); err != nil {
					return p.lose(es, i > 1, err)
				}
			}
			p.placeAll(step)
		}
	}
	return group{p.placed(es), atOnce}
}

// placing is a step of an entry.
type placing struct {
	of *entry
	index.Placing
}

// placeAll places as many in a transaction as that has time for. The first that is refused ends its entry.
func (p *publisher) placeAll(all []placing) {
	ps := make([]index.Placing, len(all))
	for i, a := range all {
		ps[i], ps[i].Taken = a.Placing, p.tree.Taken
		ps[i].Rename = func() error {
			if a.of.err != nil {
				return a.of.err
			}
			return a.Rename()
		}
	}
	for len(ps) > 0 {
		errs := p.index.Place(context.Background(), ps...)
		for i, err := range errs {
			if all[i].of.err == nil {
				all[i].of.err = err
			}
		}
		all, ps = all[len(errs):], ps[len(errs):]
	}
}

// content are the blobs and links of layers, and the blobs of manifests.
func (p *publisher) content(es []*entry) (all []placing) {
	for _, e := range es {
		switch {
		case e.held != nil:
			all = append(all, placing{e, index.Placing{Claim: e.claim, Rename: func() error {
				return p.nameLayer(e)
			}}})
		case e.blob != nil:
			c := index.Claim{Key: layout.BlobKey(e.claim.Key.Digest), Size: e.claim.Size}
			all = append(all, placing{e, index.Placing{Claim: c, Rename: func() error {
				return p.change.Place(e.blob, c.Key)
			}}})
		}
	}
	return all
}

// nameLayer gives a layer its name, and its blob, unless that is in its place. From here on it is read from the tree.
func (p *publisher) nameLayer(e *entry) error {
	blob := layout.BlobKey(e.claim.Key.Digest)
	whole, err := p.hasBlob(blob.Digest, e.claim.Size)
	switch {
	case err != nil:
		return err
	case whole:
		p.change.Settle(blob)
	case e.held.Mounted():
		return content.ErrUnknown
	default:
		if err := p.change.Place(e.held.File, blob); err != nil {
			return err
		}
	}
	if e.link.Placed() { // by a transaction that failed at its end
		p.change.Settle(e.claim.Key)
	} else if err := p.change.Place(e.link, e.claim.Key); err != nil {
		return err
	}
	p.pending.leave(e.held)
	return nil
}

// manifests are the revision links.
func (p *publisher) manifests(es []*entry) (all []placing) {
	for _, e := range es {
		if e.blob == nil {
			continue
		}
		c := e.claim
		c.WithBlob = false // it has its name
		all = append(all, placing{e, index.Placing{Claim: c, Rename: func() error {
			if err := p.lookForParts(e.claim.Key.Repository, e.claim.Manifest, parts{blob: p.measure}); err != nil {
				return err
			}
			return p.change.Place(e.link, e.claim.Key)
		}}})
	}
	return all
}

// tags are moved to manifests that are there.
func (p *publisher) tags(es []*entry) (all []placing) {
	for _, e := range es {
		to := e.claim.Key.Digest
		for _, t := range e.tags {
			all = append(all, placing{e, index.Placing{Claim: index.Claim{Key: t.key}, To: to, Rename: func() error {
				return p.nameTag(t, to)
			}}})
		}
	}
	return all
}

func (p *publisher) nameTag(t tagLinks, to digest.Digest) error {
	there, err := p.hasManifest(t.key.Repository, to)
	if err == nil && !there {
		err = content.ErrUnknown
	}
	if err != nil {
		return err
	}
	return p.change.PlaceTag(t.link, t.entry, t.key, to)
}

// placed sorts those that were refused out, and remembers the others.
func (p *publisher) placed(es []*entry) (placed []*entry) {
	var refused []*entry
	for _, e := range es {
		switch {
		case e.err != nil && e.canWait(e.err):
			p.wait(e, e.err)
			continue
		case e.err != nil:
			refused = append(refused, e)
			continue
		}
		if placed = append(placed, e); e.marks() {
			continue
		}
		p.leases.remember(e.claim.Key, e.at, state{placed: true, size: e.claim.Size})
		for _, t := range e.tags {
			p.leases.remember(t.key, e.at, state{placed: true})
		}
	}
	p.unclaim(refused)
	for _, e := range refused {
		p.refuse([]*entry{e}, e.err)
	}
	for _, e := range placed {
		if e.marks() && slices.Contains(p.late, e.layer) {
			e.err = errLate
		}
	}
	return placed
}

// lose ends a group of which some names could not be made durable. layers says that those of its layers are.
func (p *publisher) lose(es []*entry, layers bool, err error) group {
	var sure, lost []*entry
	for _, e := range es {
		if layers && e.held != nil && e.err == nil {
			sure = append(sure, e)
		} else {
			lost = append(lost, e)
		}
	}
	lost = p.fault(lost, lost, err)
	p.release(sure)
	p.change.Abandon()
	p.endAll(sure, nil)
	p.endAll(lost, err)
	return group{}
}
