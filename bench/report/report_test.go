package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMarks(t *testing.T) {
	for name, c := range map[string]struct {
		check Check
		want  string
	}{
		"reached":                 {Check{Value: 15, Limit: 15}, "met"},
		"more than enough":        {Check{Value: 19, Limit: 15}, "met"},
		"too little":              {Check{Value: 12, Limit: 15}, "**missed** by 20 %"},
		"hardly too little":       {Check{Value: 0.898, Limit: 0.9}, "**missed** by less than 1 %"},
		"little enough":           {Check{Value: 2.5, Limit: 2.5, AtMost: true}, "met"},
		"too much":                {Check{Value: 3, Limit: 2.5, AtMost: true}, "**missed** by 20 %"},
		"far too much":            {Check{Value: 100, Limit: 2, AtMost: true}, "**missed**: 50 times the limit"},
		"no CPU was used":         {Check{Value: figure(math.Inf(1)), Limit: 2}, "**not measured**"},
		"nothing was measured":    {Check{Value: figure(math.NaN()), Limit: 2}, "**not measured**"},
		"nothing, against a roof": {Check{Value: figure(math.NaN()), Limit: 2, AtMost: true}, "**not measured**"},
	} {
		if got := c.check.Mark(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestMedians(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := Median(c.of); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.of, got, c.want)
		}
	}
}

func TestWhatWasNotMeasuredIsNullInJSON(t *testing.T) {
	data, err := json.Marshal(example())
	if err != nil || !strings.Contains(string(data), `"value":null`) {
		t.Errorf("%s, %v", data, err)
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 1: "1", 15: "15", 2.5: "2.5", 0.0314: "0.031", 1.234: "1.23",
		12.34: "12.3", 123.4: "123", 12345.6: "12,346",
		0.0000123: "1.2e-05", 100: "100",
	} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %s, want %s", x, got, want)
		}
	}
	if got := number(math.NaN()); got != "-" {
		t.Errorf("of nothing: %s", got)
	}
}

func example() *Report {
	row := &Row{Name: "get-blob", What: "GET blob 4 KiB"}
	for i := range 3 {
		row.Add("stock", "request", Sample{Count: 1000, Seconds: 1, CPU: 1 + float64(i), P50: 0.001, P99: 0.004,
			Peak: 100 << 20})
		row.Add("dcs", "request", Sample{Count: 20_000, Seconds: 1, CPU: 1, P50: 0.0001, P99: 0.0004, Peak: 50 << 20})
	}
	row.AtLeast(15, "x", "of stock's requests per CPU second", row.Of("dcs").PerCPU()/row.Of("stock").PerCPU())
	row.AtMost(2.5, "x", "of the bare handler's CPU", row.Of("bare").PerCPU()/row.Of("dcs").PerCPU())
	return &Report{Began: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Rounds: 3, Scale: "small",
		Machine: map[string]string{"cores": "2"}, Rows: []*Row{row},
		Chart: &Chart{Title: "expiry & size", X: "blobs", Y: "s", Lines: []Line{{"dcs",
			[]Point{{1e3, 0.1}, {1e5, 0.2}}}, {"stock", []Point{{1e3, 1}, {1e5, 54}}}, {"nobody", nil}}}}
}

func TestTheTableSaysWhatIsMissed(t *testing.T) {
	var b strings.Builder
	if err := example().Checks(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| GET blob 4 KiB | of stock's requests per CPU second | 40x", "| at least 15x | met",
		"| of the bare handler's CPU          | -", "**not measured**"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestADocumentKeepsWhatPeopleWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.md")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# Performance\n" + begins + "\nold\n" + ends + "\nwhat limits it\n")
	var once []byte
	for range 2 {
		if err := example().Document(path); err != nil {
			t.Fatal(err)
		}
		doc, _ := os.ReadFile(path)
		if s := string(doc); !strings.HasPrefix(s, "# Performance\n"+begins) ||
			!strings.HasSuffix(s, ends+"\nwhat limits it\n") ||
			strings.Contains(s, "old") || !strings.Contains(s, "GET blob 4 KiB") {
			t.Errorf("%s", s)
		}
		if once != nil && !bytes.Equal(once, doc) {
			t.Errorf("written twice:\n%s\nonce:\n%s", doc, once)
		}
		once = doc
	}
	write("nothing to find here")
	if err := example().Document(path); err == nil {
		t.Error("a document without a place for the tables: no error")
	}
}

func TestTheChartIsXML(t *testing.T) {
	var b bytes.Buffer
	if err := example().Chart.SVG(&b); err != nil {
		t.Fatal(err)
	}
	for dec := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
	}
	if s := b.String(); !strings.Contains(s, "expiry &amp; size") || strings.Contains(s, "NaN") ||
		strings.Contains(s, "Inf") {
		t.Error(s)
	}
}
