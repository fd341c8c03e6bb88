package serve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

func quietLog() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func numbered(i int) call { return call{digest: digest.FromString(fmt.Sprint(i)), size: int64(i)} }

func TestEventsAreToldInOrderEachOnce(t *testing.T) {
	var told []int64
	e := newCallbacks(func(ev call) { told = append(told, ev.size) }, quietLog(), maxCalls)
	go e.deliver()
	var want []int64
	for i := range 10_000 {
		e.add(numbered(i))
		want = append(want, int64(i))
	}
	if err := e.finish(within(t, time.Minute)); err != nil || !slices.Equal(told, want) {
		t.Errorf("told %d events of 10000, %v", len(told), err)
	}
	e.add(numbered(1)) // of a request that outlived the server: nothing happens
}

func TestEventsBeyondTheLimitAreLostAndCounted(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	proceed := make(chan struct{})
	var told []int64
	e := newCallbacks(func(ev call) { <-proceed; told = append(told, ev.size) }, log, 4)
	for i := range 10 { // nobody delivers yet: four wait, six are lost
		e.add(numbered(i))
	}
	go e.deliver()
	for range 2 { // two are told, or one is told and one is in hand
		proceed <- struct{}{}
	}
	e.add(numbered(10)) // half of the queue is free again
	close(proceed)
	if err := e.finish(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if want := []int64{0, 1, 2, 3, 10}; !slices.Equal(told, want) {
		t.Errorf("told %v; want %v", told, want)
	}
	if n := strings.Count(out.String(), "does not keep up"); n != 1 || !strings.Contains(out.String(), "lost=6") {
		t.Errorf("the log does not tell once that six were lost:\n%s", &out)
	}
}

func TestAnObserverThatPanicsIsLoggedAndTheNextCallIsMade(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	var told []int64
	e := newCallbacks(func(ev call) {
		if ev.size == 1 {
			panic("observer is broken")
		}
		told = append(told, ev.size)
	}, log, maxCalls)
	go e.deliver()
	for i := range 3 {
		e.add(numbered(i))
	}
	if err := e.finish(within(t, time.Minute)); err != nil || !slices.Equal(told, []int64{0, 2}) {
		t.Errorf("told %v, %v; want all but the one that panicked", told, err)
	}
	if !strings.Contains(out.String(), "level=error") || !strings.Contains(out.String(), "observer is broken") ||
		!strings.Contains(out.String(), "callbacks_test.go") {
		t.Errorf("the log does not tell what panicked, and where:\n%s", &out)
	}
}

func TestAnObserverThatDoesNotReturnIsGivenUp(t *testing.T) {
	told, proceed := 0, make(chan struct{})
	e := newCallbacks(func(call) { told++; <-proceed }, quietLog(), maxCalls)
	go e.deliver()
	for i := range 3 {
		e.add(numbered(i))
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		waiting := len(e.queue)
		e.mu.Unlock()
		if waiting == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first event is not told")
		}
	}
	if err := e.finish(within(t, time.Millisecond)); err == nil || !strings.Contains(err.Error(), "2 more events") {
		t.Errorf("finish = %v; want to hear of two events", err)
	}
	close(proceed)
	<-e.done
	if told != 1 {
		t.Errorf("%d events were told after finish", told-1)
	}
}

func TestOnlyAnObserverIsCalling(t *testing.T) {
	var inside, beside bool
	var e *callbacks
	e = newCallbacks(func(call) {
		inside = e.calling()
		done := make(chan struct{})
		go func() { defer close(done); beside = e.calling() }()
		<-done
	}, quietLog(), maxCalls)
	if e.calling() {
		t.Error("calling before anybody is told")
	}
	go e.deliver()
	e.add(numbered(0))
	if err := e.finish(within(t, time.Minute)); err != nil || !inside || beside || e.calling() {
		t.Errorf("calling: in the observer %t, in its goroutine %t, outside %t; %v", inside, beside, e.calling(), err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
