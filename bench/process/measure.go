package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Usage is what a program cost from its beginning to its end.
type Usage struct {
	Wall time.Duration
	CPU  time.Duration // wait4's user and system time
	Peak int64         // wait4's largest resident set, in bytes; no less than some MiB, see Measure
}

// Verb is the argument by which a program hands itself over to Helper.
const Verb = "measure"

// Measure runs a program to its end. The kernel counts as a child's peak what its parent had when it was forked, so a
// small process stands between: this program itself, which must call Helper when its first argument is Verb.
func Measure(stdout io.Writer, name string, args ...string) (u Usage, err error) {
	self, err := os.Executable()
	if err != nil {
		return u, err
	}
	said, says, err := os.Pipe()
	if err != nil {
		return u, err
	}
	defer said.Close()
	cmd := exec.Command(self, append([]string{Verb, name}, args...)...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdout, &errs, []*os.File{says}
	err = cmd.Run()
	says.Close()
	if err != nil {
		return u, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return u, json.NewDecoder(said).Decode(&u)
}

// Helper runs the program that the arguments name, tells Measure what it cost, and returns its exit code.
func Helper(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := time.Now()
	err := cmd.Run()
	u := Usage{Wall: time.Since(start)}
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return failed.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rusage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.CPU, u.Peak = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), rusage.Maxrss<<10
	if err := json.NewEncoder(os.NewFile(3, "usage")).Encode(u); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
