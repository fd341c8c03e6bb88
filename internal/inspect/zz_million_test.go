package inspect

import (
	"database/sql"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"encoding/hex"
	"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
)

func TestZZMillion(t *testing.T) {
	path := os.Getenv("MILLION")
	if path == "" { t.Skip() }
	if _, err := os.Stat(path); err != nil {
		s, err := sqlite.Open(t.Context(), path, sqlite.Serve, time.Now)
		if err != nil { t.Fatal(err) }
		s.Close()
		db, _ := sql.Open("sqlite", path)
		tx, _ := db.Begin()
		pk := func(n string) []byte { b, _ := hex.DecodeString(digest.FromString(n).Encoded()); return append([]byte{1}, b...) }
		ex := func(q string, a ...any) { if _, err := tx.Exec(q, a...); err != nil { t.Fatal(err) } }
		now := time.Now().UnixMilli()
		for i := range 150000 {
			repo := fmt.Sprintf("team/app%d", i%500)
			at := now - int64(i)*10000
			m := pk(fmt.Sprint("m", i))
			ex("INSERT INTO blobs VALUES (?,?,1,1,?,?)", m, 1000, at, at)
			ex("INSERT INTO manifests VALUES (?,?,?,'',?,NULL,1000,1,1,0,?,?)", m, repo, ociManifest, pk(fmt.Sprint("l", i, 0)), at, at)
			for j := range 6 {
				l := pk(fmt.Sprint("l", i, j))
				if j == 5 { l = pk(fmt.Sprint("base", i%10)); 
					ex("INSERT OR IGNORE INTO blobs VALUES (?,?,1,1,?,?)", l, 5000, at, at)
				ex("INSERT OR IGNORE INTO layers VALUES (?,?,1,1,?,?)", l, repo, at, at)
				} else {
				ex("INSERT INTO blobs VALUES (?,?,1,1,?,?)", l, 5000, at, at)
				ex("INSERT INTO layers VALUES (?,?,1,1,?,?)", l, repo, at, at) }
				ex("INSERT OR IGNORE INTO refs VALUES (?,?)", m, l)
			}
			ex("INSERT INTO tags VALUES (?,?,?,?,?)", repo, fmt.Sprint("v", i), m, at, at)
		}
		tx.Commit(); db.Close()
	}
	s, err := sqlite.Open(t.Context(), path, sqlite.Look, time.Now)
	if err != nil { t.Fatal(err) }
	defer s.Close()
	for _, o := range []Options{{Limit: 50}, {Kind: Images, Limit: 50}, {Kind: Tags}, {}} {
		st := time.Now()
		if err := Write(t.Context(), s, policy, o, Output{To: io.Discard, Format: JSON}); err != nil { t.Fatal(err) }
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		t.Logf("%+v %s heap sys %d MB", o, time.Since(st), ms.HeapSys>>20)
	}
}
