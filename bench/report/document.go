package report

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
)

// What lies between these lines of a document is written by a run.
const (
	begins = "<!-- written by make bench DOC=1 -->"
	ends   = "<!-- end of what make bench wrote -->"
)

// ChartFile is where the chart is, beside the document.
const ChartFile = "performance-expiry.svg"

// Document writes the tables into a document, between the lines that mark their place. What people wrote around it
// stays.
func (r *Report) Document(path string) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(doc, []byte(begins))
	_, after, ok2 := bytes.Cut(rest, []byte(ends))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", path, begins, ends)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begins + "\n\n")
	fmt.Fprintf(&b, "%s, %d rounds, `SCALE=%s`.\n", r.Began.Format("2 January 2006"), r.Rounds, r.Scale)
	for _, k := range slices.Sorted(maps.Keys(r.Machine)) {
		fmt.Fprintf(&b, "- %s: %s\n", k, r.Machine[k])
	}
	b.WriteString("\n")
	if err := r.Checks(&b); err != nil {
		return err
	}
	if r.Chart != nil {
		fmt.Fprintf(&b, "\n![%s](%s)\n", r.Chart.Title, ChartFile)
	}
	b.WriteString("\nThe medians behind it:\n\n")
	if err := r.Measurements(&b); err != nil {
		return err
	}
	b.WriteString("\n" + ends)
	b.Write(after)
	return os.WriteFile(path, b.Bytes(), 0o644)
}
