// Package wsconn makes one ordered byte stream of a WebSocket's binary messages, as Homeport's tunnel does: the edges of
// the messages mean nothing. It is what third-party programs write between gorilla/websocket and hashicorp/yamux.
package wsconn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// BufferSize is that of each direction of the WebSocket, in bytes: a copy of 64 KiB and its headers fit in one message.
const BufferSize = 128 << 10

const (
	yamuxHeader       = 12
	yamuxData         = 0
	yamuxWindowUpdate = 1
	yamuxFin          = 4
	yamuxReset        = 8
)

// Conn is the io.ReadWriteCloser over which yamux runs. It follows yamux's frame edges in what is written, so that Inject
// never lands inside a frame.
type Conn struct {
	ws     *websocket.Conn
	reader io.Reader

	mu       sync.Mutex
	boundary sync.Cond
	header   []byte
	body     uint32
}

// New wraps an open WebSocket.
func New(ws *websocket.Conn) *Conn {
	c := &Conn{ws: ws}
	c.boundary.L = &c.mu
	return c
}

// Read reads from the current message and goes on to the next one at its end.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if c.reader == nil {
			kind, reader, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("wsconn: a message of type %d, not binary", kind)
			}
			c.reader = reader
		}
		n, err := c.reader.Read(p)
		if err == io.EOF {
			c.reader = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one message. yamux writes a frame's header and its body apart, so one frame spans two messages.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow(p)
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	if c.body == 0 && len(c.header) == 0 {
		c.boundary.Broadcast()
	}
	return len(p), nil
}

// follow keeps `header` (the part of a header written so far) and `body` (what is still to come of a Data frame).
func (c *Conn) follow(p []byte) {
	for len(p) > 0 {
		if c.body > 0 {
			n := c.body
			if uint32(len(p)) < n {
				n = uint32(len(p))
			}
			c.body -= n
			p = p[n:]
			continue
		}
		n := yamuxHeader - len(c.header)
		if len(p) < n {
			n = len(p)
		}
		c.header = append(c.header, p[:n]...)
		p = p[n:]
		if len(c.header) == yamuxHeader {
			if c.header[1] == yamuxData {
				c.body = binary.BigEndian.Uint32(c.header[8:])
			}
			c.header = c.header[:0]
		}
	}
}

// Reset sends a yamux WindowUpdate with RST for a stream, which the library has no call for.
func (c *Conn) Reset(stream uint32) error { return c.inject(stream, yamuxReset) }

// Finish sends one with FIN. The library's own Close does that too, but its Read is at an end then.
func (c *Conn) Finish(stream uint32) error { return c.inject(stream, yamuxFin) }

func (c *Conn) inject(stream uint32, flag uint16) error {
	frame := make([]byte, yamuxHeader)
	frame[1] = yamuxWindowUpdate
	binary.BigEndian.PutUint16(frame[2:], flag)
	binary.BigEndian.PutUint32(frame[4:], stream)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.body > 0 || len(c.header) > 0 {
		c.boundary.Wait()
	}
	return c.ws.WriteMessage(websocket.BinaryMessage, frame)
}

// Close closes the connection without a closing handshake, as yamux does at the end of a session.
func (c *Conn) Close() error { return c.ws.Close() }

// LocalAddr and RemoteAddr let yamux show its addresses.
func (c *Conn) LocalAddr() net.Addr  { return c.ws.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }

// Dial opens a tunnel: a WebSocket with a bearer token and subprotocol `yamux`. `ca` is a PEM file, or "" for the
// system's own roots. A refusal is an error that shows the status and the body.
func Dial(url, token, ca string) (*Conn, error) {
	config := &tls.Config{}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("wsconn: no certificate in %s", ca)
		}
	}
	dialer := websocket.Dialer{
		Subprotocols:     []string{"yamux"},
		ReadBufferSize:   BufferSize,
		WriteBufferSize:  BufferSize,
		HandshakeTimeout: 30 * time.Second,
		TLSClientConfig:  config,
	}
	ws, answer, err := dialer.Dial(url, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		if answer != nil {
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
			return nil, fmt.Errorf("refused: %s %s", answer.Status, body)
		}
		return nil, err
	}
	if ws.Subprotocol() != "yamux" {
		ws.Close()
		return nil, fmt.Errorf("wsconn: the relay chose subprotocol %q", ws.Subprotocol())
	}
	return New(ws), nil
}
