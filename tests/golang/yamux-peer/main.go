// Command yamux-peer is one end of a hashicorp/yamux session over TCP, for tests to talk to.
//
// It serves every stream that is opened to it by the command in the stream's first line, and does what it is told on its
// standard input, a command a line, answering each by a line on its standard output.
//
// Streams:
//
//	echo        send everything back, until the other half ends
//	sha256      read until the other half ends, answer with the digest in hexadecimal
//	bytes N     send N bytes of the pattern: byte i is 7*i + i/256, repeated every 64 KiB
//	close       end at once, reading nothing more
//	hold        do nothing until the session ends
//
// Standard input:
//
//	open N SIZE   open N streams at once, send SIZE bytes on each, and expect the same back
//	until-error   open a stream, send "until-error\n", and answer with the error that ends reading it
//	accept        begin to accept streams (see -accept)
//	ping          measure a round trip
//	goaway        send GoAway
//	idle          wait until no stream is live
//	close         close the session and exit
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/yamux"
)

var pattern = make([]byte, 65536)

func main() {
	for i := range pattern {
		pattern[i] = byte(7*i + i/256)
	}
	address := flag.String("connect", "", "where the other end listens, host:port")
	server := flag.Bool("server", false, "be the server: even ids")
	window := flag.Uint("window", 256*1024, "largest receive window, bytes")
	backlog := flag.Int("backlog", 256, "streams that may wait to be accepted")
	accept := flag.Bool("accept", true, "accept streams from the start")
	flag.Parse()

	conn, err := net.Dial("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = uint32(*window)
	config.AcceptBacklog = *backlog
	config.ConnectionWriteTimeout = 60 * time.Second // a loaded machine is no violation
	role := yamux.Client
	if *server {
		role = yamux.Server
	}
	session, err := role(conn, config)
	if err != nil {
		log.Fatal(err)
	}
	if *accept {
		go acceptStreams(session)
	}
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		answer, err := obey(session, strings.Fields(commands.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	session.Close()
}

func obey(session *yamux.Session, words []string) (string, error) {
	if len(words) == 0 {
		return "", errors.New("no command")
	}
	switch words[0] {
	case "open":
		var count, size int
		if _, err := fmt.Sscan(strings.Join(words[1:], " "), &count, &size); err != nil {
			return "", err
		}
		return "echoed", openMany(session, count, size)
	case "until-error":
		stream, err := session.OpenStream()
		if err != nil {
			return "", err
		}
		if _, err := stream.Write([]byte("until-error\n")); err != nil {
			return "", err
		}
		_, err = io.Copy(io.Discard, stream)
		return fmt.Sprint(err), nil
	case "accept":
		go acceptStreams(session)
		return "accepting", nil
	case "ping":
		_, err := session.Ping()
		return "pong", err
	case "goaway":
		return "gone away", session.GoAway()
	case "idle":
		// A stream is forgotten a moment after its FIN was written.
		for session.NumStreams() > 0 {
			time.Sleep(time.Millisecond)
		}
		return "idle", nil
	case "close":
		return "closed", session.Close()
	}
	return "", fmt.Errorf("no such command: %s", words[0])
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func acceptStreams(session *yamux.Session) {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go serve(session, stream)
	}
}

func serve(session *yamux.Session, stream *yamux.Stream) {
	reader := bufio.NewReader(stream)
	line, err := reader.ReadString('\n')
	if err != nil {
		stream.Close()
		return
	}
	words := strings.Fields(line)
	switch words[0] {
	case "echo":
		io.Copy(stream, reader)
	case "sha256":
		digest := sha256.New()
		io.Copy(digest, reader)
		io.WriteString(stream, hex.EncodeToString(digest.Sum(nil)))
	case "bytes":
		var size int64
		fmt.Sscan(words[1], &size)
		for ; size > 0; size -= int64(len(pattern)) {
			stream.Write(pattern[:min(size, int64(len(pattern)))])
		}
	case "hold":
		<-session.CloseChan()
	}
	stream.Close()
}

func openMany(session *yamux.Session, count int, size int) error {
	results := make(chan error, count)
	for number := 0; number < count; number++ {
		go func(seed int64) { results <- openOne(session, seed, size) }(int64(number))
	}
	var first error
	for number := 0; number < count; number++ {
		if err := <-results; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// openOne reads while it writes, and ends its half when everything came back: this version of hashicorp/yamux reads
// nothing that arrives after its own Close.
func openOne(session *yamux.Session, seed int64, size int) error {
	stream, err := session.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	content := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(content)
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(content)
		written <- err
	}()
	back := make([]byte, size)
	if _, err := io.ReadFull(stream, back); err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if err := <-written; err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if !bytes.Equal(content, back) {
		return errors.New("what came back differs")
	}
	return nil
}
