package inspect

import (
	"errors"
	"strings"
	"testing"

	"github.com/jc-lab/docker-cache-server/internal/inspect/inspecttest"
)

func TestParseReference(t *testing.T) {
	whole := inspecttest.Dgst("x").String()
	for text, want := range map[string]Reference{
		"app":                            {"app", "latest", ""},
		"team/app:1.0":                   {"team/app", "1.0", ""},
		"a/b/c_d/e-2":                    {"a/b/c_d/e-2", "latest", ""},
		"app@sha256:1a2b3c4d5e6f":        {"app", "", "sha256:1a2b3c4d5e6f"},
		"app@1a2b3c4d5e6f":               {"app", "", "sha256:1a2b3c4d5e6f"},
		"app@" + whole:                   {"app", "", whole},
		"app:1.0@" + whole:               {"app", "", whole}, // as docker: the digest decides
		"127.0.0.1:5000/team/app":        {"127.0.0.1:5000/team/app", "latest", ""},
		"127.0.0.1:5000/app:1@sha256:1a": {"127.0.0.1:5000/app", "", "sha256:1a"},
		"docker.io/library/alpine:3":     {"docker.io/library/alpine", "3", ""},
		"sha256:1a2b3c4d5e6f":            {"sha256", "1a2b3c4d5e6f", ""},
	} {
		if got, err := ParseReference(text); got != want || err != nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ":", "@", "App", "app:", "app:a b", "app:.x", "a//b", "/app", "app/",
		"../app/x:1", "app@", "app@1a2b", "app@xyz",
		"app@sha256:", "app@sha256:XY", "app@md5:1a", "app@sha256:1a@sha256:1a", "*", "team/*", "127.0.0.1:5000"} {
		ref, err := ParseReference(text)
		var wrong *ReferenceError
		if text == "127.0.0.1:5000" {
			if err != nil || ref.Repository != "127.0.0.1" { // may be a repository and a tag
				t.Errorf("%s: %+v, %v", text, ref, err)
			}
			continue
		}
		if !errors.As(err, &wrong) || wrong.Try == "" || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %+v, %v", text, ref, err)
		}
	}
}

func TestNearest(t *testing.T) {
	names := strings.Fields("team/app team/api lib/core app-store v1 v2")
	for name, want := range map[string]string{"team/ap": "team/api team/app", "app": "team/app", "x/core": "lib/core",
		"v9": "v1 v2", "something": ""} {
		if got := strings.Join(nearestOf(name, names), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
