package serve

import (
	"runtime"
	"runtime/debug"
)

// module is what this code is called, also in a program that embeds it.
const module = "github.com/jc-lab/docker-cache-server"

// build is what is known about this code.
type build struct{ version, revision, goversion string }

// buildOf reads what the go command wrote into the program.
func buildOf() build {
	b := build{version: "(devel)", goversion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Path != module {
		for _, dep := range info.Deps {
			if dep.Path == module {
				b.version = dep.Version
			}
		}
		return b
	}
	if info.Main.Version != "" {
		b.version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.revision = s.Value
		}
	}
	return b
}
