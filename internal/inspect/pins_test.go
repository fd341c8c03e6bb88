package inspect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
)

// A listing says of each image when it goes with the pins that there are, and whether a pin keeps it.
func TestListingsFollowThePins(t *testing.T) {
	w := newWorld(t)
	w.Team()
	w.Manifest("ci", "build", manifest.Manifest{})
	w.Tag("ci", "1", "build")
	signature := strings.Replace(inspecttest.Dgst("app-manifest").String(), ":", "-", 1) + ".sig"
	w.Manifest("elsewhere", "signature of app", manifest.Manifest{})
	w.Tag("elsewhere", signature, "signature of app")
	pin := func(k layout.Key, until time.Duration) index.Pin {
		p := index.Pin{Key: k, Made: w.Now()}
		if until > 0 {
			p.Until = w.Now().Add(until)
		}
		return p
	}
	now := 6 * day // see Team
	w.Must(w.SetPins(t.Context(), pin(layout.TagKey("app", "v1"), 0), pin(layout.TagKey("ci", "1"), 90*day),
		pin(layout.ManifestKey("ci", inspecttest.Dgst("build")), 80*day), pin(layout.TagKey("multi", "all"), day),
		pin(layout.TagKey("app", "later"), 0)))
	p := inspecttest.Rules
	want := []string{
		"app:latest " + inspecttest.Stamped(now+inspecttest.Life) + " tag", "app:latest v1 never pin", "app:v1 never pin",
		"ci:1 " + inspecttest.Stamped(now+90*day) + " pin", "elsewhere:" + signature + " never pin",
	}
	for _, limit := range []int{0, 100} {
		var got []string
		for _, kind := range []Kind{Images, Tags} {
			l := w.list(p, Options{Kind: kind, Limit: limit})
			for _, i := range append(l.Images, l.Tags...) {
				if slices.Contains([]string{"lib/core", "multi"}, i.Repository) {
					if *i.KeptBy == KeptByPin {
						t.Errorf("%s:%s is kept by a pin", i.Repository, *i.Tag)
					}
					continue
				}
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
}
