package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jc-lab/docker-cache-server/internal/fsck"
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
	Bytes     int64 `json:"bytes"`   // read and compared with digests
	Indexed   bool  `json:"indexed"` // the index was compared with the disk too
}

// check finds everything that is wrong with a store, and says how much it looked at. Deep reads every blob too. onSeen
// is called with how many objects were looked at so far.
func check(ctx context.Context, opener store.Opener, deep bool, onSeen func(objects int64)) (found []fsck.Problem,
	seen fsck.Checked, err error) {
	st, err := opener.Look(ctx)
	if err != nil {
		return nil, seen, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	found, seen, err = fsck.Check(ctx, st, fsck.CheckOptions{Deep: deep,
		OnSeen: func(objects, _ int64) { onSeen(objects) }})
	if err != nil || seen.Indexed {
		return found, seen, err
	}
	whole, err := st.Index.Whole(ctx)
	why := "the index is being rebuilt"
	if whole {
		why = "no server runs, and the next one compares the index with the disk"
	}
	opener.Log.Warn(why + ": it was not compared with the disk")
	return found, seen, err
}

// writeCheck writes the problems of a store, a line each, or how much was looked at without finding any.
func writeCheck(to io.Writer, format string, found []fsck.Problem, seen fsck.Checked) error {
	all := make([]problem, 0, len(found))
	for _, p := range found {
		all = append(all, problem{p.Flaw, p.Object(), p.Detail})
	}
	switch format {
	case formatJSON:
		return json.NewEncoder(to).Encode(struct {
			Checked  checked   `json:"checked"`
			Problems []problem `json:"problems"`
		}{checked{seen.Tags, seen.Manifests, seen.Layers, seen.Blobs, seen.Bytes, seen.Indexed}, all})
	case formatCSV:
		records := [][]string{{"problem", "object", "detail"}}
		for _, p := range all {
			records = append(records, []string{string(p.Problem), p.Object, p.Detail})
		}
		return csv.NewWriter(to).WriteAll(records) // which flushes
	}
	for _, p := range all {
		if _, err := fmt.Fprintf(to, "%s: %s: %s\n", p.Problem, p.Object, p.Detail); err != nil {
			return err
		}
	}
	if len(all) > 0 {
		return nil
	}
	_, err := fmt.Fprintln(to, clean(seen))
	return err
}

// clean says how much was looked at without finding a problem.
func clean(seen fsck.Checked) string {
	s := fmt.Sprintf("no problems in %s, %s and %s", ui.Count(seen.Tags, "tag"), ui.Count(seen.Manifests, "manifest"),
		ui.Count(seen.Blobs, "blob"))
	if seen.Bytes > 0 {
		s += fmt.Sprintf("; all digests verified (%s)", ui.Bytes(seen.Bytes))
	}
	return s
}
