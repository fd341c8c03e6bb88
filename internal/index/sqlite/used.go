package sqlite

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// usedFrom6 fills what schema7.sql made, from the rows of an older schema. Nothing on disk was looked at then, so each
// figure is the most that it can be with blocks of 4 KiB: a file of more than four blocks may have others that note
// where they are, of which each holds 340, and the entries of a directory may fill half of it. The next comparison with
// the disk, for which the mark of a clean end is lifted, replaces them.
const usedFrom6 = `
	UPDATE blobs SET disk = 4096 + (size + 4095) / 4096 * 4096
		+ CASE WHEN size > 4 * 4096 THEN (size / (340 * 4096) + 1) * 4096 ELSE 0 END WHERE placed = 1;
	UPDATE totals SET layers = (SELECT count(*) FROM layers WHERE placed = 1);
	INSERT INTO directories SELECT 'repositories/' || name, 4 * 4096 FROM repositories;
	INSERT INTO directories SELECT 'repositories/' || name || '/_layers/sha256', (count(*) * 144 / 4096 + 2) * 4096
		FROM layers JOIN repositories ON id = repo GROUP BY repo;
	INSERT INTO directories SELECT 'repositories/' || name || '/_manifests/revisions/sha256',
		(count(*) * 144 / 4096 + 3) * 4096 FROM manifests JOIN repositories ON id = repo GROUP BY repo;
	INSERT INTO directories SELECT 'repositories/' || r.name || '/_manifests/tags',
		(sum(length(t.name) + 16) * 2 / 4096 + 1) * 4096 FROM tags t JOIN repositories r ON id = repo GROUP BY repo;
	INSERT INTO directories SELECT 'blobs', 256 * 2 * 4096 + count(*) * 144 FROM blobs;
	DELETE FROM settings WHERE key = 'clean';
`

// Footprint implements index.Reader.
func (r *reader) Footprint() (f index.Footprint, err error) {
	_, err = r.q.one([]any{&f.Bytes, &f.Links, &f.Tags}, "SELECT disk, layers + manifests, tags FROM totals")
	return f, err
}

// Measured implements index.Reader.
func (r *reader) Measured(dir string) (bool, error) {
	return r.q.exists("SELECT 1 FROM directories WHERE path = ?", dir)
}

// EachDirectory implements index.Reader.
func (r *reader) EachDirectory(f func(path string) error) error {
	return r.q.each(func(a *answer) error { return f(a.st.ColumnText(0)) }, "SELECT path FROM directories")
}

// Measure implements index.Store.
func (s *Store) Measure(ctx context.Context, taken index.Taken, dirs ...string) error {
	return s.begin(ctx, func(t *tx) error { return t.measure(taken, dirs) })
}

// measure records what directories take.
func (t *tx) measure(taken index.Taken, dirs []string) error {
	for _, dir := range dirs {
		bytes, there := taken(dir)
		var err error
		if there {
			err = t.exec(`INSERT INTO directories (path, bytes) VALUES (?, ?)
				ON CONFLICT (path) DO UPDATE SET bytes = excluded.bytes WHERE bytes <> excluded.bytes`, dir, bytes)
		} else {
			err = t.exec("DELETE FROM directories WHERE path = ?", dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measurePlaced records what the file of a key takes that got its name just now, if it is a blob, and the directories
// in which that appeared. Those further up grow only with a directory that was not there before.
func (t *tx) measurePlaced(k layout.Key, to digest.Digest, taken index.Taken) error {
	dirs := layout.Above(k)
	bytes, there := taken(dirs[0])
	var known int64
	measured, err := t.one([]any{&known}, "SELECT bytes FROM directories WHERE path = ?", dirs[0])
	if err != nil {
		return err
	}
	if !there || !measured {
		err = t.measure(taken, dirs)
	} else if bytes != known {
		err = t.measure(taken, dirs[:1])
	}
	if err == nil && k.Kind == layout.Tag {
		err = t.measureHistory(k, to, taken)
	}
	if err != nil || k.Kind != layout.Blob {
		return err
	}
	file := layout.Below(k.Path().String())
	bytes, _ = taken(file)
	dir, _ := taken(file[:len(file)-len("/data")])
	return t.exec("UPDATE blobs SET disk = ?1 WHERE digest = ?2 AND disk <> ?1", bytes+dir, packed(k.Digest))
}

// measureHistory records what a directory still takes in which a tag had a long history.
func (t *tx) measureHistory(k layout.Key, to digest.Digest, taken index.Taken) error {
	dir := layout.Below(layout.TagIndexDir(k.Repository, k.Tag))
	least, _ := taken(dir)
	bytes, _ := taken(dir + "/" + to.Algorithm().String())
	return t.setHistory(k, max(bytes-least, 0))
}
