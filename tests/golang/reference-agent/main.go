// The bench's reference agent: dials the reference relay, and joins each yamux stream to a new connection to the local
// service. Windows of 6 MiB, WebSocket buffers of 128 KiB, copies of 64 KiB.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"../wsconn"
)

const copySize = 64 << 10

func main() {
	relay := flag.String("relay", "", "URL of the relay's tunnel port, ws:// or wss://")
	tokenFile := flag.String("token-file", "", "file with the bearer token")
	service := flag.String("service", "", "HOST:PORT of the local service")
	ca := flag.String("ca", "", "PEM file of the authority to trust")
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
	config.MaxStreamWindowSize = 6 << 20
	session, err := yamux.Client(conn, config)
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.WriteString("{\"connected\": true}\n")
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			log.Printf("the session ended: %v", err)
			return
		}
		go serve(stream, *service)
	}
}

func serve(stream *yamux.Stream, service string) {
	defer stream.Close()
	target, err := net.DialTimeout("tcp", service, 10*time.Second)
	if err != nil {
		log.Printf("the service: %v", err)
		return
	}
	defer target.Close()
	var both sync.WaitGroup
	both.Add(1)
	go func() {
		defer both.Done()
		copyBytes(target, stream)
		target.(*net.TCPConn).CloseWrite()
	}()
	copyBytes(stream, target)
	stream.Close()
	both.Wait()
}

var buffers = sync.Pool{New: func() interface{} { b := make([]byte, copySize); return &b }}

// copyBytes hides ReadFrom and WriteTo: the connections' own would copy by 32 KiB.
func copyBytes(to io.Writer, from io.Reader) {
	buffer := buffers.Get().(*[]byte)
	io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buffer)
	buffers.Put(buffer)
}
