package tree

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// TestALineOfWhatHasItsNameIsForgotten, whatever else waits: or a start gives a removed layer its name again.
func TestALineOfWhatHasItsNameIsForgotten(t *testing.T) {
	for name, restart := range map[string]bool{"in one life": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			tree, _ := newTree(t)
			log := tree.PendingLog()
			one, two := hold(t, log, "one"), hold(t, log, "two")
			if !restart {
				mustForget(t, log)
			}
			c := tree.Begin()
			k := layout.LayerKey("app", one.Digest)
			if err := c.Prepare(k.Path()); err != nil {
				t.Fatal(err)
			}
			if err := c.Place(one.File, k); err != nil {
				t.Fatal(err)
			}
			if restart {
				log = tree.PendingLog()
				left, named, err := log.Read()
				if err != nil || len(left) != 1 || len(named) != 1 {
					t.Fatalf("%d wait, %d are named, %v", len(left), len(named), err)
				}
			} else {
				log.Done(one)
			}
			mustForget(t, log)
			left, named, err := tree.PendingLog().Read()
			if err != nil || len(named) != 0 || len(left) != 1 || left[0].ID != two.ID {
				t.Errorf("a start finds %d that wait, and %d that were named; %v", len(left), len(named), err)
			}
		})
	}
}

func hold(t *testing.T, log *PendingLog, name string) *Held {
	t.Helper()
	h := &Held{Repository: "app", Digest: digest.FromString(name)}
	if err := log.HoldLink(h); err != nil {
		t.Fatal(err)
	}
	return h
}

func mustForget(t *testing.T, log *PendingLog) {
	t.Helper()
	if err := log.Forget(); err != nil {
		t.Fatal(err)
	}
}
