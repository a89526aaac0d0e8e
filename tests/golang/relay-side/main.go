// A relay's side of a tunnel that shares no code with Homeport: hashicorp/yamux over gorilla/websocket, and the few
// messages of `homeport.v1` written byte by byte. The agent dials it; it plays one scenario, and exits 0 if all went well.
//
//	http       64 clients at once, 8 requests each on kept connections, against service `web`
//	many       64 streams to service `echo`, all open before the first byte is sent on any
//	bulk       20 MiB each way at once through service `echo`, compared by SHA-256
//	halfclose  an upload that ends before the answer begins, through service `digest`
//	reset      this side resets a stream of `echo` (its service tells the test); `reset` resets one of ours
//	refused    a service that is not offered, and one that is down
//
// The first line on standard output is the URL to dial.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
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
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"

	"../wsconn"
)

const parallel = 64

type relay struct {
	conn    *wsconn.Conn
	session *yamux.Session
}

func main() {
	scenario := flag.String("scenario", "", "what to do")
	token := flag.String("token", "", "the session token to expect")
	flag.Parse()
	scenarios := map[string]func(*relay) error{
		"http": playHTTP, "many": playMany, "bulk": playBulk, "halfclose": playHalfClose, "reset": playReset,
		"refused": playRefused,
	}
	play, known := scenarios[*scenario]
	if !known {
		log.Fatalf("no scenario %q", *scenario)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("ws://%s/tunnel\n", listener.Addr())
	done := make(chan error, 1)
	var once sync.Once
	upgrader := websocket.Upgrader{
		Subprotocols: []string{"homeport.v1"}, ReadBufferSize: wsconn.BufferSize, WriteBufferSize: wsconn.BufferSize,
	}
	http.HandleFunc("/tunnel", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+*token {
			http.Error(w, "wrong token", http.StatusUnauthorized)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if ws.Subprotocol() != "homeport.v1" {
			done <- fmt.Errorf("the agent offered %q", r.Header.Get("Sec-WebSocket-Protocol"))
			return
		}
		once.Do(func() { done <- serve(wsconn.New(ws), play) })
	})
	go func() { log.Fatal(http.Serve(listener, nil)) }()
	select {
	case err = <-done:
	case <-time.After(90 * time.Second):
		err = errors.New("not done after 90 s")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, *scenario+":", err)
		os.Exit(1)
	}
}

func serve(conn *wsconn.Conn, play func(*relay) error) error {
	session, err := yamux.Server(conn, yamux.DefaultConfig())
	if err != nil {
		return err
	}
	control, err := session.AcceptStream()
	if err != nil {
		return err
	}
	hello, err := readMessage(control)
	if err != nil {
		return err
	}
	if !bytes.Contains(hello, encode("type", "hello")) || !bytes.Contains(hello, str("services")) {
		return fmt.Errorf("the agent said %q, and not hello", hello)
	}
	answer := encode("type", "hello", "version", 1, "min_version", 1, "software", "relay-side/1", "session_id", "ses_go",
		"epoch", 1)
	if err := writeMessage(control, 6, answer); err != nil {
		return err
	}
	go io.Copy(io.Discard, control) // changes of services, figures
	return play(&relay{conn: conn, session: session})
}

// Messages.

// str is a msgpack fixstr or str 8.
func str(text string) []byte {
	if len(text) < 32 {
		return append([]byte{0xa0 | byte(len(text))}, text...)
	}
	return append([]byte{0xd9, byte(len(text))}, text...)
}

// encode gives pairs of a msgpack map, without its header. Values are strings, small integers, and bytes
// that are encoded already.
func encode(pairs ...any) []byte {
	var out []byte
	for _, value := range pairs {
		switch v := value.(type) {
		case string:
			out = append(out, str(v)...)
		case int:
			out = append(out, byte(v))
		case []byte:
			out = append(out, v...)
		}
	}
	return out
}

func writeMessage(w io.Writer, pairs int, body []byte) error {
	message := make([]byte, 4, 5+len(body))
	binary.BigEndian.PutUint32(message, uint32(1+len(body)))
	message = append(message, 0x80|byte(pairs))
	_, err := w.Write(append(message, body...))
	return err
}

func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > 64<<10 {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

// open asks for a service; the error of a refusal is the answer's code.
func (r *relay) open(service string) (*yamux.Stream, error) {
	stream, err := r.session.OpenStream()
	if err != nil {
		return nil, err
	}
	tenSeconds := []byte{0xcb, 0x40, 0x24, 0, 0, 0, 0, 0, 0}
	if err := writeMessage(stream, 3, encode("type", "open", "service", service, "timeout", tenSeconds)); err != nil {
		return nil, err
	}
	answer, err := readMessage(stream)
	if err != nil {
		return nil, fmt.Errorf("no answer for %s: %w", service, err)
	}
	if bytes.Contains(answer, append(str("ok"), 0xc3)) {
		return stream, nil
	}
	at := bytes.Index(answer, str("code"))
	if at < 0 {
		return nil, fmt.Errorf("an answer without ok and without code: %q", answer)
	}
	code := answer[at+len(str("code")):]
	return nil, errors.New(string(code[1 : 1+int(code[0]&0x1f)]))
}

// Scenarios.

func playHTTP(r *relay) error {
	transport := &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return r.open("web") },
		MaxIdleConnsPerHost: parallel,
	}
	client := &http.Client{Transport: transport}
	return together(parallel, func(number int) error {
		for i := 0; i < 8; i++ {
			size := 1 + 4099*number + i
			answer, err := client.Get(fmt.Sprintf("http://web/bytes/%d", size))
			if err != nil {
				return err
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil {
				return err
			}
			if want := answer.Header.Get("X-Sha256"); len(body) != size || digest(body) != want {
				return fmt.Errorf("%d bytes with digest %s, not %d with %s", len(body), digest(body), size, want)
			}
		}
		return nil
	})
}

func playMany(r *relay) error {
	streams := make([]*yamux.Stream, parallel)
	if err := together(parallel, func(number int) (err error) {
		streams[number], err = r.open("echo")
		return err
	}); err != nil {
		return err
	}
	return together(parallel, func(number int) error { return r.echo(streams[number], int64(number), 300<<10) })
}

func playBulk(r *relay) error {
	stream, err := r.open("echo")
	if err != nil {
		return err
	}
	return r.echo(stream, 1, 20<<20)
}

func playHalfClose(r *relay) error {
	stream, err := r.open("digest")
	if err != nil {
		return err
	}
	data := random(2, 1<<20+7)
	if _, err := stream.Write(data); err != nil {
		return err
	}
	if err := r.conn.Finish(stream.StreamID()); err != nil {
		return err
	}
	answer, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if string(answer) != digest(data) {
		return fmt.Errorf("the service saw %q, not %q", answer, digest(data))
	}
	return nil
}

func playReset(r *relay) error {
	ours, err := r.open("echo")
	if err != nil {
		return err
	}
	if _, err := ours.Write([]byte("hello")); err != nil {
		return err
	}
	if _, err := io.ReadFull(ours, make([]byte, 5)); err != nil {
		return err
	}
	if err := r.conn.Reset(ours.StreamID()); err != nil {
		return err
	}
	theirs, err := r.open("reset")
	if err != nil {
		return err
	}
	theirs.Write([]byte("reset, please"))
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrConnectionReset) {
		return fmt.Errorf("the service reset its connection, and the stream said %v", err)
	}
	// The session has survived both.
	after, err := r.open("echo")
	if err != nil {
		return err
	}
	return r.echo(after, 3, 100<<10)
}

func playRefused(r *relay) error {
	for service, code := range map[string]string{"nothing": "unknown_service", "down": "connection_refused"} {
		if _, err := r.open(service); err == nil || err.Error() != code {
			return fmt.Errorf("%s: %v, not %s", service, err, code)
		}
	}
	stream, err := r.open("echo")
	if err != nil {
		return err
	}
	return r.echo(stream, 4, 1000)
}

// echo sends bytes, half-closes, and compares what comes back until the end.
func (r *relay) echo(stream *yamux.Stream, seed int64, size int) error {
	data := random(seed, size)
	sent := make(chan error, 1)
	go func() {
		_, err := stream.Write(data)
		if err == nil {
			err = r.conn.Finish(stream.StreamID())
		}
		sent <- err
	}()
	back, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	if digest(back) != digest(data) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(back), len(data))
	}
	return nil
}

func random(seed int64, size int) []byte {
	data := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(data)
	return data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func together(count int, do func(number int) error) error {
	failures := make(chan error, count)
	for i := 0; i < count; i++ {
		go func(number int) { failures <- do(number) }(i)
	}
	var first error
	for i := 0; i < count; i++ {
		if err := <-failures; err != nil && first == nil {
			first = err
		}
	}
	return first
}
