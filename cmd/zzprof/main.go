package main
import ("context";"fmt";"os";"time";"runtime/pprof"
"github.com/jc-lab/docker-cache-server/internal/index"
"github.com/jc-lab/docker-cache-server/internal/index/sqlite"
)
func main(){
 s, err := sqlite.Open(context.Background(), os.Args[1]+"/.metadata/index.db", sqlite.Look, time.Now)
 if err!=nil {panic(err)}
 f,_ := os.Create("/tmp/lst/cpu.prof"); pprof.StartCPUProfile(f)
 st:=time.Now(); n:=0
 err = s.View(context.Background(), func(r index.Reader) error { return r.ListBlobs(0, func(b index.Blob) error { n++; return nil }) })
 fmt.Println(n, err, time.Since(st)); pprof.StopCPUProfile()
}
