package inspect

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// problem is a problem as JSON and CSV have it.
type problem struct {
	Problem fsck.Flaw `json:"problem"`
	Object  string    `json:"object"`
	Detail  string    `json:"detail"`
}

// checked is what was looked at, as JSON has it.
type checked struct {
	Tags      int64 `json:"tags"`
	Manifests int64 `json:"manifests"`
	Links     int64 `json:"links"`
	Blobs     int64 `json:"blobs"`
	Bytes     int64 `json:"bytes"`   // read and held against digests
	Indexed   bool  `json:"indexed"` // the index was held against the disk too
}

// Check looks for everything that is wrong with the store, a line each, and says how many problems it
// found. Deep: it reads every blob. out.OnProgress gets things looked at, and no end: nobody knows it.
func (s Source) Check(ctx context.Context, deep bool, out Output) (found int, err error) {
	if err := out.check(); err != nil {
		return 0, err
	}
	err = s.with(ctx, func(st *store.Store) error {
		o := fsck.CheckOptions{Deep: deep}
		if out.OnProgress != nil {
			o.OnSeen = func(things, _ int64) { out.OnProgress(things, 0) }
		}
		problems, seen, err := fsck.Check(ctx, st, o)
		if err != nil {
			return err
		}
		found = len(problems)
		if !seen.Indexed {
			if err := s.warnUnheld(ctx, st.Index); err != nil {
				return err
			}
		}
		return out.problems(problems, seen)
	})
	return found, err
}

// warnUnheld says why the index was not held against the disk.
func (s Source) warnUnheld(ctx context.Context, ix index.Store) error {
	why := "the index is being rebuilt"
	whole, err := ix.Whole(ctx)
	if whole {
		why = "no server runs, and the next one compares the index with the disk"
	}
	s.Store.Log.Warn(why + ": it was not compared with the disk")
	return err
}

func (out Output) problems(found []fsck.Problem, seen fsck.Checked) error {
	all := make([]problem, 0, len(found))
	for _, p := range found {
		all = append(all, problem{p.Flaw, p.Object(), p.Detail})
	}
	switch out.Format {
	case JSON:
		return json.NewEncoder(out.To).Encode(struct {
			Checked  checked   `json:"checked"`
			Problems []problem `json:"problems"`
		}{checked{seen.Tags, seen.Manifests, seen.Layers, seen.Blobs, seen.Bytes, seen.Indexed}, all})
	case CSV:
		return problemsCSV(out.To, all)
	}
	for _, p := range all {
		if _, err := fmt.Fprintf(out.To, "%s: %s: %s\n", p.Problem, p.Object, p.Detail); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return nil
	}
	_, err := fmt.Fprintln(out.To, clean(seen))
	return err
}

func problemsCSV(to io.Writer, all []problem) error {
	w := csv.NewWriter(to)
	rows := [][]string{{"problem", "object", "detail"}}
	for _, p := range all {
		rows = append(rows, []string{string(p.Problem), p.Object, p.Detail})
	}
	return w.WriteAll(rows) // which flushes
}

// clean says how much was looked at without finding anything.
func clean(seen fsck.Checked) string {
	s := fmt.Sprintf("no problems in %s, %s and %s", ui.Count(seen.Tags, "tag"), ui.Count(seen.Manifests, "manifest"), ui.Count(seen.Blobs, "blob"))
	if seen.Bytes > 0 {
		s += fmt.Sprintf("; all digests verified (%s)", ui.Bytes(seen.Bytes))
	}
	return s
}
