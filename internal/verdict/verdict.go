// Package verdict says when the tags and manifests of one state of the index expire under a policy.
//
// It asks the policy for the life of each, and the index for what keeps it: also for its pin, which keeps a row until
// it ends, whatever the policy says. A tag that is about an image by its name expires no earlier than that image. It
// reads only, by point queries: it costs what is asked for.
package verdict

import (
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// Finder finds the verdicts on the rows of one state of the index, for one goroutine.
type Finder struct {
	index  index.Reader
	policy index.Policy
	due    policy.Due
	pins   Pins

	known map[question]policy.Verdict // on manifests
	open  map[question]bool           // that are being found: a circle ends
	last  map[string]map[string]int   // by repository, see policy.KeptLast
}

// question is what is asked about a manifest. Two tags may be about each other's images, so only so many steps are
// followed from a tag to what it is about.
type question struct {
	manifest layout.Key
	steps    int
}

// maxSteps is how many: a signature, that of the signature, and that of this one.
const maxSteps = 3

// maxDepth is how many manifests are looked at, each of which keeps the one before. Only an attacker makes longer
// chains; what is at the end of one stays.
const maxDepth = 1000

// New returns a finder of the verdicts under a policy and pins. It may be used as long as the reader.
func New(r index.Reader, p index.Policy, due policy.Due, pins Pins) *Finder {
	return &Finder{r, p, due, pins, map[question]policy.Verdict{}, map[question]bool{}, map[string]map[string]int{}}
}

// Tag returns the verdict on a tag.
func (f *Finder) Tag(t index.Row) (policy.Verdict, error) { return f.tag(t, maxSteps) }

// Manifest returns the verdict on a manifest, which may be a claim.
func (f *Finder) Manifest(m index.Row) (policy.Verdict, error) { return f.manifest(m, maxSteps) }

// Stays says whether a pin or a rule keeps a tag whatever room there is.
func (f *Finder) Stays(t index.Row) (bool, error) {
	repo, name := t.Key.Repository, t.Key.Tag
	if f.pins.Keep(t) || policy.Tagged(f.policy, repo, name).Kept {
		return true, nil
	}
	_, kept, err := f.keptLast(repo, name)
	return kept, err
}

func (f *Finder) tag(t index.Row, steps int) (policy.Verdict, error) {
	repo, name := t.Key.Repository, t.Key.Tag
	own := f.pins.apply(t, policy.Own(t.AccessedAt, policy.Tagged(f.policy, repo, name), f.due))
	if own.Due.IsZero() {
		return own, nil
	}
	by, kept, err := f.keptLast(repo, name)
	switch {
	case err != nil:
		return own, err
	case kept:
		return policy.Own(t.AccessedAt, rule.Life{Rule: by, Kept: true}, f.due), nil
	case steps == 0:
		return own, nil
	}
	about, err := f.index.About(name)
	if err != nil {
		return own, err
	}
	for _, m := range about {
		image, err := f.manifest(m, steps-1)
		if err != nil {
			return own, err
		}
		if image.Later(own) {
			own.Due, own.Rule = image.Due, image.Rule
		}
	}
	return own, nil
}

// keptLast says whether a tag stays as one of those of its repository that were used last, and by which rule.
func (f *Finder) keptLast(repo, tag string) (by int, kept bool, err error) {
	if n, _ := f.policy.Rules.KeepLast(repo, tag); n == 0 {
		return 0, false, nil
	}
	last, known := f.last[repo]
	if !known {
		var tags []policy.LastUse
		err := f.index.EachTag(repo, func(t index.Row) error {
			tags = append(tags, policy.LastUse{Tag: t.Key.Tag, At: t.AccessedAt})
			return nil
		})
		if err != nil {
			return 0, false, err
		}
		last = policy.KeptLast(f.policy, repo, tags)
		f.last[repo] = last
	}
	by, kept = last[tag]
	return by, kept, nil
}

func (f *Finder) manifest(m index.Row, steps int) (policy.Verdict, error) {
	q := question{m.Key, steps}
	if known, ok := f.known[q]; ok {
		return known, nil
	}
	if len(f.open) >= maxDepth {
		return policy.Own(m.AccessedAt, rule.Life{Rule: rule.Default}, f.due), nil
	}
	f.open[q] = true
	defer delete(f.open, q)
	keepers, err := f.keepers(m, steps)
	if err != nil {
		return policy.Verdict{}, err
	}
	f.known[q] = f.pins.apply(m, policy.Kept(policy.Alone(f.policy, m, f.due), keepers))
	return f.known[q], nil
}

// keepers are the verdicts on the tags of a manifest and on the manifests that own it.
func (f *Finder) keepers(m index.Row, steps int) (all []policy.Verdict, err error) {
	tags, err := f.index.Tags(m.Key.Repository, m.Digest)
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		w, err := f.tag(t, steps)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	owners, err := Owners(f.index, m, true)
	if err != nil {
		return nil, err
	}
	for _, o := range owners {
		if f.open[question{o.Key, steps}] {
			continue
		}
		w, err := f.manifest(o, steps)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// Owners returns the manifests that own a manifest: those that name it, if any do, and its subject.
func Owners(r index.Reader, m index.Row, named bool) (owners []index.Row, err error) {
	if named {
		owners, err = r.Parents(m.Key.Repository, m.Key.Digest, 0)
	}
	if err != nil || m.Subject == "" || m.Detached {
		return owners, err
	}
	subject, err := r.Row(layout.ManifestKey(m.Key.Repository, m.Subject))
	if subject != nil {
		owners = append(owners, *subject)
	}
	return owners, err
}
