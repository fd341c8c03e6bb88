package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// listFlags are the flags of dcs inspect that say which rows to list. One image has none.
var listFlags = []string{"images", "tags", "repositories", "sort", "reverse", "limit", "repository", "histogram",
	"expiring", "gone", "runs", "pulls", "pins", "what-if"}

// atMostOne wants at most one argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Errorf("unexpected argument %q", args[1]), "dcs inspect shows one image at a time"}
	}
	return nil
}

// inspectImage shows one image as a tree, or as one object.
func inspectImage(env *environment, cmd *cobra.Command, name, format string) (err error) {
	ref, err := imageReference(cmd, name, format)
	if err != nil {
		return err
	}
	opener, err := openerOf(env, cmd)
	if err != nil {
		return err
	}
	st, err := opener.Look(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	t, err := inspect.ReadTree(cmd.Context(), st.Index, st.Policy, st.Dir, ref)
	if err != nil {
		return err
	}
	if format == formatJSON {
		return json.NewEncoder(env.stdout).Encode(t)
	}
	return writeTree(newDisplay(env), t)
}

// imageReference reads which image to show, and refuses the flags of listings.
func imageReference(cmd *cobra.Command, name, format string) (ref inspect.Reference, err error) {
	for _, flag := range append([]string{"check", "deep"}, listFlags...) {
		if cmd.Flags().Changed(flag) {
			return ref, &usageError{fmt.Errorf("--%s cannot be combined with an image", flag),
				"leave it out, or leave out " + name}
		}
	}
	if format == formatCSV {
		return ref, &usageError{errors.New("--format csv cannot be combined with an image: a tree has no rows"),
			"use --format json: the image is one object"}
	}
	if err := oneOf("format", format, formatTable, formatJSON); err != nil {
		return ref, err
	}
	ref, err = inspect.ParseReference(name)
	if err != nil {
		return ref, &usageError{err: err}
	}
	return ref, nil
}

// referrersShown is how many referrers of one manifest people get to see. JSON has all.
const referrersShown = 20

var treeColumns = []ui.Column{{Title: "DIGEST"}, {Title: "KIND", Flexible: true, Min: 10}, sizeColumn,
	{Title: "SHARED WITH", Flexible: true, Min: 12}}

// writeTree writes the facts about the image, and below them the tree of its parts.
func writeTree(to display, t *inspect.Tree) error {
	if err := writeIncomplete(to.to, t.Complete); err != nil {
		return err
	}
	facts := ui.Facts{
		{Name: "image", Cell: ui.Cell{Text: t.Asked.String()}},
		{Name: "tags", Cell: ui.Cell{Text: strings.Join(t.Tags, ", ")}},
		{Name: "digest", Cell: ui.Cell{Text: digestIn(to.width, t.Digest.String())}},
		{Name: "size", Cell: ui.Cell{Text: ui.Bytes(t.Size) + "; frees " + ui.Bytes(t.UniqueBytes) + " when removed"}},
		{Name: "pushed", Cell: ago(t.PushedAt, t.Now)},
		{Name: "last access", Cell: ago(t.LastAccess, t.Now)},
		{Name: "expires", Cell: in(t.ExpiresAt, t.Now)},
		{Name: "reason", Cell: orDash(treeReason(t))},
	}
	if err := facts.Write(to.to, to.width, to.colour); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(to.to); err != nil {
		return err
	}
	top := ui.Tree{Row: []ui.Cell{digestCell(t.Digest.String()), {Text: t.Kind}, {Text: ui.Bytes(t.Size)}, {}},
		Children: branches(t.Children)}
	return ui.Table{Columns: treeColumns, Rows: top.Rows(to.branches)}.Write(to.to, to.width, to.colour)
}

// digestIn returns the full digest if it fits into the width, since people copy it, and a short one otherwise.
func digestIn(width int, d string) string {
	const label = len("last access  ")
	if width == 0 || label+len(d) <= width {
		return d
	}
	return ui.ShortDigest(d, shortDigest)
}

// treeReason names the manifest that keeps the image, if one does.
func treeReason(t *inspect.Tree) string {
	switch t.KeptBy {
	case inspect.KeptByParent:
		return "part of index " + t.Owner
	case inspect.KeptBySubject:
		return "attached to image " + t.Owner
	}
	return reason(t.Image)
}

// branches returns the nodes below a node, with at most referrersShown referrers and a line that counts the others.
func branches(nodes []*inspect.Node) (trees []ui.Tree) {
	referrers := 0
	for _, n := range nodes {
		if n.Kind == inspect.KindReferrer {
			if referrers++; referrers > referrersShown {
				continue
			}
		}
		trees = append(trees, ui.Tree{Row: nodeCells(n), Children: branches(n.Children)})
	}
	if more := referrers - referrersShown; more > 0 {
		text := "and " + ui.Count(int64(more), "more referrer")
		trees = append(trees, ui.Tree{Row: []ui.Cell{{Text: text, Tone: ui.Faint}, {}, {}, {}}})
	}
	return trees
}

func nodeCells(n *inspect.Node) []ui.Cell {
	kind := ui.Cell{Text: n.Kind}
	for _, more := range []string{n.Platform, n.Note} {
		if more != "" {
			kind.Text += " " + more
		}
	}
	if n.Kind == inspect.KindReferrer { // what it is for is its type, as far as types differ
		kind.Text += " " + strings.TrimPrefix(cmp.Or(n.ArtifactType, n.MediaType), "application/")
	}
	if n.Above {
		kind.Text += " (above)"
	}
	return []ui.Cell{digestCell(n.Digest.String()), kind, {Text: ui.Bytes(n.Size)}, nodeState(n)}
}

// nodeState says whether a node exists, and what else holds it.
func nodeState(n *inspect.Node) ui.Cell {
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
	text := strings.Join(n.SharedWith, ", ")
	if n.More {
		text += " and more"
	}
	return ui.Cell{Text: text, Tone: ui.Faint}
}
