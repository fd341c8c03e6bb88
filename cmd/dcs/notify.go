package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// serviceManager is told how dcs serve is doing, if NOTIFY_SOCKET names one: systemd's Type=notify.
//
// There is no watchdog. What would have to be asked is whether the index answers, and a server whose disk
// is full or slow must not be killed for that.
type serviceManager struct {
	log *logrus.Logger

	mu        sync.Mutex // guards the rest; held over the sending of a datagram, which keeps their order
	accepting bool
	compared  bool
}

func newServiceManager(log *logrus.Logger) *serviceManager { return &serviceManager{log: log} }

// opening is all there is to see when a start takes long.
func (m *serviceManager) opening(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tellLocked("STATUS=opening " + dir)
}

// ready says that the listeners accept; what depends on this service may start.
func (m *serviceManager) ready() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepting = true
	m.tellLocked(daemon.SdNotifyReady, m.statusLocked())
}

// gate says whether anything may expire.
func (m *serviceManager) gate(open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compared = open
	if m.accepting {
		m.tellLocked(m.statusLocked())
	}
}

// closing is what a stop may take after the last transfer; far more than it does.
const closing = 30 * time.Second

// stopping asks for the time that transfers in flight have: TimeoutStopSec does not know server.drain_timeout.
func (m *serviceManager) stopping(drain time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepting = false
	m.tellLocked(daemon.SdNotifyStopping, "STATUS=stopping: transfers in flight may finish",
		fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (drain+closing).Microseconds()))
}

func (m *serviceManager) statusLocked() string {
	if m.compared {
		return "STATUS=serving"
	}
	return "STATUS=serving; comparing the index with the disk, nothing expires before that is done"
}

func (m *serviceManager) tellLocked(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		m.log.WithError(err).Warn("cannot tell the service manager how the server is doing")
	}
}
