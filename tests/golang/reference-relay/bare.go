package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/yamux"
)

// The bare front: one goroutine a client connection parses each head once, checks the token, strips what is the
// gateway's own, and passes bodies by their framing with copies of 64 KiB over pooled streams. It is for the bench: it
// knows Content-Length, chunked and read-until-close bodies, not trailers, 1xx answers or upgrades.

var errBadHead = errors.New("bad head")

type upstream struct {
	stream *yamux.Stream
	reader *bufio.Reader
}

type bareFront struct {
	relay *relay

	mu   sync.Mutex
	idle map[string][]*upstream
}

func serveBare(r *relay, listener net.Listener) error {
	front := &bareFront{relay: r, idle: map[string][]*upstream{}}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go front.serve(conn)
	}
}

func (f *bareFront) take(device string) (up *upstream, reused bool, err error) {
	f.mu.Lock()
	if list := f.idle[device]; len(list) > 0 {
		up = list[len(list)-1]
		f.idle[device] = list[:len(list)-1]
	}
	f.mu.Unlock()
	if up != nil {
		return up, true, nil
	}
	stream, err := f.relay.open(device)
	if err != nil {
		return nil, false, err
	}
	return &upstream{stream: stream, reader: bufio.NewReaderSize(stream, copySize)}, false, nil
}

func (f *bareFront) give(device string, up *upstream) {
	f.mu.Lock()
	f.idle[device] = append(f.idle[device], up)
	f.mu.Unlock()
}

// head is what is needed of a parsed head.
type head struct {
	first     string
	length    int64
	chunked   bool
	close     bool
	token     string
	forwarded []byte
}

// readHead reads a head and appends what is to be forwarded (without the first line) to `into`.
func readHead(reader *bufio.Reader, into []byte) (h head, err error) {
	h.length = -1
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return h, err
	}
	h.first = string(bytes.TrimRight(line, "\r\n"))
	for {
		line, err = reader.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(text) == 0 {
			h.forwarded = into
			return h, nil
		}
		colon := bytes.IndexByte(text, ':')
		if colon <= 0 {
			return h, errBadHead
		}
		name, value := text[:colon], bytes.TrimSpace(text[colon+1:])
		switch {
		case equalFold(name, "authorization"):
			h.token = string(value)
			continue
		case equalFold(name, "connection"):
			h.close = equalFold(value, "close")
			continue
		case equalFold(name, "content-length"):
			if h.length, err = strconv.ParseInt(string(value), 10, 63); err != nil {
				return h, errBadHead
			}
		case equalFold(name, "transfer-encoding"):
			if !equalFold(value, "chunked") {
				return h, errBadHead
			}
			h.chunked = true
		}
		into = append(append(into, text...), '\r', '\n')
	}
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

func (f *bareFront) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, copySize)
	out := make([]byte, 0, 4096)
	scratch := make([]byte, copySize)
	for {
		h, err := readHead(reader, out[:0])
		if err != nil {
			return
		}
		if _, ok := f.relay.bearer(h.token); !ok {
			conn.Write([]byte("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			return
		}
		parts := strings.SplitN(h.first, " ", 3)
		if len(parts) != 3 {
			return
		}
		device, rest, ok := split(parts[1])
		if !ok {
			conn.Write([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			return
		}
		request := make([]byte, 0, len(h.forwarded)+len(h.first)+64)
		request = append(request, parts[0]+" "+rest+" HTTP/1.1\r\n"...)
		request = append(append(request, h.forwarded...), "\r\n"...)
		if !f.exchange(conn, reader, device, parts[0], h, request, scratch) || h.close {
			return
		}
	}
}

// exchange forwards one request and its answer; returns whether the client's connection can go on.
func (f *bareFront) exchange(
	conn net.Conn, reader *bufio.Reader, device, method string, h head, request, scratch []byte,
) bool {
	var answer head
	var up *upstream
	for {
		var reused bool
		var err error
		if up, reused, err = f.take(device); err != nil {
			conn.Write([]byte("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			return false
		}
		if _, err = up.stream.Write(request); err == nil {
			if h.chunked || h.length > 0 {
				if err = copyBody(up.stream, reader, h, scratch); err != nil {
					up.stream.Close()
					return false
				}
			}
			answer, err = readHead(up.reader, nil)
		}
		if err == nil {
			break
		}
		up.stream.Close()
		if !reused || h.chunked || h.length > 0 {
			conn.Write([]byte("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			return false
		}
	}
	response := make([]byte, 0, len(answer.forwarded)+len(answer.first)+64)
	response = append(append(response, answer.first...), "\r\n"...)
	response = append(response, answer.forwarded...)
	if h.close {
		response = append(response, "Connection: close\r\n"...)
	}
	response = append(response, "\r\n"...)
	noBody := method == "HEAD" || strings.Contains(answer.first, " 204 ") || strings.Contains(answer.first, " 304 ")
	// A small body rides in the same write as the head.
	if !noBody && !answer.chunked && answer.length >= 0 && answer.length <= int64(up.reader.Buffered()) {
		body, _ := up.reader.Peek(int(answer.length))
		response = append(response, body...)
		up.reader.Discard(len(body))
		noBody = true
	}
	if _, err := conn.Write(response); err != nil {
		up.stream.Close()
		return false
	}
	if !noBody {
		if err := copyBody(conn, up.reader, answer, scratch); err != nil {
			up.stream.Close()
			return false
		}
		if !answer.chunked && answer.length < 0 {
			up.stream.Close()
			return false
		}
	}
	if answer.close {
		up.stream.Close()
	} else {
		f.give(device, up)
	}
	return true
}

// copyBody copies a body by its framing.
func copyBody(to io.Writer, from *bufio.Reader, h head, scratch []byte) error {
	if !h.chunked {
		var body io.Reader = from
		if h.length >= 0 {
			body = &io.LimitedReader{R: from, N: h.length}
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{body}, scratch)
		if err == nil && h.length >= 0 && n < h.length {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	for {
		line, err := from.ReadSlice('\n')
		if err != nil {
			return err
		}
		if _, err = to.Write(line); err != nil {
			return err
		}
		digits := string(bytes.TrimSpace(line))
		if semicolon := strings.IndexByte(digits, ';'); semicolon >= 0 {
			digits = digits[:semicolon]
		}
		size, err := strconv.ParseInt(digits, 16, 63)
		if err != nil {
			return errBadHead
		}
		if err = copyBody(to, from, head{length: size + 2}, scratch); err != nil || size == 0 {
			return err
		}
	}
}
