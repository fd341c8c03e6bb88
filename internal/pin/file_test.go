package pin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

var made = time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.json")
	if ps, there, err := Read(path); ps != nil || there || err != nil {
		t.Errorf("a missing file: %v, %v, %v", ps, there, err)
	}
	want := []index.Pin{
		{Key: layout.ManifestKey("app", digest.FromString("m")), Made: made, Note: "<why> \"so\""},
		{Key: layout.TagKey("app", "v1"), Made: made, Until: made.Add(time.Hour)},
		{Key: layout.TagKey("team/app", "latest"), Made: made},
	}
	for _, ps := range [][]index.Pin{want, nil} {
		if err := Write(path, ps); err != nil {
			t.Fatal(err)
		}
		got, there, err := Read(path)
		if !slices.Equal(got, ps) || !there || err != nil {
			t.Errorf("got %v, %v, %v; want %v", got, there, err, ps)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// TestAFileThatIsNotUnderstoodIsNotEmpty: whatever is wrong with it, it has no pins but an error.
func TestAFileThatIsNotUnderstoodIsNotEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.json")
	good := `{"repository":"app","tag":"v1","made_at":"2026-03-01T12:00:00Z"}`
	for _, text := range []string{
		"", "\x00\x00", "{", "[]", "null", "{}", `{"pins":null}`, `{"pins":[` + good + `]}{}`, `{"pins":[` + good + `]`,
		`{"pins":[` + good + `],"globs":["app/**"]}`, `{"pins":[` + good + `,` + good + `]}`,
		`{"pins":[{"repository":"app","made_at":"2026-03-01T12:00:00Z"}]}`, `{"pins":[{"repository":"app","tag":"v1"}]}`,
		`{"pins":[` + strings.Replace(good, "app", "App", 1) + `]}`, `{"pins":[` + strings.Replace(good, "v1", "?", 1) + `]}`,
		`{"pins":[` + strings.Replace(good, `"tag":"v1"`, `"digest":"sha256:12"`, 1) + `]}`,
		`{"pins":[` + good + `],"pins":[]}`, `{"pins":[` + good + `],"Pins":[]}`,
		`{"pins":[` + strings.Replace(good, `"tag":"v1"`, `"tag":"v1","tag":"v2"`, 1) + `]}`,
		`{"pins":[` + strings.Replace(good, `"tag"`, `"digest":"`+digest.FromString("m").String()+`","tag"`, 1) + `]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ps, there, err := Read(path)
		if !errors.As(err, new(*FileError)) || ps != nil || !there || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, %v, %v", text, ps, there, err)
		}
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); !errors.As(err, new(*FileError)) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink("elsewhere", path)); err != nil {
		t.Fatal(err)
	}
	if ps, there, err := Read(path); !errors.As(err, new(*FileError)) || !there {
		t.Errorf("a link to what is not there: %v, %v, %v", ps, there, err)
	}
}
