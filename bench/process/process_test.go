package process

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Verb {
		os.Exit(Helper(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestTimesOfAProgramWithAnOddName(t *testing.T) {
	const stat = "812 (a) b (c) R 1 812 812 0 -1 4194304 100 0 0 0 150 25 7 9 20 0 5 0 123 1 2 3\n"
	cpu, err := parseStat(stat)
	if err != nil || cpu != 1750*time.Millisecond {
		t.Errorf("%v, %v; want 1.75s, without what the children had", cpu, err)
	}
	for _, bad := range []string{"", "812 (dcs", "812 (dcs) R 1 2 3",
		"812 (dcs) R 1 812 812 0 -1 4194304 100 0 0 0 x 25 7 9"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q): no error", bad)
		}
	}
}

func TestPeakOfAStatus(t *testing.T) {
	const status = "Name:\tVmHWM\nVmPeak:\t  900 kB\nVmHWM:\t   48 kB\nVmRSS:\t   40 kB\n"
	if n, err := parseStatus(status, "VmHWM"); err != nil || n != 48<<10 {
		t.Errorf("%d, %v; want %d", n, err, 48<<10)
	}
	if _, err := parseStatus("Name:\tkthreadd\n", "VmHWM"); err == nil {
		t.Error("a process without memory: no error")
	}
}

func TestAProcessIsWatchedAndStopped(t *testing.T) {
	p, err := Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if _, err := p.CPU(); err != nil {
		t.Error(err)
	}
	if peak, err := p.Peak(); err != nil || peak == 0 {
		t.Errorf("peak %d, %v", peak, err)
	}
	if code := p.Stop(); code != -1 {
		t.Errorf("exit code %d, want -1 of a signal", code)
	}
	if err := p.Await(time.Second, func() error { return os.ErrNotExist }); err == nil {
		t.Error("a process that ended is awaited")
	}
}

func TestMeasureIsNotChargedForItsParent(t *testing.T) {
	ballast := bytes.Repeat([]byte{1}, 256<<20)
	var out bytes.Buffer
	u, err := Measure(&out, "echo", "hello")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != "hello\n" || u.Peak <= 0 || u.Peak > int64(len(ballast))/2 || u.Wall <= 0 {
		t.Errorf("%+v after %q: the parent had %d", u, out.String(), len(ballast))
	}
	if _, err := Measure(&out, "false"); err == nil {
		t.Error("a program that fails: no error")
	}
}
