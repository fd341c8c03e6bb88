package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/policy"
	"github.com/jc-lab/docker-cache-server/internal/rule"
	"github.com/jc-lab/docker-cache-server/internal/stamp"
	"github.com/jc-lab/docker-cache-server/internal/ui"
)

// removal is a report on images of all sorts, down to the longest names there are.
func removal() gc.Report {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rep := gc.Report{StartedAt: stamp.Time(now), Removed: gc.Counts{Tags: 4, Manifests: 5, Blobs: 1234, Uploads: 1},
		FreedBytes: 17 << 30,
		Remaining: index.Totals{Tags: 12345, Manifests: 13000, Blobs: 60000,
			Bytes: 3 << 40}, Planned: 9, PlannedBytes: 17 << 30}
	day := 24 * time.Hour
	rep.Policy.Rules = rule.Rules{{UntaggedTTL: &day}, {Repository: "ci/**/with/a/glob/longer/than/a/column", Tag: "build-*",
		TTL: &day}}
	for _, i := range []struct {
		repository, tag string
		age             time.Duration
		reason          string
		bytes           int64
		rule            int
	}{
		{"team/app", "1.0", 400 * 24 * time.Hour, gc.ReasonTTL, 21 << 20, 0},
		{"team/app", "", 95 * 24 * time.Hour, gc.ReasonUntagged, 0, 0},
		{"team/platform/services/billing/frontend", "release-2025.11.3-rc1", 60 * 24 * time.Hour, gc.ReasonTTL,
			1023 << 20, 0},
		{strings.Repeat("deep/", 50) + "below", strings.Repeat("t", 128), 47 * time.Hour, gc.ReasonTTL, 16 << 30, 0},
		{"a", "b", time.Second, gc.ReasonTTL, 1, 0},
		{"ci/app", "build-7", time.Hour, gc.ReasonRule, 5 << 20, 2},
		{"team/app", "", time.Hour, gc.ReasonRule, 0, 1},
	} {
		name := i.repository + ":" + i.tag
		rep.Images = append(rep.Images, gc.ReportImage{Repository: i.repository, Tag: i.tag,
			Digest:     digest.FromString(name),
			LastAccess: stamp.Time(now.Add(-i.age)), Reason: i.reason, Rule: i.rule, UniqueBytes: i.bytes})
	}
	return rep
}

// TestTablesOfARemoval compares with testdata/gc; GOLDEN=write writes it.
func TestTablesOfARemoval(t *testing.T) {
	for _, width := range []int{80, 120, 0} {
		var out bytes.Buffer
		env := &environment{stdout: &out}
		if width > 0 {
			env.environ = []string{fmt.Sprintf("COLUMNS=%d", width)}
		}
		if err := printReport(env, removal(), len(removal().Images), nil); err != nil {
			t.Fatal(err)
		}
		table, _, _ := strings.Cut(out.String(), "\n\n") // the summary is for mails and logs too
		for _, line := range strings.Split(table, "\n") {
			if width > 0 && utf8.RuneCountInString(line) > width {
				t.Errorf("width %d: %q has %d columns", width, line, len(line))
			}
		}
		golden(t, fmt.Sprintf("gc/table-%d.txt", width), out.String())
	}
	var out bytes.Buffer
	if err := imageTable(removal(), removal().Images).Write(&out, 80, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "gc/coloured.txt", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestTheSummaryIsOneSentence(t *testing.T) {
	planned, one, nothing := removal(), removal(), removal()
	planned.DryRun = true
	one.Images, one.Removed, one.FreedBytes, one.Remaining.Tags = one.Images[:1], gc.Counts{Tags: 1}, 0, 1
	nothing.Images, nothing.Removed, nothing.FreedBytes = nil, gc.Counts{}, 0
	namesOnly := one
	namesOnly.Images = make([]gc.ReportImage, namesOnly.Planned)
	unplanned, held, scanning := nothing, nothing, nothing
	unplanned.Planned, unplanned.PlannedBytes = 0, 0
	held.HeldBy, held.NothingBefore = gc.HeldByFileDates, stamp.Time(time.Time(held.StartedAt).Add(49*time.Hour))
	scanning.HeldBy = gc.HeldByScan
	for _, tt := range []struct {
		rep     gc.Report
		stopped error
		want    string
	}{
		{removal(), nil,
			"removed 7 images (1,234 blobs), 1 unfinished upload and freed 17 GiB; 12,345 tags (3.0 TiB) stay"},
		{planned, nil,
			"would remove 7 images (1,234 blobs), 1 unfinished upload and free 17 GiB; 12,345 tags (3.0 TiB) stay"},
		{one, nil, "removed 1 image and freed 0 B; 1 tag (3.0 TiB) stays"},
		{nothing, nil, "removed 0 images and freed 0 B; 12,345 tags (3.0 TiB) stay"},
		{one, fmt.Errorf("retire: %w", context.Canceled),
			"interrupted: removed 1 of 9 images, freed 0 B of 17 GiB. Run dcs gc again to continue"},
		{namesOnly, fmt.Errorf("retire: %w", context.Canceled),
			"interrupted: removed the names of 9 images, freed 0 B of 17 GiB. Run dcs gc again to continue"},
		{unplanned, context.Canceled, "interrupted while planning; nothing was removed. Run dcs gc again to continue"},
		{held, nil, "nothing can be removed before " +
			time.Time(held.NothingBefore).Local().Format("2006-01-02 15:04") +
			": existing images were imported with their file dates"},
		{scanning, nil, "nothing can be removed yet: the server has not finished scanning the disk"},
		{one, errors.New("disk full"),
			"failed: removed 1 of 9 images, freed 0 B of 17 GiB. Run dcs gc again to continue"},
	} {
		if got := totals(tt.rep, tt.stopped)[0]; got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestCronIsToldOnlyWhatHappened: cron sends a mail whenever something is printed.
func TestCronIsToldOnlyWhatHappened(t *testing.T) {
	var out bytes.Buffer
	env := &environment{stdout: &out}
	rep := removal()
	rep.Images, rep.Removed = nil, gc.Counts{}
	if err := printReport(env, rep, len(rep.Images), nil); err != nil || out.Len() > 0 || ui.Terminal(&out) {
		t.Errorf("nothing was removed: %q, %v", out.String(), err)
	}
	rep.Removed.Blobs = 2
	if err := printReport(env, rep, len(rep.Images), nil); err != nil ||
		out.String() != "removed 0 images (2 blobs) and freed 17 GiB; 12,345 tags (3.0 TiB) stay\n" {
		t.Errorf("blobs without an image were removed: %q, %v", out.String(), err)
	}
}

// TestABudgetThatIsNotMetIsTold below the summary, and on standard error where a dry run has none.
func TestABudgetThatIsNotMetIsTold(t *testing.T) {
	for _, tt := range []struct {
		e    gc.Eviction
		want string
	}{
		{gc.Eviction{Demand: policy.Demand{Size: 1}, Met: true}, ""},
		{gc.Eviction{Demand: policy.Demand{Size: 1}, Disk: policy.Disk{Used: 5 << 30}},
			"that is not enough for the budget: 5.0 GiB were used, and nothing more may go"},
		{gc.Eviction{Demand: policy.Demand{Free: 4 << 30, Reach: 3 << 30}, Vain: true, Freeable: 1 << 30},
			"min_free is out of reach: 3.0 GiB more would have to be free, and what may go takes 1.0 GiB at most; " +
				"no image goes for it"},
	} {
		rep := removal()
		rep.Eviction = tt.e
		if lines := totals(rep, nil); (tt.want != "") != slices.Contains(lines, tt.want) {
			t.Errorf("got %q, want %q", lines, tt.want)
		}
		var out, told bytes.Buffer
		rep.DryRun, rep.Images, rep.Removed = true, nil, gc.Counts{}
		err := printReport(&environment{stdout: &out, stderr: &told}, rep, 0, nil)
		if want := strings.TrimSpace("dcs: " + tt.want); err != nil || out.Len() > 0 ||
			tt.want != "" && told.String() != want+"\n" || tt.want == "" && told.Len() > 0 {
			t.Errorf("a dry run in a pipe: %q, %q, %v", out.String(), told.String(), err)
		}
	}
}
