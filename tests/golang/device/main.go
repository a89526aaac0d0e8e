// A third-party device: it dials Homeport's relay as subprotocol `yamux` with hashicorp/yamux over gorilla/websocket, and
// serves on the session what the tests ask for. It is the oracle of the wire: nothing here knows Homeport's code.
//
// With -mode http, over Go's own HTTP server on the yamux session as a listener:
//
//	GET  /                 "hello from the Go device\n"
//	GET  /bytes/{n}        n bytes of the pattern
//	GET  /digest/{n}       the SHA-256 of those n bytes, in hexadecimal
//	POST /sha256           the SHA-256 of the body
//	GET  /reset            the stream is reset, with no answer
//	GET  /gate             holds the answer until /open is asked, and says how many were waiting at once
//	GET  /open?waiting=N   returns once N requests wait at the gate, and lets them all go
//	GET  /resets?at-least=N  returns once the other side has reset N streams: how many it was
//
// With -mode raw, each stream begins with a line that says what it does:
//
//	echo      every byte comes back as it comes; the device closes after the peer's half-close
//	digest    after the peer's half-close, the SHA-256 of all bytes before it, in hexadecimal, and the end
//	reset     the stream is reset at once
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"../wsconn"
)

type device struct {
	conn    *wsconn.Conn
	session *yamux.Session
	block   []byte

	mu      sync.Mutex
	changed *sync.Cond // `resets` or `waiting`
	resets  int
	waiting int
	gate    chan struct{}
}

func main() {
	relay := flag.String("relay", "", "URL of the relay's tunnel port, ws:// or wss://")
	tokenFile := flag.String("token-file", "", "file with the session token")
	mode := flag.String("mode", "http", "http or raw")
	ca := flag.String("ca", "", "PEM file of the authority to trust")
	window := flag.Uint("window", 256<<10, "largest receive window, bytes")
	flag.Parse()
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsconn.Dial(*relay, strings.TrimSpace(string(token)), *ca)
	if err != nil {
		log.Fatal(err)
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = uint32(*window)
	session, err := yamux.Client(conn, config)
	if err != nil {
		log.Fatal(err)
	}
	d := &device{conn: conn, session: session, block: make([]byte, 1<<20), gate: make(chan struct{})}
	d.changed = sync.NewCond(&d.mu)
	rand.New(rand.NewSource(1)).Read(d.block)
	os.Stdout.WriteString("{\"connected\": true}\n")
	if *mode == "raw" {
		err = d.serveRaw()
	} else {
		err = d.serveHTTP()
	}
	log.Printf("the session ended: %v", err)
}

// pattern reads n bytes: one pseudo-random block of a MiB, repeated.
func (d *device) pattern(n int64) io.Reader {
	return &io.LimitedReader{R: &repeat{block: d.block}, N: n}
}

type repeat struct {
	block []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// watch counts a stream that the other side reset. Go's HTTP server reads in the background while a handler runs, so
// it is the connection that sees it.
type watch struct {
	*yamux.Stream
	device *device
	once   sync.Once
}

func (w *watch) note(n int, err error) (int, error) {
	if errors.Is(err, yamux.ErrConnectionReset) {
		w.once.Do(func() {
			w.device.mu.Lock()
			w.device.resets++
			w.device.changed.Broadcast()
			w.device.mu.Unlock()
		})
	}
	return n, err
}

func (w *watch) Read(p []byte) (int, error)  { return w.note(w.Stream.Read(p)) }
func (w *watch) Write(p []byte) (int, error) { return w.note(w.Stream.Write(p)) }

// Accept, Close and Addr make the device a net.Listener.
func (d *device) Accept() (net.Conn, error) {
	stream, err := d.session.AcceptStream()
	if err != nil {
		return nil, err
	}
	return &watch{Stream: stream, device: d}, nil
}

func (d *device) Close() error   { return d.session.Close() }
func (d *device) Addr() net.Addr { return d.session.Addr() }

func (d *device) serveHTTP() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, "hello from the Go device\n")
	})
	mux.HandleFunc("/bytes/", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/bytes/"), 10, 63)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.Copy(w, d.pattern(n))
	})
	mux.HandleFunc("/digest/", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/digest/"), 10, 63)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, digest(d.pattern(n)))
	})
	mux.HandleFunc("/sha256", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, digest(r.Body)) })
	mux.HandleFunc("/reset", d.reset)
	mux.HandleFunc("/gate", d.wait)
	mux.HandleFunc("/open", d.open)
	mux.HandleFunc("/resets", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, d.await(r, "at-least", func() int { return d.resets }))
	})
	return (&http.Server{Handler: mux, IdleTimeout: time.Minute}).Serve(d)
}

func digest(reader io.Reader) string {
	hash := sha256.New()
	if _, err := io.Copy(hash, reader); err != nil {
		return "failed: " + err.Error()
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func (d *device) reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		log.Print(err)
		return
	}
	d.resetStream(conn.(*watch).Stream)
}

func (d *device) resetStream(stream *yamux.Stream) {
	if err := d.conn.Reset(stream.StreamID()); err != nil {
		log.Print(err)
	}
	// The library does not know that the stream is over: its FIN follows the reset, which a peer has to bear.
	stream.Close()
}

// wait does not watch the request's context: after the first request on a connection it is cancelled, because the
// library's time-out is no net.Error, by which Go's server would know the one that it caused itself.
func (d *device) wait(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	d.waiting++
	gate := d.gate
	d.changed.Broadcast()
	d.mu.Unlock()
	<-gate
	io.WriteString(w, "through\n")
}

func (d *device) open(w http.ResponseWriter, r *http.Request) {
	through := d.await(r, "waiting", func() int { return d.waiting })
	d.mu.Lock()
	d.waiting = 0
	close(d.gate)
	d.gate = make(chan struct{})
	d.mu.Unlock()
	fmt.Fprintln(w, through)
}

// await returns `count()` once it is at least what the query asks for.
func (d *device) await(r *http.Request, key string, count func() int) int {
	want, _ := strconv.Atoi(r.URL.Query().Get(key))
	d.mu.Lock()
	defer d.mu.Unlock()
	for count() < want {
		d.changed.Wait()
	}
	return count()
}

func (d *device) serveRaw() error {
	for {
		stream, err := d.session.AcceptStream()
		if err != nil {
			return err
		}
		go d.raw(stream)
	}
}

func (d *device) raw(stream *yamux.Stream) {
	defer stream.Close()
	reader := bufio.NewReader(stream)
	command, err := reader.ReadString('\n')
	if err != nil {
		log.Printf("raw: %v", err)
		return
	}
	switch strings.TrimSpace(command) {
	case "echo":
		io.Copy(stream, reader)
	case "digest":
		io.WriteString(stream, digest(reader))
	case "reset":
		d.resetStream(stream)
	default:
		log.Printf("raw: unknown command %q", command)
	}
}
