// The bench's load where wrk has none: one big transfer, requests at a fixed rate, and many idle tunnels. It prints one
// JSON object. Bare sockets and a parser of a few lines, so that it costs less than what it measures.
//
//	loader bulk     -url U -token-file F -method GET|PUT -bytes N [-seconds S]   one stream; again and again for S seconds
//	loader paced    -url U -token-file F -rate R -connections C -seconds S       latency counts from the planned moment
//	loader tunnels  -relay U -tokens F -concurrency C                            one tunnel a line of F, open until stdin ends
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("loader: ")
	if len(os.Args) < 2 {
		log.Fatal("bulk, paced or tunnels")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var result interface{}
	var err error
	switch os.Args[1] {
	case "bulk":
		result, err = bulk(flags, os.Args[2:])
	case "paced":
		result, err = paced(flags, os.Args[2:])
	case "tunnels":
		result, err = tunnels(flags, os.Args[2:])
	default:
		log.Fatalf("unknown: %s", os.Args[1])
	}
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}

// client is one keep-alive connection.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	head    string // of a request, without its first line and its Content-Length
	path    string
	scratch []byte
}

func dial(target, tokenFile string) (*client, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return &client{
		conn:    conn,
		reader:  bufio.NewReaderSize(conn, 256<<10),
		head:    "Host: " + u.Host + "\r\nAuthorization: Bearer " + strings.TrimSpace(string(token)) + "\r\n",
		path:    u.RequestURI(),
		scratch: make([]byte, 256<<10),
	}, nil
}

// get asks once and reads the whole answer; returns the bytes of the body.
func (c *client) get() (int64, error) {
	if _, err := io.WriteString(c.conn, "GET "+c.path+" HTTP/1.1\r\n"+c.head+"\r\n"); err != nil {
		return 0, err
	}
	return c.answer()
}

// put uploads n bytes of `block`, repeated.
func (c *client) put(block []byte, n int64) error {
	head := "PUT " + c.path + " HTTP/1.1\r\n" + c.head + "Content-Length: " + strconv.FormatInt(n, 10) + "\r\n\r\n"
	if _, err := io.WriteString(c.conn, head); err != nil {
		return err
	}
	for left := n; left > 0; {
		part := block
		if left < int64(len(part)) {
			part = part[:left]
		}
		if _, err := c.conn.Write(part); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	_, err := c.answer()
	return err
}

func (c *client) answer() (int64, error) {
	length, first := int64(-1), ""
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimSpace(string(line))
		if first == "" {
			first = text
		}
		if text == "" {
			break
		}
		if len(text) > 15 && strings.EqualFold(text[:15], "content-length:") {
			if length, err = strconv.ParseInt(strings.TrimSpace(text[15:]), 10, 63); err != nil {
				return 0, err
			}
		}
	}
	if !strings.HasPrefix(first, "HTTP/1.1 2") {
		return 0, fmt.Errorf("answer: %s", first)
	}
	if strings.HasPrefix(first, "HTTP/1.1 204") {
		return 0, nil
	}
	if length < 0 {
		return 0, fmt.Errorf("no Content-Length in the answer: %s", first)
	}
	for left := length; left > 0; {
		part := c.scratch
		if left < int64(len(part)) {
			part = part[:left]
		}
		n, err := c.reader.Read(part)
		if err != nil {
			return 0, err
		}
		left -= int64(n)
	}
	return length, nil
}
