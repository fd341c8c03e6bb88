package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// newVersionCommand makes dcs version. It works without a configuration and without a store.
func newVersionCommand(env *environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it was built from",
		Long: `Print the version, and what it was built from: the commit and its date, whether
the sources were modified, the version of Go, the platform. What is not known is
left out, or empty in JSON.

EXIT STATUS
  0  done
  1  failed
  2  bad command line`,
		Example: `  dcs version
  dcs version --format json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf("format", format, "text", "json"); err != nil {
				return err
			}
			info, _ := debug.ReadBuildInfo()
			b := newBuild(info)
			if format == "json" {
				return json.NewEncoder(env.stdout).Encode(b)
			}
			_, err := fmt.Fprintln(env.stdout, b)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "output format: `text|json`")
	return cmd
}

// build describes how a binary was built.
type build struct {
	Version  string `json:"version"` // of the module, or (devel)
	Commit   string `json:"commit"`
	Time     string `json:"time"` // of the commit
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// newBuild reads what the go command wrote into the binary. info is nil without module mode; without a repository there
// is no commit.
func newBuild(info *debug.BuildInfo) build {
	b := build{Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info == nil {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String returns one line: dcs v1.2.3 (commit abc1234, 2026-11-24, modified) go1.26.8 linux/amd64.
func (b build) String() string {
	var from []string
	if b.Commit != "" {
		from = append(from, "commit "+b.Commit[:min(7, len(b.Commit))])
	}
	if day, _, _ := strings.Cut(b.Time, "T"); day != "" {
		from = append(from, day)
	}
	if b.Modified {
		from = append(from, "modified")
	}
	words := []string{"dcs", b.Version, "(" + strings.Join(from, ", ") + ")", b.Go, b.OS + "/" + b.Arch}
	if len(from) == 0 {
		words = append(words[:2], words[3:]...)
	}
	return strings.Join(words, " ")
}
