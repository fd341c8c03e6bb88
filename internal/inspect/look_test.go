package inspect

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/manifest"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

func quiet() logrus.FieldLogger {
	log, _ := logtest.NewNullLogger()
	return log
}

// listed opens a store and reads its rows.
func listed(t *testing.T, o store.Opener, what Options) []Row {
	t.Helper()
	st, err := o.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(t.Context(), st.Index, st.Policy, what)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := list.All(t.Context())
	if err := errors.Join(err, list.Close(), st.Close()); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestADirectoryWithoutARegistryIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	var none *tree.NoStoreError
	if _, err := (store.Opener{Dir: tree.Dir(dir), Log: quiet()}).Look(t.Context()); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
		t.Errorf("created %v, %v", entries, err)
	}
}

func TestADirectoryThatWasNeverIndexed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := tree.Dir(t.TempDir())
	write := func(p layout.Path, data string) {
		file := dir.File(p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
			os.WriteFile(file, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	layer := digest.FromString("layer")
	manifest := `{"schemaVersion":2,"mediaType":"` + inspecttest.OCIManifest + `","layers":[{"digest":"` +
		layer.String() + `","size":5}]}`
	d := digest.FromString(manifest)
	write(layout.Path{Kind: layout.BlobData, Digest: layer}, "layer")
	write(layout.Path{Kind: layout.BlobData, Digest: d}, manifest)
	write(layout.Path{Kind: layout.LayerLink, Repository: "app", Digest: layer}, layer.String())
	write(layout.Path{Kind: layout.RevisionLink, Repository: "app", Digest: d}, d.String())
	write(layout.Path{Kind: layout.TagLink, Repository: "app", Tag: "v1"}, d.String())
	out := listed(t, store.Opener{Dir: dir, Log: quiet(), Asked: policy.Request{Default: inspecttest.Rules}},
		Options{Kind: Tags})
	if i, ok := out[0].(Image); !ok || i.Repository != "app" || i.Tag != "v1" || i.Digest != d ||
		i.MediaType != inspecttest.OCIManifest {
		t.Errorf("%+v", out)
	}
	if _, err := os.Stat(dir.Metadata()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left %s behind: %v", dir.Metadata(), err)
	}
	if left, err := os.ReadDir(os.TempDir()); len(left) > 0 || err != nil {
		t.Errorf("left %v behind, %v", left, err)
	}
}

// The policy is the server's, unless the caller supposes another. Looking beside the server changes
// nothing, and neither does looking after it.
func TestPolicyAndQuietness(t *testing.T) {
	dir := tree.Dir(t.TempDir())
	if err := os.MkdirAll(dir.Metadata(), 0o755); err != nil {
		t.Fatal(err)
	}
	ix, err := sqlite.Open(t.Context(), dir.Index(), sqlite.Serve, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{&inspecttest.World{Store: ix, T: t}}
	w.Must(ix.Promise(t.Context(), index.Policy{TTL: 10 * day, Grace: 2 * time.Hour, Resolution: time.Minute}))
	w.Manifest("app", "m", manifest.Manifest{})
	w.Tag("app", "v1", "m")
	expires := func(s store.Opener) time.Duration {
		s.Dir, s.Log, s.Asked.Default = dir, quiet(), inspecttest.Rules
		row := listed(t, s, Options{Kind: Tags})[0].(Image)
		return time.Time(row.ExpiresAt).Sub(time.Time(row.LastAccess))
	}
	ttl, short, long := 3*day, time.Minute, 20*day
	check := func() {
		for _, tt := range []struct {
			name string
			s    store.Opener
			want time.Duration
		}{
			{"the server's", store.Opener{}, 10*day + time.Minute},
			{"another ttl", store.Opener{Asked: policy.Request{TTL: &ttl}}, 3*day + time.Minute},
			{"a grace longer than the ttl", store.Opener{Asked: policy.Request{Grace: &long}}, 20*day + time.Minute},
			{"no less than what is owed", store.Opener{Asked: policy.Request{TTL: &short, Grace: &short}},
				2*time.Hour + time.Minute},
		} {
			if got := expires(tt.s); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	check()
	w.Must(ix.Close())
	before, err := os.ReadFile(dir.Index())
	w.Must(err)
	t.Chdir(filepath.Dir(string(dir)))
	listed(t, store.Opener{Dir: tree.Dir(filepath.Base(string(dir))), Log: quiet()}, Options{}) // a relative directory
	check()
	after, err := os.ReadFile(dir.Index())
	w.Must(err)
	if !bytes.Equal(before, after) {
		t.Error("the index changed")
	}
}

// Time in which nobody watched the store does not count against what is in it.
func TestExpiryWaitsForUnwatchedTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	w := &world{&inspecttest.World{T: t, Clock: inspecttest.Start}}
	open := func() {
		ix, err := sqlite.Open(t.Context(), path, sqlite.Serve, func() time.Time { return w.Clock })
		w.Must(err)
		w.Store = ix
	}
	open()
	w.Blob("app", "before", 1)
	w.Must(w.Beat(t.Context()))
	w.Must(w.Store.Close())
	w.At(5 * day)
	open()
	defer func() { w.Must(w.Store.Close()) }()
	w.Blob("app", "after", 1)
	for _, b := range w.list(inspecttest.Rules, Options{}).Blobs {
		if want := inspecttest.Stamped(5*day + inspecttest.Lease); *b.ExpiresAt != want {
			t.Errorf("%s expires at %s, want %s", b.Digest, *b.ExpiresAt, want)
		}
	}
	for _, at := range []time.Duration{0, time.Millisecond, day, 5 * day, 6 * day} {
		due := w.Due(inspecttest.Start.Add(at), inspecttest.Lease)
		w.Clock = due
		if back := w.Back(inspecttest.Lease); back.Before(inspecttest.Start.Add(at)) {
			t.Errorf("%s is due %s, which is %s back", at, due, back)
		}
		w.Clock = due.Add(-2 * time.Millisecond)
		if back := w.Back(inspecttest.Lease); !back.Before(inspecttest.Start.Add(at)) {
			t.Errorf("%s is due %s, but before it was %s back", at, due, back)
		}
	}
}
