package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// A listing says of each image when it goes under the rules, and whether a rule keeps it for longer than the ttl.
func TestListingsFollowTheRules(t *testing.T) {
	w := newWorld(t)
	w.Team()
	w.Manifest("ci", "build", manifest.Manifest{})
	w.Tag("ci", "1", "build")
	signature := strings.Replace(inspecttest.Dgst("app-manifest").String(), ":", "-", 1) + ".sig"
	w.Manifest("elsewhere", "signature of app", manifest.Manifest{})
	w.Tag("elsewhere", signature, "signature of app")
	keep, short, long, one := true, 2*day, 90*day, 1
	p := inspecttest.Rules
	p.Rules = rule.Rules{
		{Repository: "app", Tag: "v*", Keep: &keep}, {Repository: "ci", TTL: &short},
		{Repository: "lib/*", UntaggedTTL: &long}, {Repository: "multi", KeepLast: &one},
	}
	want := []string{
		"app:latest " + inspecttest.Stamped(6*day+inspecttest.Life) + " tag", "app:latest v1 never rule",
		"app:v1 never rule",
		"ci:1 " + inspecttest.Stamped(8*day+p.Resolution) + " tag", "elsewhere:" + signature + " never rule",
		"lib/core: " + inspecttest.Stamped(91*day+p.Resolution) + " rule", "multi:all never rule",
	}
	for _, limit := range []int{0, 100} {
		var got []string
		for _, kind := range []Kind{Images, Tags} {
			l := w.list(p, Options{Kind: kind, Limit: limit})
			for _, i := range append(l.Images, l.Tags...) {
				expires := "never"
				if i.ExpiresAt != nil {
					expires = *i.ExpiresAt
				}
				got = append(got, fmt.Sprintf("%s:%s %s %s", i.Repository, *i.Tag, expires, *i.KeptBy))
			}
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("limit %d: got\n%s\nwant\n%s", limit, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	soon := 3 * day
	if l := w.list(p, Options{Kind: Tags, Expiring: &soon}).Tags; len(l) != 1 || l[0].Repository != "ci" {
		t.Errorf("expiring: %+v", l)
	}
}
