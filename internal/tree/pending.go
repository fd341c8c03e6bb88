package tree

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/failpoint"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Finished uploads and mounted layers wait in one directory until they get their names in the tree. A log in it says
// what each file is going to be, in one line; a file without a line is nothing. None of it is synced here: a start
// reads the files again, and after a kill they are whole.

// Held is a layer that waits for its name.
type Held struct {
	ID         string        `json:"id"` // its file's name, and that of its upload
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Size       int64         `json:"size"`           // of its blob, in bytes
	Began      time.Time     `json:"began,omitzero"` // when its upload began; zero: it was mounted
	File       *Staged       `json:"-"`              // its blob; of a mounted layer its link
}

// Mounted says that the layer has no bytes of its own: its file is its link.
func (h *Held) Mounted() bool { return h.Began.IsZero() }

// Key is the layer's.
func (h *Held) Key() layout.Key { return layout.LayerKey(h.Repository, h.Digest) }

// PendingLog is the directory of what waits, and its log. Its methods may be called concurrently.
type PendingLog struct {
	tree *Tree

	mu    sync.Mutex // guards the rest, and the order of what is written to the log
	lines map[string][]byte
	size  int  // of the log, in bytes
	dirty bool // the file may have lines of what does not wait, or such lines are not gone for sure
}

// maxLog is how long the log may grow, in bytes, before the lines of what has its name are dropped.
const maxLog = 1 << 20

// PendingLog opens the log of what waits. It reads nothing.
func (t *Tree) PendingLog() *PendingLog { return &PendingLog{tree: t, lines: map[string][]byte{}} }

func (t *Tree) pendingFile(name string) string { return filepath.Join(t.Pending(), name) }

const logName = "log"

// HoldUpload moves the bytes of an upload to where they wait. It sets the File.
func (l *PendingLog) HoldUpload(h *Held, u layout.Upload) error {
	if err := l.add(h); err != nil {
		return err
	}
	to := l.tree.pendingFile(h.ID)
	if err := l.tree.rename(l.tree.File(u.Data()), to); err != nil {
		l.Done(h)
		return err
	}
	h.File = &Staged{path: to}
	return nil
}

// HoldLink writes the link of a layer to where it waits. It sets the File, and the ID.
func (l *PendingLog) HoldLink(h *Held) error {
	link, err := l.tree.Stage([]byte(h.Digest))
	if err != nil {
		return err
	}
	h.ID = uuid.NewString()
	if err := l.add(h); err != nil {
		link.Discard()
		return err
	}
	to := l.tree.pendingFile(h.ID)
	if err := l.tree.rename(link.path, to); err != nil {
		link.Discard()
		l.Done(h)
		return err
	}
	h.File = &Staged{path: to}
	return nil
}

// add writes a line, by one call. It begins with the end of another: a full disk may have cut that.
func (l *PendingLog) add(h *Held) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	line = slices.Concat([]byte{'\n'}, line, []byte{'\n'})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.append(line); err != nil {
		return err
	}
	l.lines[h.ID] = line
	return nil
}

func (l *PendingLog) append(line []byte) error {
	path := l.tree.pendingFile(logName)
	if err := l.tree.remake(l.tree.Pending()); err != nil {
		return err
	}
	failpoint.Step()
	f, err := disk.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	l.size, l.dirty = l.size+len(line), true
	return errors.Join(err, f.Close(), l.tree.Own(path))
}

// Done says that layers have their names, or are dropped. Their lines go when none is left, or the log is long.
func (l *PendingLog) Done(hs ...*Held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range hs {
		delete(l.lines, h.ID)
		l.dirty = true // its line is still in the file
	}
	if l.size > 0 && len(l.lines) == 0 || l.size > maxLog {
		_ = l.rewrite() // a line without a file is nothing
	}
}

// Forget removes the lines of all that has its name, for good: before a name is removed, so that no start gives it
// again to a file that a power loss brought back.
func (l *PendingLog) Forget() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty {
		return nil
	}
	if err := l.rewrite(); err != nil {
		return err
	}
	err := Sync(&Staged{path: l.tree.pendingFile(logName)})
	if err == nil {
		err = disk.SyncDir(l.tree.Pending())
	}
	if Missing(err) { // an operator removed it
		err = nil
	}
	l.dirty = err != nil
	return err
}

// rewrite leaves the lines of what waits. It shortens the file, so that a kill leaves lines that are nothing at worst.
func (l *PendingLog) rewrite() error {
	var all []byte
	for _, line := range l.lines {
		all = append(all, line...)
	}
	path := l.tree.pendingFile(logName)
	if len(all) == 0 {
		failpoint.Step()
		l.size = 0
		if err := os.Truncate(path, 0); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	staged, err := l.tree.Stage(all)
	if err != nil {
		return err
	}
	defer staged.Discard()
	if err := l.tree.rename(staged.path, path); err != nil {
		return err
	}
	staged.placed, l.size = true, len(all)
	return nil
}

// Read returns what a server left waiting: uploads in the order in which they ended, then mounts. The bytes of a blob
// were read, and have its digest. named are layers that may have got their names a moment before, or their blob has. A
// file that cannot be read stays for the next start, and is in the error. Read removes all other files. Only the holder
// of the server lock may call it, before anything waits.
func (l *PendingLog) Read() (left, named []*Held, err error) {
	path := l.tree.pendingFile(logName)
	data, err := disk.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, removeEntries(l.tree.Pending(), func(string) bool { return false })
	}
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size, l.dirty = len(data), true
	var unread []error
	for line := range bytes.Lines(data) {
		h := parseHeld(line)
		if h == nil || l.lines[h.ID] != nil {
			continue
		}
		h.File = &Staged{path: l.tree.pendingFile(h.ID)}
		right, err := h.right()
		switch {
		case Missing(err):
			named = append(named, h)
		case err != nil:
			l.lines[h.ID] = line
			unread = append(unread, err)
		case right:
			l.lines[h.ID] = line
			left = append(left, h)
		}
	}
	slices.SortStableFunc(left, func(a, b *Held) int { return cmp.Compare(rank(a), rank(b)) })
	err = removeEntries(l.tree.Pending(), func(name string) bool { return l.lines[name] != nil || name == logName })
	if len(l.lines) == 0 && l.size > 0 {
		err = errors.Join(err, l.rewrite())
	}
	return left, named, errors.Join(append(unread, err)...)
}

func rank(h *Held) int {
	if h.Mounted() {
		return 1
	}
	return 0
}

// parseHeld reads a line of the log. Nil: a power loss tore it.
func parseHeld(line []byte) *Held {
	h := &Held{}
	if json.Unmarshal(line, h) != nil || uuid.Validate(h.ID) != nil || !layout.ValidName(h.Repository) ||
		h.Digest.Validate() != nil {
		return nil
	}
	return h
}

// right says whether the file has the bytes that it should have. fs.ErrNotExist: there is none.
func (h *Held) right() (bool, error) {
	f, err := h.File.Open()
	if errors.Is(err, disk.ErrNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return h.verify(f)
}

// verify says whether the file has the bytes that it should have.
func (h *Held) verify(f *disk.File) (bool, error) {
	if h.Mounted() {
		data, err := f.ReadAll()
		return string(data) == string(h.Digest), err
	}
	v := h.Digest.Verifier()
	n, err := io.CopyBuffer(v, io.MultiReader(f), make([]byte, 1<<20))
	return n == h.Size && v.Verified(), err
}
