package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// pair is a connection of a listener, and its client's end.
func pair(t *testing.T) (*conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c, err := listener{l, newDoor(1)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*conn), client
}

// TestWhatIsReadAheadIsWhatWasSent, however much is sent and asked for at once.
func TestWhatIsReadAheadIsWhatWasSent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sent := make([]byte, 8*readAheadSize+12345)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(sent) // never fails
	c, client := pair(t)
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(1+random.IntN(2*readAheadSize), len(rest))
			_, _ = client.Write(rest[:n]) // the reader misses what is not written
			rest = rest[n:]
		}
		client.Close()
	}()
	var got bytes.Buffer
	ahead := 0
	for sizes := rand.New(rand.NewPCG(3, 4)); ; {
		p := make([]byte, []int{1, 4096, 28 << 10, 100_000}[sizes.IntN(4)])
		n, err := c.Read(p)
		got.Write(p[:n])
		ahead = max(ahead, len(c.ahead))
		if err == io.EOF {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("%d other bytes; %d were sent", got.Len(), len(sent))
	}
	if ahead == 0 || c.buf != nil {
		t.Errorf("at most %d bytes were read ahead; a buffer is left: %v", ahead, c.buf != nil)
	}
}

// TestAClientThatPausesHoldsNoBuffer, and its deadline holds.
func TestAClientThatPausesHoldsNoBuffer(t *testing.T) {
	c, client := pair(t)
	if _, err := client.Write(make([]byte, 2*readAheadFrom)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, readAheadFrom)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, readAheadFrom)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 4096)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || c.buf != nil {
		t.Errorf("%d bytes, %v; a buffer is held: %v", n, err, c.buf != nil)
	}
}

// TestWhoIsNotReadKeepsNoBufferFromOthers: a buffer is given up with its connection, and there are not many.
func TestWhoIsNotReadKeepsNoBufferFromOthers(t *testing.T) {
	before := len(readAheads)
	var ahead int
	var all []*conn
	for range cap(readAheads) + 3 {
		c, client := pair(t)
		if _, err := client.Write(make([]byte, 2*readAheadFrom)); err != nil { // some of it is never read
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, readAheadFrom)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if c.buf != nil {
			ahead++
		}
		all = append(all, c)
	}
	if ahead == 0 || ahead > cap(readAheads)-before {
		t.Errorf("%d connections have read ahead; at most %d may", ahead, cap(readAheads))
	}
	for _, c := range all {
		c.Close()
		c.Close()
	}
	if len(readAheads) != before {
		t.Errorf("%d buffers are counted", len(readAheads))
	}
}

// TestTheDoorLetsInAsManyAsThereIsRoomFor: who waits for a request gives way to who comes; nobody in use does.
func TestTheDoorLetsInAsManyAsThereIsRoomFor(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const room = 3
	busy, done := make(chan struct{}), make(chan struct{})
	d := newDoor(room)
	srv := &http.Server{ConnState: d.state, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				busy <- struct{}{}
				<-done
			}
		})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(listener{inner, d}) }()
	ask := func(path string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err == nil {
			err = c.SetDeadline(time.Now().Add(time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		return c
	}
	for range 3 * room { // each keeps its connection
		if line := firstLine(t, ask("/")); line != "HTTP/1.1 200 OK" {
			t.Fatal(line)
		}
		if d.count() > room {
			t.Fatalf("%d are in", d.count())
		}
	}
	var all []net.Conn
	for range room {
		all = append(all, ask("/busy"))
		<-busy
	}
	outside := ask("/")
	if err := outside.SetReadDeadline(time.Now().Add(2 * settle)); err != nil {
		t.Fatal(err)
	}
	if n, err := outside.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("beside %d that are busy: %d bytes, %v; want it to wait", room, n, err)
	}
	if err := outside.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	close(done)
	for _, c := range append(all, outside) {
		if line := firstLine(t, c); line != "HTTP/1.1 200 OK" {
			t.Error(line)
		}
	}
	for range room + 1 { // so that accepting waits at the door
		ask("/")
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in
}

// tellingListener says when somebody waits for its next client.
type tellingListener struct {
	net.Listener
	inside chan<- struct{}
}

func (l tellingListener) Accept() (net.Conn, error) {
	l.inside <- struct{}{}
	return l.Listener.Accept()
}

// TestEachListenerSeesThatThereIsRoom: a place that becomes free is for who comes first, at whatever address of the
// server; a listener to which nobody comes does not keep it.
func TestEachListenerSeesThatThereIsRoom(t *testing.T) {
	d := newDoor(1)
	busy, done := make(chan struct{}), make(chan struct{})
	srv := &http.Server{ConnState: d.state, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/busy" {
				busy <- struct{}{}
				<-done
			}
		})}
	srv.SetKeepAlivesEnabled(false)
	var addresses []string
	inside := make(chan struct{}, 100)
	ended := make(chan error)
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		go func() { ended <- srv.Serve(listener{tellingListener{l, inside}, d}) }()
	}
	for range addresses { // each has passed the door, which is open
		<-inside
	}
	ask := func(address, path string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err == nil {
			err = c.SetDeadline(time.Now().Add(time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		return c
	}
	// After one connection each, all the listeners wait at the door.
	for _, address := range addresses {
		c := ask(address, "/busy")
		<-busy
		t.Cleanup(func() { c.Close() })
	}
	close(done)
	for round := range 3 {
		for _, address := range addresses { // to the others nobody comes
			if line := firstLine(t, ask(address, "/")); line != "HTTP/1.1 200 OK" {
				t.Fatalf("round %d: %s", round, line)
			}
		}
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	for range addresses {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}
