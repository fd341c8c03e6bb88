package serve

import (
	"runtime"
	"runtime/debug"

	"github.com/jc-lab/docker-cache-server/internal/metrics"
)

// module is the path of this module, by which a program that embeds it lists it.
const module = "github.com/jc-lab/docker-cache-server"

// buildOf reads what the go command wrote into the program.
func buildOf() metrics.Build {
	b := metrics.Build{Version: "(devel)", GoVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Path != module {
		for _, dep := range info.Deps {
			if dep.Path == module {
				b.Version = dep.Version
			}
		}
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}
