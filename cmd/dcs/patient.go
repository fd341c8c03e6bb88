package main

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// patientLines is how many lines of the log wait for their reader: about a megabyte.
const patientLines = 4096

// patient is a writer between the log of a server and its reader: a pipe, a journal, a file on a full disk. A reader
// that is slow or gone neither ends the server nor delays a request. Lines for which there is no room are dropped, and
// their number is logged once lines are written again.
type patient struct {
	to    io.Writer
	lines chan line
	lost  atomic.Int64
}

// line is one line of the log, or its end.
type line struct {
	text []byte
	end  chan<- struct{} // not nil at the end: closed when all lines before it are written
}

// newPatient puts a patient before the output of a logger. Its close must be called.
func newPatient(log *logrus.Logger) *patient {
	p := &patient{to: log.Out, lines: make(chan line, patientLines)}
	log.SetOutput(p)
	go p.deliver(log)
	return p
}

// Write implements io.Writer. It never fails and never waits.
func (p *patient) Write(text []byte) (int, error) {
	select {
	case p.lines <- line{text: bytes.Clone(text)}:
	default:
		p.lost.Add(1)
	}
	return len(text), nil
}

// deliver writes the lines until close. A line that cannot be written is lost, like one for which there was no room.
func (p *patient) deliver(log *logrus.Logger) {
	for l := range p.lines {
		if l.end != nil {
			close(l.end)
			return
		}
		if _, err := p.to.Write(l.text); err != nil {
			p.lost.Add(1)
		} else if n := p.lost.Swap(0); n > 0 {
			log.WithField("lines", n).Warn("the log could not be written for a while; lines are missing")
		}
	}
}

// close waits until all lines are written, but no longer than longest.
func (p *patient) close(longest time.Duration) {
	written := make(chan struct{})
	late := time.After(longest)
	select {
	case p.lines <- line{end: written}:
	case <-late:
		return
	}
	select {
	case <-written:
	case <-late:
	}
}
