package ui

import (
	"bytes"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
)

func TestANameIsCutInItsMiddle(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"company/platform/team/api-gateway", 40, "company/platform/team/api-gateway"},
		{"company/platform/team/api-gateway", 32, "company/…/team/api-gateway"},
		{"company/platform/team/api-gateway", 24, "company/…/api-gateway"},
		{"company/platform/team/api-gateway", 14, "…/api-gateway"},
		{"company/platform/team/api-gateway", 9, "comp…eway"},
		{"feature-JIRA-1234-login", 12, "featu…-login"},
		{"seed/repository", 10, "seed…itory"},
		{"이미지/저장소/이름", 9, "…/이름"},
		{"ab", 1, "…"},
	} {
		got := CutName(tt.text, tt.width)
		if got != tt.want || lipgloss.Width(got) > tt.width {
			t.Errorf("%q in %d: got %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

func TestAListThatIsCutSaysHowManyItLeftOut(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"v1, v2", 6, "v1, v2"},
		{"v1.0.0, v2.0.0", 13, "v1….0 +1 more"},
		{"v1.0.0, v2.0.0, latest", 21, "v1.0.0 +2 more"},
		{"v1.0.0, v2.0.0, latest", 22, "v1.0.0, v2.0.0, latest"},
		{"v1, v2, a-tag-that-is-long", 16, "v1, v2 +1 more"},
		{"v1.0.0, v2.0.0", 8, "2 in all"},
		{"a-tag-that-is-long", 8, "a-t…long"},
	} {
		got := CutList(tt.text, tt.width)
		if got != tt.want || lipgloss.Width(got) > tt.width {
			t.Errorf("%q in %d: got %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
}

// On a narrow screen the figures that one can do without are left out first, then the algorithm of digests; only
// then are names cut.
func TestNamesAreTheLastToBeCut(t *testing.T) {
	table := Table{
		Columns: []Column{{Title: "NAME", Flexible: true, Cut: CutName},
			{Title: "DIGEST", Flexible: true, Min: 12, Cut: CutDigest, First: true},
			{Title: "FREES", Drop: 1, First: true}, {Title: "WHY", Drop: 2, First: true}},
		Rows: [][]Cell{Text("company/platform/api-gateway", "sha256:1a2b3c4d5e6f", "1.0 MiB", "tagged")},
	}
	for width, want := range map[int]string{
		0:  "company/platform/api-gateway  sha256:1a2b3c4d5e6f  1.0 MiB  tagged",
		65: "company/platform/api-gateway  sha256:1a2b3c4d5e6f  1.0 MiB",
		57: "company/platform/api-gateway  sha256:1a2b3c4d5e6f",
		48: "company/platform/api-gateway  1a2b3c4d5e6f",
		41: "company/…/api-gateway        1a2b3c4d5e6f",
	} {
		var out bytes.Buffer
		if err := table.Write(&out, width, false); err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(out.String(), "\n")[1]; got != want {
			t.Errorf("width %d: got\n%s\nwant\n%s", width, got, want)
		}
	}
}
