package journaled

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestADiskHasAJournalAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	d, err := Make(dir)
	if err != nil {
		nothingIn(t, dir)
		t.Skip("no disk on this machine: ", err)
	}
	device := mounted(t, d.Dir)
	if journal, err := filepath.Glob("/proc/fs/jbd2/" + device + "-*"); err != nil || len(journal) != 1 {
		t.Errorf("the journals of %q: %v, %v", device, journal, err)
	}
	if got := attached(t, dir); len(got) != 1 || got[0] != device {
		t.Errorf("devices %v, want %s", got, device)
	}
	if err := os.WriteFile(filepath.Join(d.Dir, "file"), []byte("bytes"), 0o644); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	nothingIn(t, dir)
	if device := mounted(t, d.Dir); device != "" {
		t.Errorf("%s is mounted", device)
	}
}

func TestWithoutItsToolsThereIsNoDisk(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	d, err := Make(dir)
	if d != nil || err == nil || !strings.Contains(err.Error(), "mkfs.ext4") {
		t.Errorf("%+v, %v", d, err)
	}
	nothingIn(t, dir)
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// The kernel detaches a device once no program has it open: another one may be looking at all of them.
	devices := attached(t, dir)
	for deadline := time.Now().Add(time.Minute); len(devices) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		devices = attached(t, dir)
	}
	if len(devices) > 0 {
		t.Errorf("attached: %v", devices)
	}
}

// mounted returns the device of a directory that is mounted, or nothing.
func mounted(t *testing.T, dir string) (device string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == dir {
			device = filepath.Base(f[0])
		}
	}
	return device
}

// attached returns the loop devices whose files are below a directory.
func attached(t *testing.T, dir string) (devices []string) {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range backing {
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), dir+"/") {
			devices = append(devices, filepath.Base(filepath.Dir(filepath.Dir(file))))
		}
	}
	return devices
}
