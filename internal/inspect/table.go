package inspect

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// shortDigest is how many characters of a digest a table shows, as docker does.
const shortDigest = 12

var (
	blobTable = []ui.Column{{Title: "DIGEST"}, {Title: "KIND"}, {Title: "SIZE", Right: true}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "USED BY", Flexible: true, Min: 10}}
	imageTable = []ui.Column{{Title: "REPOSITORY", Flexible: true, Min: 10}, {Title: "TAG", Flexible: true, Min: 8},
		{Title: "DIGEST"}, {Title: "SIZE", Right: true}, {Title: "UNIQUE", Right: true, Drop: 1}, {Title: "LAST ACCESS"}, {Title: "EXPIRES"},
		{Title: "KEPT BY", Drop: 2}}
)

// tableSink collects what people asked for, since columns are as wide as their widest cell.
type tableSink struct {
	w     io.Writer
	out   Output
	head  Head
	table ui.Table
}

func (s *tableSink) Begin(h Head) error {
	s.head = h
	switch h.Kind {
	case Blobs:
		s.table.Columns = blobTable
	case Images:
		s.table.Columns = imageTable
	case Tags:
		s.table.Columns = imageTable[:len(imageTable)-1] // a tag is kept by itself
	}
	return nil
}

func (s *tableSink) Row(r Row) error {
	now := s.head.Now
	switch r := r.(type) {
	case Blob:
		used := strings.Join(r.Repositories, ", ")
		s.table.Rows = append(s.table.Rows, []ui.Cell{digestCell(r.Digest.String()), {Text: r.Kind}, {Text: ui.Bytes(r.Size)},
			ago(r.LastAccess, now), in(r.ExpiresAt, now), orDash(used)})
	case Image:
		cells := []ui.Cell{{Text: r.Repository}, orDash(r.Tag), digestCell(r.Digest.String()), {Text: ui.Bytes(r.Size)},
			{Text: ui.Bytes(r.UniqueBytes)}, ago(r.LastAccess, now), in(r.ExpiresAt, now), orDash(r.KeptBy)}
		s.table.Rows = append(s.table.Rows, cells[:len(s.table.Columns)])
	}
	return nil
}

func digestCell(d string) ui.Cell { return ui.Cell{Text: ui.ShortDigest(d, shortDigest)} }

func orDash(text string) ui.Cell {
	if text == "" {
		return ui.Cell{Text: "-", Tone: ui.Faint}
	}
	return ui.Cell{Text: text}
}

func ago(t stamp.Time, now time.Time) ui.Cell { return ui.Cell{Text: ui.Ago(time.Time(t), now)} }

// in says when something goes, the sooner the louder.
func in(t stamp.Time, now time.Time) ui.Cell {
	c := ui.Cell{Text: ui.In(time.Time(t), now)}
	switch left := time.Time(t).Sub(now); {
	case time.Time(t).IsZero():
		c.Tone = ui.Faint
	case left <= 24*time.Hour:
		c.Tone = ui.Alert
	case left <= 7*24*time.Hour:
		c.Tone = ui.Warn
	}
	return c
}

// End writes the table, and below it what the store holds in all.
func (s *tableSink) End() error {
	if err := s.table.Write(s.w, s.out.Width, s.out.Colour); err != nil {
		return err
	}
	more := ""
	if shown := len(s.table.Rows); shown < s.head.Rows {
		more = fmt.Sprintf("; %d of %s shown", shown, ui.Count(int64(s.head.Rows), strings.TrimSuffix(string(s.head.Kind), "s")))
	}
	t := s.head.Summary
	_, err := fmt.Fprintf(s.w, "\n%s, %s, %s, %s%s\n", ui.Count(t.Tags, "tag"), ui.Count(t.Manifests, "manifest"), ui.Count(t.Blobs, "blob"),
		ui.Bytes(t.Bytes), more)
	return err
}
