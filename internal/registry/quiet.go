package registry

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// quiet gives distribution a logger. Its own default is logrus's global one, which belongs to the
// program that embeds us; and it logs every request twice and every 404 as an error. So its lines are
// shown at debug level only: what an operator needs to know, the seam and the driver log themselves.
type quiet struct{ entry *logrus.Entry }

func newQuiet(log *logrus.Logger) quiet {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	if log.IsLevelEnabled(logrus.DebugLevel) {
		l = log
	}
	return quiet{l.WithField("component", "distribution")}
}

// context returns a context in which distribution finds the logger.
func (q quiet) context(ctx context.Context) context.Context {
	return loggingContext{ctx, q.entry}
}

// loggingContext answers distribution's question for its logger. The key is of a type internal to
// distribution (dcontext.loggerKey), so it is recognized by name when it first comes by, during NewApp,
// and then by being equal.
type loggingContext struct {
	context.Context
	entry *logrus.Entry
}

var loggerKey atomic.Value

func (c loggingContext) Value(key any) any {
	known := loggerKey.Load()
	if known == nil && fmt.Sprintf("%T", key) == "dcontext.loggerKey" {
		loggerKey.Store(key)
		known = key
	}
	if known != nil && key == known {
		return c.entry
	}
	return c.Context.Value(key)
}
