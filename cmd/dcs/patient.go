package main

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// patientLines is how many lines of the log wait for whoever reads it. A megabyte or so.
const patientLines = 4096

// patient stands between the log of a server and whoever reads it: a pipe, a journal, a file on a full disk. A reader
// that stops to read, or goes away, neither ends the server nor holds up a request. Lines for which there is no room
// are dropped, and counted once lines arrive again.
type patient struct {
	to    io.Writer
	lines chan line
	lost  atomic.Int64
}

// line is one line of the log, or the end of it.
type line struct {
	text []byte
	end  chan<- struct{}
}

// newPatient takes the place of a logger's output.
func newPatient(log *logrus.Logger) *patient {
	p := &patient{to: log.Out, lines: make(chan line, patientLines)}
	log.SetOutput(p)
	go p.deliver(log)
	return p
}

// Write implements io.Writer. It neither fails nor waits.
func (p *patient) Write(text []byte) (int, error) {
	select {
	case p.lines <- line{text: bytes.Clone(text)}:
	default:
		p.lost.Add(1)
	}
	return len(text), nil
}

func (p *patient) deliver(log *logrus.Logger) {
	for l := range p.lines {
		if l.end != nil {
			close(l.end)
			return
		}
		if _, err := p.to.Write(l.text); err != nil {
			p.lost.Add(1)
		} else if n := p.lost.Swap(0); n > 0 {
			log.WithField("lines", n).Warn("the log could not be written for a while; lines were lost")
		}
	}
}

// close waits for the lines to be written, but not longer than that for who does not read them.
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
