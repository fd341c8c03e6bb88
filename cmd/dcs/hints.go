package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/jc-lab/docker-cache-server/internal/gc"
	"github.com/jc-lab/docker-cache-server/internal/index"
	"github.com/jc-lab/docker-cache-server/internal/inspect"
	"github.com/jc-lab/docker-cache-server/internal/pin"
	"github.com/jc-lab/docker-cache-server/internal/serve"
	"github.com/jc-lab/docker-cache-server/internal/store"
	"github.com/jc-lab/docker-cache-server/internal/tree"
	"github.com/jc-lab/docker-cache-server/pkg/config"
)

// hint returns what the operator can do about an error, or "". Packages return errors that say what is wrong, with the
// values that matter as fields; only here is it said which command or flag helps.
func hint(err error) string {
	if h := hintForType(err); h != "" {
		return h
	}
	switch {
	case errors.Is(err, index.ErrCorrupt):
		return "start dcs serve: it puts the file aside and rebuilds the index from disk"
	case errors.Is(err, index.ErrFull):
		return "make some room on the disk; unfinished uploads are removed first"
	case errors.Is(err, fs.ErrPermission):
		return "run it as the user that owns the data directory, or as root"
	case errors.Is(err, index.ErrOlder):
		return "restart dcs serve with this version: it migrates the index, and so does dcs gc where no server runs"
	case errors.Is(err, index.ErrNewer):
		return "use the version of dcs that wrote it, or a newer one"
	}
	return ""
}

// hintForType looks for an error whose type has a hint. The hint for a cause is more precise than that for what it made
// fail.
func hintForType(err error) string {
	if e, ok := err.(*tree.ElsewhereError); ok { // its cause is a lock, which would be the wrong thing to mend
		return fmt.Sprintf("name %[1]s; or give the copy an index of its own, which is made from its tree: "+
			"rm %[2]s/.metadata/lock %[2]s/.metadata/gc.lock %[2]s/.metadata/index.db*",
			e.Holder.Directory, e.Directory)
	}
	var causes []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		causes = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		causes = e.Unwrap()
	}
	for _, cause := range causes {
		if h := hintForType(cause); h != "" {
			return h
		}
	}
	switch e := err.(type) {
	case *hintedError:
		return e.hint
	case *usageError:
		return e.hint
	case *problemsError:
		return e.hint
	case *config.Error:
		return e.Hint()
	case *serve.NoUsersError:
		return fmt.Sprintf("add one (dcs users add NAME --auth.htpasswd %s), "+
			"or serve without login: --auth.enabled=false", e.Htpasswd)
	case *serve.CertificateError:
		return "server.tls.certificate and server.tls.key name PEM files that dcs can read and that belong together"
	case *serve.ListenError:
		return hintForListening(e)
	case *store.DirectoryError:
		return hintForDirectory(e)
	case *tree.NoStoreError:
		return "name the directory of the server: --storage.directory DIR"
	case *tree.LockedError:
		return "stop that server, or give this one another --storage.directory"
	case *tree.FileSystemError:
		return "mount one file system for the whole data directory, or choose another one: --storage.directory DIR"
	case *tree.SymlinksError:
		return e.Refused[0].Remedy
	case *store.GraceError:
		return "leave --grace out, or give at least " + config.FormatDuration(e.Owed)
	case *store.PolicyError:
		return "name the ttl (--ttl 30d) or a configuration (--config FILE), or start the server, which writes it again"
	case *store.WrongIndexError:
		return "try again in a few seconds: the server opens the index again and rebuilds it from disk"
	case *store.BarredError:
		return e.Bar.Hint
	case *pin.FileError:
		return pin.Remedy
	case *gc.UnreadError:
		return "dcs inspect --check names what cannot be read; check its permissions and the disk"
	case *inspect.GoneError:
		return becameOf(e)
	case *inspect.NotFoundError:
		return e.Try
	case *inspect.ReferenceError:
		return e.Try
	case *inspect.SortError:
		return "make room in " + os.TempDir() + ", name another directory in TMPDIR, or ask for fewer rows with --limit"
	}
	return ""
}

// hintForListening names the flag to change, and the reason if the system gives one.
func hintForListening(e *serve.ListenError) string {
	another := "choose another --server.port (or --server.address)"
	if e.Key == "debug.address" {
		another = "choose another --debug.address, or turn it off: --debug.address ''"
	}
	switch {
	case errors.Is(e.Err, syscall.EACCES):
		return "only root and processes with CAP_NET_BIND_SERVICE may listen on low ports; " + another
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "stop what listens there, or " + another
	}
	return another
}

// hintForDirectory is for a directory whose error has no more precise hint.
func hintForDirectory(e *store.DirectoryError) string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("make it writable for the user that runs dcs (chown -R USER %s), "+
			"or choose another one: --storage.directory DIR", e.Directory)
	}
	return "choose another directory: --storage.directory DIR"
}

// hintedError is an error of a command that knows what the operator can do about it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// hintHook adds a hint to the lines of a log that tell of an error.
type hintHook struct{}

// Levels implements logrus.Hook.
func (hintHook) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

// Fire implements logrus.Hook.
func (hintHook) Fire(line *logrus.Entry) error {
	if err, ok := line.Data[logrus.ErrorKey].(error); ok {
		if h := hintForType(err); h != "" {
			line.Data["hint"] = h
		}
	}
	return nil
}
