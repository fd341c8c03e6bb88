package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersionSaysWhatIsKnown(t *testing.T) {
	vcs := func(settings ...string) (all []debug.BuildSetting) {
		for i := 0; i < len(settings); i += 2 {
			all = append(all, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return all
	}
	on := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	const revision, at = "593c11c0123456789abcdef", "2026-11-24T03:55:00Z"
	for _, tt := range []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"a release from a repository", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"},
			Settings: vcs("vcs.revision", revision, "vcs.time", at, "vcs.modified", "false")},
			"dcs v1.2.3 (commit 593c11c, 2026-11-24)" + on},
		{"sources that were changed", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"},
			Settings: vcs("vcs.revision", revision, "vcs.time", at, "vcs.modified", "true")},
			"dcs (devel) (commit 593c11c, 2026-11-24, modified)" + on},
		{"go install of a version has no commit", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}},
			"dcs v1.2.3" + on},
		{"a short commit without a date", &debug.BuildInfo{Settings: vcs("vcs.revision", "abc")},
			"dcs (devel) (commit abc)" + on},
		{"nothing at all", nil, "dcs (devel)" + on},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := newBuild(tt.info).String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
