package gc

import (
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/verdict"
)

// planTags puts the tags into the plan that were not used since their cutoff. Those that a pin keeps, or a rule for
// longer, are passed by in the same reading: nothing is asked about them.
func (x *planner) planTags() error {
	var unused []index.Row
	err := x.index.IdleTags(x.plan.Cutoffs.Latest, func(r index.Row) error {
		if !x.pins.Keep(r) && x.isUnused(r, policy.Tagged(x.policy, r.Key.Repository, r.Key.Tag)) {
			unused = append(unused, r)
		} else {
			x.staying[beginning(r.Digest)] = true
		}
		return x.ctx.Err()
	})
	if err != nil {
		return err
	}
	finder, now := verdict.New(x.index, x.policy, x.gc.Index.Due, x.pins), x.gc.Index.Now()
	for _, r := range signaturesLast(unused) {
		goes, err := x.tagGoes(r, finder, now)
		if err != nil {
			return err
		}
		if goes {
			x.addVictim(r, &x.plan.Tags, 0)
		} else {
			x.staying[beginning(r.Digest)] = true
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// signaturesLast puts the tags that are about an image behind the others, which may keep it.
func signaturesLast(tags []index.Row) []index.Row {
	var images, about []index.Row
	for _, t := range tags {
		if layout.About(t.Key.Tag) == "" {
			images = append(images, t)
		} else {
			about = append(about, t)
		}
	}
	return append(images, about...)
}

// beginning is the first eight bytes of a digest. Thousands of signatures may be about images that stay, and are not
// asked about one by one. Two digests that begin alike would only keep a tag for longer.
func beginning(d digest.Digest) (n uint64) {
	_, digits, _ := strings.Cut(string(d), ":")
	if len(digits) >= 16 {
		n, _ = strconv.ParseUint(digits[:16], 16, 64)
	}
	return n
}

// tagGoes says whether a tag that is unused has to go: it is none of the last ones that a rule keeps, and what it is
// about goes too. Without rules and pins nothing else can keep it: what it is about is no younger.
func (x *planner) tagGoes(r index.Row, finder *verdict.Finder, now time.Time) (bool, error) {
	about := layout.About(r.Key.Tag)
	if len(x.policy.Rules) == 0 && (len(x.pins) == 0 || about == "") {
		return true, nil
	}
	if about != "" && x.staying[beginning(digest.Digest(about))] {
		return false, nil
	}
	v, err := finder.Tag(r)
	if err != nil || v.Due.IsZero() || !now.After(v.Due) {
		return false, err
	}
	x.plan.verdicts[r.Key] = v
	return true, nil
}

// lifeOf is the life of a manifest whose tags and owners are all in the plan.
func (x *planner) lifeOf(c *candidate) rule.Life {
	if len(x.policy.Rules) == 0 {
		return x.plan.life
	}
	var keepers []policy.Verdict
	for _, list := range [][]index.Row{c.tags, c.owners} {
		for _, r := range list {
			keepers = append(keepers, x.plan.verdicts[r.Key])
		}
	}
	v := policy.Kept(policy.Alone(x.policy, c.row, x.gc.Index.Due), keepers)
	x.plan.verdicts[c.row.Key] = v
	return v.Life
}
