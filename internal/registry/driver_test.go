package registry

import (
	"context"
	"flag"
	"io"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/disk"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
	"github.com/jc-lab/docker-cache-server/internal/layout"
)

type fileInfo = storagedriver.FileInfo

// testDriverAt is the LRU driver on an empty data directory, under a clock.
func testDriverAt(t testing.TB, now func() time.Time) *driver {
	t.Helper()
	dir, err := layout.At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := disk.OpenTree(string(dir), dir.Temp(), dir.Trash())
	if err != nil {
		t.Fatal(err)
	}
	ix, err := sqlite.Open(context.Background(), dir.Index(), sqlite.Serve, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ix.Close(); err != nil {
			t.Error(err)
		}
	})
	log := logrus.New()
	log.SetOutput(io.Discard)
	return newDriver(Options{Dir: dir, Tree: tree, Index: ix, Log: log, Resolution: policy.Resolution})
}

// TestDistributionsOwnSuite runs what distribution wants of every storage driver, but for the test that
// writes 5 GB through the filesystem driver's own writer.
func TestDistributionsOwnSuite(t *testing.T) {
	if err := flag.Set("testify.m", "^Test(WriteRead([^L]|$)|WriteZ|[^W])"); err != nil {
		t.Fatal(err)
	}
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) { return testDriverAt(t, time.Now), nil }, false)
}
