package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"

	"../wsconn"
)

type tunnelsResult struct {
	Opened  int     `json:"opened"`
	Seconds float64 `json:"seconds"`
	Lost    int64   `json:"lost"`
}

// tunnels opens one tunnel a token, prints the result so far, holds them until stdin ends, and prints it again with
// those that were lost meanwhile. Each is a yamux session, so the relay's probes are answered.
func tunnels(flags *flag.FlagSet, arguments []string) (interface{}, error) {
	relay := flags.String("relay", "", "URL of the relay's tunnel port")
	tokens := flags.String("tokens", "", "file of session tokens, one a line, each of a device of its own")
	concurrency := flags.Int("concurrency", 64, "handshakes at a time")
	flags.Parse(arguments)
	file, err := os.Open(*tokens)
	if err != nil {
		return nil, err
	}
	var lines []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	dialer := websocket.Dialer{
		Subprotocols:    []string{"yamux"},
		ReadBufferSize:  512,
		WriteBufferSize: 512,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard
	var (
		lost     int64
		closing  int32
		failures int64
		reason   atomic.Value
		all      sync.WaitGroup
		work     = make(chan string)
	)
	start := time.Now()
	for i := 0; i < *concurrency; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for token := range work {
				ws, answer, err := dialer.Dial(*relay, http.Header{"Authorization": {"Bearer " + token}})
				if err != nil {
					if answer != nil {
						err = fmt.Errorf("%v: %s", err, answer.Status)
					}
					atomic.AddInt64(&failures, 1)
					reason.Store(err.Error())
					continue
				}
				session, err := yamux.Client(wsconn.New(ws), config)
				if err != nil {
					log.Fatal(err)
				}
				go func() {
					<-session.CloseChan()
					if atomic.LoadInt32(&closing) == 0 {
						atomic.AddInt64(&lost, 1)
					}
				}()
			}
		}()
	}
	for _, line := range lines {
		work <- line
	}
	close(work)
	all.Wait()
	if failures > 0 {
		return nil, fmt.Errorf("%d of %d tunnels were refused, one of them: %v", failures, len(lines), reason.Load())
	}
	result := tunnelsResult{len(lines), time.Since(start).Seconds(), 0}
	json.NewEncoder(os.Stdout).Encode(result)
	io.Copy(io.Discard, os.Stdin)
	atomic.StoreInt32(&closing, 1)
	result.Lost = atomic.LoadInt64(&lost)
	return result, nil
}
