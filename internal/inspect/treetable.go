package inspect

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// referrersShown is how many referrers of one manifest people get to see. JSON has all.
const referrersShown = 20

var treeTable = []ui.Column{{Title: "DIGEST"}, {Title: "KIND", Flexible: true, Min: 10}, {Title: "SIZE", Right: true},
	{Title: "SHARED WITH", Flexible: true, Min: 12}}

// Image opens the index and writes one image as a tree, or as one object. There is no CSV of a tree.
func (s Source) Image(ctx context.Context, ref Reference, out Output, branches ui.Branches) error {
	return s.with(ctx, func(st *store.Store) error {
		t, err := ReadTree(ctx, st.Index, st.Policy, st.Dir, ref)
		if err != nil {
			return err
		}
		return t.Write(out, branches)
	})
}

// Write writes an image.
func (t *Tree) Write(out Output, branches ui.Branches) error {
	buffered := bufio.NewWriter(out.To)
	write := t.writeTable
	if out.Format == JSON {
		write = t.writeJSON
	}
	return errors.Join(write(buffered, out, branches), buffered.Flush())
}

func (t *Tree) writeJSON(w io.Writer, _ Output, _ ui.Branches) error {
	return json.NewEncoder(w).Encode(t)
}

// writeTable writes what is known of the image as a whole, and below it the tree.
func (t *Tree) writeTable(w io.Writer, out Output, branches ui.Branches) error {
	if err := beginTable(w, t.Complete); err != nil {
		return err
	}
	facts := ui.Facts{
		{Name: "image", Cell: ui.Cell{Text: t.asked.String()}},
		{Name: "tags", Cell: ui.Cell{Text: strings.ReplaceAll(t.Tag, " ", ", ")}},
		{Name: "digest", Cell: ui.Cell{Text: t.digestIn(out.Width)}},
		{Name: "size", Cell: ui.Cell{Text: ui.Bytes(t.Size) + "; frees " + ui.Bytes(t.UniqueBytes) + " when removed"}},
		{Name: "pushed", Cell: ui.Cell{Text: ui.Ago(time.Time(t.CreatedAt), t.now)}},
		{Name: "last access", Cell: ago(t.LastAccess, t.now)},
		{Name: "expires", Cell: in(t.ExpiresAt, t.now)},
		{Name: "reason", Cell: orDash(t.reason())},
	}
	if err := facts.Write(w, out.Width, out.Colour); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	top := ui.Tree{Row: []ui.Cell{digestCell(t.Digest.String()), {Text: t.Kind}, {Text: ui.Bytes(t.Size)}, {}}, Children: branchesOf(t.Children)}
	return ui.Table{Columns: treeTable, Rows: top.Rows(branches)}.Write(w, out.Width, out.Colour)
}

// digestIn is the whole digest where it fits, since people copy it.
func (t *Tree) digestIn(width int) string {
	const label = len("last access  ")
	if d := t.Digest.String(); width == 0 || label+len(d) <= width {
		return d
	}
	return ui.ShortDigest(t.Digest.String(), shortDigest)
}

// reason names what keeps the image, if that is a manifest.
func (t *Tree) reason() string {
	switch t.KeptBy {
	case KeptByParent:
		return "part of index " + t.keeper
	case KeptBySubject:
		return "attached to image " + t.keeper
	}
	return t.Image.reason()
}

func branchesOf(nodes []*Node) (trees []ui.Tree) {
	referrers := 0
	for _, n := range nodes {
		if n.Kind == kindReferrer {
			if referrers++; referrers > referrersShown {
				continue
			}
		}
		trees = append(trees, ui.Tree{Row: n.cells(), Children: branchesOf(n.Children)})
	}
	if more := referrers - referrersShown; more > 0 {
		text := "and " + ui.Count(int64(more), "more referrer")
		trees = append(trees, ui.Tree{Row: []ui.Cell{{Text: text, Tone: ui.Faint}, {}, {}, {}}})
	}
	return trees
}

func (n *Node) cells() []ui.Cell {
	kind := ui.Cell{Text: n.Kind}
	for _, more := range []string{n.Platform, n.note} {
		if more != "" {
			kind.Text += " " + more
		}
	}
	if n.Kind == kindReferrer {
		kind.Text += " " + n.purpose()
	}
	if n.Above {
		kind.Text += " (above)"
	}
	return []ui.Cell{digestCell(n.Digest.String()), kind, {Text: ui.Bytes(n.Size)}, n.state()}
}

// purpose is what a referrer is for: its type, as far as types differ.
func (n *Node) purpose() string {
	return strings.TrimPrefix(cmp.Or(n.ArtifactType, n.MediaType), "application/")
}

// state says whether a node is there, and what else holds it.
func (n *Node) state() ui.Cell {
	switch {
	case n.Missing:
		return ui.Cell{Text: "missing", Tone: ui.Alert}
	case n.Foreign:
		return ui.Cell{Text: "stored on another registry", Tone: ui.Faint}
	case !n.Shared:
		return ui.Cell{}
	case len(n.SharedWith) == 0:
		return ui.Cell{Text: "something else", Tone: ui.Faint}
	}
	return ui.Cell{Text: list(n.SharedWith, n.more), Tone: ui.Faint}
}

func digestCell(d string) ui.Cell { return ui.Cell{Text: ui.ShortDigest(d, shortDigest)} }
