package serve

import (
	"net"

	"github.com/jc-lab/docker-cache-server/internal/owner"
	"github.com/jc-lab/docker-cache-server/internal/tree"
)

// reach calls look, which reads a file that the operator named, with the rights for that: those of the process, or
// those of root when a process of root works as the owner of its data directory.
type reach func(path string, look func() error) error

func reachFrom(dir tree.Dir) reach {
	return func(path string, look func() error) error { return owner.Outside(string(dir), path, look) }
}

// listen opens a listener, as root if the process is root's: ports below 1024 need that.
func listen(network, address string) (l net.Listener, err error) {
	err = owner.AsRoot(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}
