package files

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/content"
	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// narrow is an ext4 without a journal, in a file of a disk that a test fills: then it refuses what is new on it.
type narrow struct {
	*testing.T
	below, dir string
}

func newNarrow(t *testing.T) *narrow {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	n := &narrow{t, t.TempDir(), t.TempDir()}
	n.run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", n.below)
	t.Cleanup(func() { n.run("umount", n.below) })
	n.run("truncate", "-s", "64M", n.image())
	n.run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", n.image())
	n.mount()
	t.Cleanup(func() { n.run("umount", n.dir) })
	return n
}

func (n *narrow) run(name string, args ...string) {
	n.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		if n.Failed() || name == "umount" {
			n.Errorf("%s %q: %v, %s", name, args, err, out)
			return
		}
		n.Skipf("%s %q: %v, %s", name, args, err, out)
	}
}

func (n *narrow) image() string { return filepath.Join(n.below, "image") }

func (n *narrow) mount() { n.run("mount", "-o", "loop", n.image(), n.dir) }

// fill fills the disk, and lets it refuse a directory, which the kernel tells this caller alone.
func (n *narrow) fill(dir string) {
	f, err := os.Create(filepath.Join(n.below, "full"))
	if err != nil {
		n.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if err := disk.SyncDir(dir); err == nil {
		n.Error("the disk refuses nothing")
	}
}

func (n *narrow) makeRoom() {
	if err := os.Remove(filepath.Join(n.below, "full")); err != nil {
		n.Error(err)
	}
}

// losePower takes from the kernel what it takes for written.
func (n *narrow) losePower() {
	n.Helper()
	n.run("umount", n.dir)
	n.mount()
}

// openOn opens a store on the narrow disk, with the index of a bench.
func (n *narrow) openOn(b *bench) tree.Dir {
	n.Helper()
	data := tree.Dir(filepath.Join(n.dir, "data"))
	if err := os.Mkdir(string(data), 0o755); err != nil {
		n.Fatal(err)
	}
	b.Store = n.reopen(b, data)
	return data
}

// reopen opens a store as a new process would: it remembers no sync.
func (n *narrow) reopen(b *bench, data tree.Dir) *Store {
	n.Helper()
	files, err := tree.Open(data)
	if err != nil {
		n.Fatal(err)
	}
	s, err := New(Options{Tree: files, Index: b.index, Log: b.log, Resolution: rules.Resolution, Linger: late})
	if err != nil {
		n.Fatal(err)
	}
	return s
}

// afterPowerLoss is what the disk has now, without what the kernel still has to write.
func (n *narrow) afterPowerLoss() tree.Dir {
	n.Helper()
	copied, at := filepath.Join(n.TempDir(), "image"), n.TempDir()
	n.run("cp", "--sparse=always", n.image(), copied)
	n.run("mount", "-o", "loop,ro", copied, at)
	n.Cleanup(func() { n.run("umount", at) })
	return tree.Dir(filepath.Join(at, "data"))
}

// want wants keys to be in a directory.
func (n *narrow) want(data tree.Dir, ks ...layout.Key) {
	n.Helper()
	for _, k := range ks {
		if there, err := data.Has(k); err != nil || !there {
			n.Errorf("%s was answered, and is there: %v, %v", k, there, err)
		}
	}
}

// TestAStartMakesDurableWhatAKilledServerNamed, before a client is told of it and builds on it.
func TestAStartMakesDurableWhatAKilledServerNamed(t *testing.T) {
	n, b := newNarrow(t), newBenchThat(t, late)
	data := n.openOn(b)
	m := manifestOver(b.layer("l", "new/app"))
	named, end, answered := make(chan struct{}), make(chan struct{}), make(chan error)
	sound, killed := b.index, b.Store
	b.index = placed{sound, layout.Tag, func() { // the last names: no sync comes after them
		close(named)
		<-end
	}}
	go func() { answered <- killed.PutManifest(t.Context(), "new/app", m, []string{"v1"}) }()
	<-named
	b.Store = n.reopen(b, data)
	b.index = sound
	if err := b.Start(t.Context()); err != nil {
		t.Error(err)
	}
	over := indexOver(m.Digest)
	if err := b.PutManifest(t.Context(), "new/app", over, nil); err != nil {
		t.Error(err)
	}
	n.want(n.afterPowerLoss(), layout.BlobKey(m.Digest), layout.ManifestKey("new/app", m.Digest),
		layout.TagKey("new/app", "v1"), layout.ManifestKey("new/app", over.Digest))
	close(end)
	if err := errors.Join(<-answered, killed.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// refuse pushes an image of which the disk refuses the name of the manifest, and those that are given after it.
func (n *narrow) refuse(b *bench, data tree.Dir, m content.Manifest, tags ...string) {
	n.Helper()
	sound := b.index
	b.index = placed{sound, layout.Manifest, func() {
		n.fill(filepath.Dir(data.File(layout.ManifestKey("new/app", m.Digest).Path())))
	}}
	if err := b.PutManifest(n.Context(), "new/app", m, tags); err == nil {
		n.Error("names that the disk refused are answered")
	}
	b.publisher.runs.Wait()
	n.makeRoom()
	b.index = sound
}

// TestAManifestThatTheDiskRefusedHoldsNothing, as one that is refused for any other reason.
func TestAManifestThatTheDiskRefusedHoldsNothing(t *testing.T) {
	n, b := newNarrow(t), newBenchThat(t, late)
	data := n.openOn(b)
	d := b.layer("l", "new/app")
	n.refuse(b, data, manifestOver(d))
	if err := b.DeleteLayer(t.Context(), "new/app", d); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestALayerIsNotLostWithItsManifest: its names were durable before those of the manifest were given.
func TestALayerIsNotLostWithItsManifest(t *testing.T) {
	n, b := newNarrow(t), newBenchThat(t, late)
	lines := &bytes.Buffer{}
	log := logrus.New()
	log.SetOutput(lines)
	b.log = log
	data := n.openOn(b)
	d := b.layer("l", "new/app")
	n.refuse(b, data, manifestOver(d), "v1")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	n.losePower()
	n.want(data, layout.BlobKey(d), layout.LayerKey("new/app", d))
	if strings.Contains(lines.String(), "is lost") {
		t.Errorf("the log says:\n%s", lines)
	}
}

// unadopted is an index that corrects no row.
type unadopted struct {
	index.Store
	asked *int
}

func (u unadopted) Adopt(context.Context, ...index.Look) error {
	*u.asked++
	return index.ErrBusy
}

// TestAnIndexThatIsBusyIsAskedOnceToCorrectItself: each try waits for seconds, and all pushes with it.
func TestAnIndexThatIsBusyIsAskedOnceToCorrectItself(t *testing.T) {
	n, b := newNarrow(t), newBenchThat(t, late)
	sound, asked := b.index, 0
	data := n.openOn(b)
	b.index = unadopted{sound, &asked}
	n.refuse(b, data, manifestOver(b.layer("l", "new/app")), "v1", "v2")
	if b.index = sound; asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestNamesThatADiskRefusedToAnotherAreTakenBack: a DELETE or a run synced their directory first, and so was told of
// what the disk refused. The sync of those who gave the names finds nothing to write.
func TestNamesThatADiskRefusedToAnotherAreTakenBack(t *testing.T) {
	n, b := newNarrow(t), newBenchThat(t, late)
	data, sound := n.openOn(b), b.index
	m := manifestOver(b.layer("l", "new/app"))
	b.index = placed{sound, layout.Manifest, func() {
		n.fill(filepath.Dir(data.File(layout.ManifestKey("new/app", m.Digest).Path())))
		n.makeRoom()
	}}
	err := b.PutManifest(t.Context(), "new/app", m, nil)
	b.publisher.runs.Wait()
	b.index = sound
	if err == nil {
		t.Error("answered")
		n.want(n.afterPowerLoss(), layout.ManifestKey("new/app", m.Digest))
	}
	m = manifestOver(b.layer("l", "new/app"))
	if err := b.PutManifest(t.Context(), "new/app", m, nil); err != nil {
		t.Error(err)
	}
	n.want(n.afterPowerLoss(), layout.ManifestKey("new/app", m.Digest))
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestNamesThatADiskRefusedAreTakenBack: the kernel takes them for written, and says so from then on. So an image that
// is pushed over them is answered once they were given again, with all directories that are new.
func TestNamesThatADiskRefusedAreTakenBack(t *testing.T) {
	for what, knows := range map[string]bool{"beside an upload": true, "beside an upload of an earlier server": false} {
		t.Run(what, func(t *testing.T) { takeBack(t, knows) })
	}
}

func takeBack(t *testing.T, knows bool) {
	n, b := newNarrow(t), newBenchThat(t, late)
	data, sound := n.openOn(b), b.index
	under := b.upload("new/other", "way") // in directories that no sync covers
	if !knows {
		under.Close()
		b.uploads.forget()
	}
	d := b.layer("l", "new/app")
	b.index = placed{sound, layout.Layer, func() { n.fill(data.Native(layout.Repositories)) }}
	b.flush()
	b.publisher.runs.Wait()
	n.makeRoom()
	b.index = sound
	if knows {
		under.Close()
	}
	if _, err := b.Blob(t.Context(), "new/app", d, content.Promise); err != nil { // as clients ask before they push
		b.layer("l", "new/app")
	}
	m := manifestOver(d)
	if err := b.PutManifest(t.Context(), "new/app", m, []string{"v1"}); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	n.losePower()
	n.want(data, layout.BlobKey(d), layout.BlobKey(m.Digest), layout.LayerKey("new/app", d),
		layout.ManifestKey("new/app", m.Digest), layout.TagKey("new/app", "v1"))
}
