package gc

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/indextest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/store"
)

// TestATagWhoseLinkSaysNothingExpires writes links that a power cut leaves, or an editor. Nobody can pull such a tag,
// no list has it, the check names it; and it goes with its directory when a tag to nowhere would.
func TestATagWhoseLinkSaysNothingExpires(t *testing.T) {
	for name, link := range map[string]string{"empty": "", "cut": "sha256:0123", "noise": "\x00\x00\x00\x00",
		"long": string(make([]byte, 5000))} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			was := w.image("app", "good", "base")
			for _, tag := range []string{"bad", "moved"} {
				w.write(layout.Path{Kind: layout.TagLink, Repository: "app", Tag: tag}, []byte(link))
				w.write(layout.Path{Kind: layout.TagIndexLink, Repository: "app", Tag: tag, Digest: was}, []byte(was))
			}
			w.write(layout.Path{Kind: layout.TagLink, Repository: "only", Tag: "bad"}, []byte(link))
			w.adopt(false)
			w.adopt(true)
			problems, _, err := fsck.Check(t.Context(), &store.Store{Dir: w.Dir, Index: w.Index}, fsck.CheckOptions{})
			w.must(err)
			if len(problems) != 3 || problems[0].Flaw != fsck.Nowhere || problems[0].Object() != "app:bad" {
				t.Errorf("the check found %+v", problems)
			}
			w.must(w.Index.View(t.Context(), func(r index.Reader) error {
				names, err := r.Names("app", "", 0)
				if len(names) != 1 {
					t.Errorf("the list has %q", names)
				}
				return err
			}))

			w.pass(rules.TTL / 2)
			if rep, err := w.Run(t.Context(), rules, false); err != nil || rep.Removed.Any() {
				t.Errorf("before the ttl: %+v, %v", rep.Removed, err)
			}
			_, err = w.Index.Lease(t.Context(), layout.TagKey("app", "good"), layout.ManifestKey("app", was))
			w.must(err)
			w.must(indextest.MoveTag(t.Context(), w.Index, "app", "moved", was, func() error {
				return os.WriteFile(w.Dir.File(layout.Path{Kind: layout.TagLink, Repository: "app", Tag: "moved"}),
					[]byte(was), 0o644)
			}))
			w.pass(rules.TTL/2 + time.Hour)
			dry, err := w.Run(t.Context(), rules, true)
			w.must(err)
			rep, err := w.Run(t.Context(), rules, false)
			w.must(err)
			if rep.Removed != (Counts{Tags: 2}) || dry.Removed != rep.Removed || len(rep.Images) != 2 ||
				rep.Images[0].Digest != digest.Digest("") {
				t.Errorf("removed %+v, %+v; a dry run %+v", rep.Removed, rep.Images, dry.Removed)
			}
			for path, want := range map[string]bool{"repositories/app/_manifests/tags/bad": false,
				"repositories/only":                      false,
				"repositories/app/_manifests/tags/moved": true, "repositories/app/_manifests/tags/good": true} {
				if _, err := os.Stat(w.Dir.Native(filepath.Join(layout.Root, path))); (err == nil) != want {
					t.Errorf("%s: %v", path, err)
				}
			}
			w.pass(rules.TTL + time.Hour)
			_, err = w.Run(t.Context(), rules, false)
			w.must(err)
			w.empty()
		})
	}
}
