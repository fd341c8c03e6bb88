package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// marked is a data directory that a gc without a server left cleanly.
func marked(t *testing.T) Opener {
	t.Helper()
	o := opener(t)
	var untellable *tree.UntellableError
	if _, err := o.Dir.Imprint(t.Context()); errors.As(err, &untellable) {
		t.Skip(untellable)
	}
	collect(t, o, noMark)
	return o
}

// collect runs a gc that removes nothing, and wants it to compare the index with the tree for a reason; empty: not at
// all.
func collect(t *testing.T, o Opener, why string) {
	t.Helper()
	s, err := o.Collect(t.Context())
	must(t, err)
	if s.Compared != why {
		t.Errorf("compared: %q; want %q", s.Compared, why)
	}
	if open, err := s.Index.GateOpen(t.Context()); !open || err != nil {
		t.Errorf("the gate is open: %v, %v", open, err)
	}
	must(t, errors.Join(s.MarkClean(t.Context()), s.Close()))
}

func placeFile(t *testing.T, o Opener, k layout.Key, data string) {
	t.Helper()
	file := o.Dir.File(k.Path())
	must(t, errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), 0o644)))
}

// has says whether the index of a data directory has a placed row.
func has(t *testing.T, o Opener, k layout.Key) (there bool) {
	t.Helper()
	s := open(t, o.Look)
	must(t, s.Index.View(t.Context(), func(r index.Reader) error {
		row, err := r.Row(k)
		there = row != nil && row.Placed
		return err
	}))
	return there
}

func TestATreeThatEndedCleanlyIsNotComparedAgain(t *testing.T) {
	o := marked(t)
	for range 3 {
		collect(t, o, "")
	}
	s := open(t, o.Rehearse)
	if s.Compared != "" {
		t.Errorf("a dry run compared: %q", s.Compared)
	}
	knows(t, s, true)
	collect(t, o, "") // a dry run lifts no mark
}

// TestWhoeverChangesAStoreLiftsItsMark, whether it ends cleanly or is killed.
func TestWhoeverChangesAStoreLiftsItsMark(t *testing.T) {
	o := marked(t)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	if mark, err := server.Index.Clean(t.Context()); mark != "" || err != nil {
		t.Errorf("beside a server the mark is %q, %v", mark, err)
	}
	must(t, server.Close())
	collect(t, o, noMark)
	collect(t, o, "")
	killed, err := o.Collect(t.Context())
	must(t, errors.Join(err, killed.Close())) // without its last words
	collect(t, o, noMark)
}

// TestAGCThatAServerOvertookLeavesNoMark: it does not know what the server does.
func TestAGCThatAServerOvertookLeavesNoMark(t *testing.T) {
	o := marked(t)
	s, err := o.Collect(t.Context())
	must(t, err)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	token, err := server.Index.CloseGate(t.Context()) // it compares
	must(t, err)
	if open, err := server.Index.OpenGate(t.Context(), token); !open || err != nil {
		t.Errorf("the gate opened: %v, %v", open, err)
	}
	must(t, errors.Join(s.MarkClean(t.Context()), s.Close(), server.Close()))
	collect(t, o, noMark)
}

// TestATouchedTreeIsComparedAgain: a manifest over a blob that is there, by another registry.
func TestATouchedTreeIsComparedAgain(t *testing.T) {
	o := marked(t)
	for _, k := range []layout.Key{
		layout.LayerKey("app", digest.FromString(image)),
		layout.ManifestKey("another/app", digest.FromString(image)),
		layout.TagKey("app", "v2"),
	} {
		placeFile(t, o, k, digest.FromString(image).String())
		collect(t, o, touched)
		if !has(t, o, k) {
			t.Errorf("%s was not found", k)
		}
		collect(t, o, "")
	}
	must(t, os.RemoveAll(filepath.Dir(filepath.Dir(o.Dir.File(layout.TagKey("app", "v2").Path())))))
	collect(t, o, touched)
	collect(t, o, noMark) // the comparison before found that a file is missing, and so left no mark
	collect(t, o, "")
}

// TestAMarkThatComesBackIsNotTrusted: power is lost, and with it that a server lifted the mark. What the server placed
// is on the disk.
func TestAMarkThatComesBackIsNotTrusted(t *testing.T) {
	o := marked(t)
	before, err := os.ReadFile(o.Dir.Index())
	must(t, err)
	server, err := o.Serve(t.Context(), promised)
	must(t, err)
	k := layout.LayerKey("app", digest.FromString(image))
	placeFile(t, o, k, digest.FromString(image).String())
	must(t, errors.Join(server.Close(), os.WriteFile(o.Dir.Index(), before, 0o600)))
	collect(t, o, touched)
	if !has(t, o, k) {
		t.Error("what the server placed was not found")
	}
}

// TestWhatIsPlacedDuringAComparisonIsFoundByTheNext, also where the walk had been already.
func TestWhatIsPlacedDuringAComparisonIsFoundByTheNext(t *testing.T) {
	o := marked(t)
	placeFile(t, o, layout.TagKey("app", "v2"), digest.FromString(image).String())
	k := layout.ManifestKey("app", digest.FromString("a manifest"))
	placed := false
	during := o
	during.OnSeen = func(objects int) {
		if objects == 4 { // the last are the blobs
			placed = true
			placeFile(t, o, k, k.Digest.String())
		}
	}
	collect(t, during, touched)
	if !placed {
		t.Fatal("the comparison saw too little")
	}
	collect(t, o, touched)
}

// TestATreeInWhichAFileIsMissingIsComparedAgain: no directory that is looked at tells when it comes back.
func TestATreeInWhichAFileIsMissingIsComparedAgain(t *testing.T) {
	for _, k := range []layout.Key{
		layout.BlobKey(digest.FromString(image)), layout.ManifestKey("app", digest.FromString(image)),
	} {
		o := marked(t)
		link := layout.LayerKey("app", digest.FromString(image))
		placeFile(t, o, link, link.Digest.String())
		collect(t, o, touched)
		data, err := os.ReadFile(o.Dir.File(k.Path()))
		must(t, errors.Join(err, os.Remove(o.Dir.File(k.Path()))))
		placeFile(t, o, layout.TagKey("app", "v2"), link.Digest.String())
		collect(t, o, touched)
		placeFile(t, o, k, string(data))
		collect(t, o, noMark)
		if !has(t, o, k) {
			t.Errorf("%s was not found", k)
		}
	}
}

// TestADirectoryThatNeverHadItsFileIsNoCleanTree, for the same reason. Stock registries leave such directories behind.
func TestADirectoryThatNeverHadItsFileIsNoCleanTree(t *testing.T) {
	for _, k := range []layout.Key{
		layout.BlobKey(digest.FromString("new")), layout.ManifestKey("app", digest.FromString("new")),
		layout.LayerKey("app", digest.FromString(image)),
	} {
		o := marked(t)
		dir := filepath.Dir(o.Dir.File(k.Path()))
		must(t, os.MkdirAll(filepath.Join(dir, "signatures"), 0o755))
		collect(t, o, touched)
		collect(t, o, noMark)
		placeFile(t, o, k, k.Digest.String())
		collect(t, o, noMark)
		if k.Kind == layout.Layer && !has(t, o, k) {
			t.Errorf("%s was not found", k)
		}
	}
}

// TestAnEmptyDirectoryIsRemoved, so that the tree is told again.
func TestAnEmptyDirectoryIsRemoved(t *testing.T) {
	o := marked(t)
	dir := filepath.Dir(o.Dir.File(layout.LayerKey("app", digest.FromString(image)).Path()))
	must(t, os.MkdirAll(dir, 0o755))
	collect(t, o, touched)
	collect(t, o, noMark)
	collect(t, o, "")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}

// TestATreeWithSymbolicLinksIsAlwaysCompared: what they lead to may be anybody's.
func TestATreeWithSymbolicLinksIsAlwaysCompared(t *testing.T) {
	o := marked(t)
	repository := o.Dir.Native(layout.Repositories + "/app")
	elsewhere := filepath.Join(t.TempDir(), "app")
	must(t, errors.Join(os.Rename(repository, elsewhere), os.Symlink(elsewhere, repository)))
	why := repository + " is a symbolic link"
	collect(t, o, why)
	collect(t, o, why)
	leaf := marked(t)
	dir := filepath.Dir(leaf.Dir.File(layout.ManifestKey("app", digest.FromString(image)).Path()))
	elsewhere = filepath.Join(t.TempDir(), "manifest")
	must(t, errors.Join(os.Rename(dir, elsewhere), os.Symlink(elsewhere, dir)))
	collect(t, leaf, touched)
	collect(t, leaf, noMark)
}

// TestARunThatRemovesLeavesAMark of the tree as it leaves it.
func TestARunThatRemovesLeavesAMark(t *testing.T) {
	o := marked(t)
	s, err := o.Collect(t.Context())
	must(t, err)
	change := s.Tree.Begin()
	keys := []layout.Key{layout.TagKey("app", "v1"), layout.ManifestKey("app", digest.FromString(image))}
	for _, k := range keys {
		victim := []index.Victim{{Key: k, UnusedSince: s.Index.Now()}}
		gone, err := s.Index.RetireAll(t.Context(), victim, func(row index.Row) (index.Removed, error) {
			_, err := change.Remove(row.Key)
			return index.Removed{File: err == nil}, err
		})
		must(t, err)
		if gone[0].Row == nil {
			t.Fatalf("%s stays", k)
		}
	}
	must(t, change.Commit())
	must(t, errors.Join(s.MarkClean(t.Context()), s.Close()))
	collect(t, o, "")
	collect(t, o, "")
}
