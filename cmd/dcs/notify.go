package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// serviceManager tells systemd (Type=notify) about the state of dcs serve, if NOTIFY_SOCKET is set.
//
// There is no watchdog. It would have to ask whether the index answers, and a server must not be killed because its
// disk is full or slow.
type serviceManager struct {
	log *logrus.Logger

	mu        sync.Mutex // guards the rest; held while a datagram is sent, which keeps their order
	accepting bool
	compared  bool // the index matches the disk
}

// newServiceManager returns one that logs to log what it cannot send.
func newServiceManager(log *logrus.Logger) *serviceManager { return &serviceManager{log: log} }

// opening says that the store is being opened, which may take a while.
func (m *serviceManager) opening(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tellLocked("STATUS=opening " + dir)
}

// ready says that the server accepts connections, so units that depend on it may start.
func (m *serviceManager) ready() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepting = true
	m.tellLocked(daemon.SdNotifyReady, m.statusLocked())
}

// gate says whether the gate is open, that is, whether anything may be removed.
func (m *serviceManager) gate(open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compared = open
	if m.accepting {
		m.tellLocked(m.statusLocked())
	}
}

// closing is the time for a stop after the last transfer. It takes far less.
const closing = 30 * time.Second

// stopping asks for the time that running transfers get: systemd does not know server.drain_timeout.
func (m *serviceManager) stopping(drain time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepting = false
	m.tellLocked(daemon.SdNotifyStopping, "STATUS="+shuttingDown(drain),
		fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (drain+closing).Microseconds()))
}

// statusLocked is the line that systemctl status shows.
func (m *serviceManager) statusLocked() string {
	if m.compared {
		return "STATUS=serving"
	}
	return "STATUS=serving; scanning the disk, nothing is removed until that is done"
}

// tellLocked sends lines in one datagram. The server works without a service manager too, so an error is only logged.
func (m *serviceManager) tellLocked(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		m.log.WithError(err).Warn("cannot tell the service manager about the state of the server")
	}
}
