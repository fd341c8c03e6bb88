package torture

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	duration = flag.Duration("duration", 4*time.Second, "how long the storms rage, together")
	seed     = flag.Uint64("seed", 0, "where randomness comes from; 0: from the clock")
)

// storms is how many tests share the duration.
const storms = 3

// dcsBinary is the program under test, built from this tree; mortalBinary the same with failpoints.
var dcsBinary, mortalBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dcs-torture-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	dcsBinary, mortalBinary = filepath.Join(dir, "dcs"), filepath.Join(dir, "mortal")
	for binary, flags := range map[string][]string{dcsBinary: nil, mortalBinary: {"-tags", "failpoints"}} {
		args := append([]string{"build", "-o", binary}, flags...)
		if raceDetector { // then the program is watched as well
			args = append(args, "-race", "-gcflags=modernc.org/...=-d=checkptr=0")
		}
		if out, err := exec.Command("go", append(args, "../cmd/dcs")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}
