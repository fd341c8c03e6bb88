package sqlite

import (
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

// Rows implements index.Reader.
func (r *reader) Rows(ks []layout.Key, most int, f func(row index.Row, owners int) error) error {
	if len(ks) == 0 {
		return nil
	}
	kind := ks[0].Kind
	keys := make(tuples, 0, 2*len(ks))
	for _, k := range ks {
		_, _, key := where(k)
		keys = append(keys, key...)
	}
	scan := scanKind(kind)
	return ownedRows[kind].parts(keys, func(statement string, args []any) error {
		return r.q.each(func(a *answer) error {
			row, err := scan(a)
			if err != nil {
				return err
			}
			return f(row, a.st.ColumnInt(a.st.ColumnCount()-1))
		}, statement, append([]any{most}, args...)...)
	})
}

// ownedRows finds the rows of a kind, each with how many refer to it. Of each sort it counts ?1 at most.
var ownedRows = [...]set{
	layout.Blob: newOwnedRows(layout.Blob, "m.digest = v.column1",
		"layers l WHERE l.digest = m.digest", "manifests i WHERE i.digest = m.digest"),
	layout.Layer:    newOwnedRows(layout.Layer, ofNamed, naming),
	layout.Manifest: newOwnedRows(layout.Manifest, ofNamed, naming),
}

const (
	ofNamed = "m.digest = v.column1 AND m.repo = v.column2"
	naming  = "refs f WHERE f.child = m.digest AND f.repo = m.repo"
)

func newOwnedRows(kind layout.Kind, ofKey string, owners ...string) set {
	table, _, key := where(layout.Key{Kind: kind})
	counted := "0"
	for _, from := range owners {
		counted += " + (SELECT count(*) FROM (SELECT 1 FROM " + from + " LIMIT ?1 + 0))"
	}
	return newSet(len(key), "SELECT "+columns(kind)+", "+counted+" FROM (%s) v CROSS JOIN "+table+" m ON "+ofKey)
}
