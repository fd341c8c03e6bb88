package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain puts this program on the PATH of the tests, so that they run real processes.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		if len(kv) > 4 && kv[:4] == "DCS_" {
			panic("unset " + kv + " to run the tests")
		}
	}
	testscript.Main(m, map[string]func(){"dcs": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true})
}
