// The bench's reference relay: a public HTTP port that checks a bearer token at each request and forwards to a device,
// and a tunnel port to which the reference agent dials a WebSocket that carries yamux. Of the same shape as Homeport's
// gateway and relay in one process: streams to a device are kept and reused, as keep-alive connections are.
//
//	GET /d/{team}/{device}/{service}/{path...}   on the public port
//	GET /tunnel                                  on the tunnel port; the bearer token is TOKEN, or TOKEN.DEVICE
package main

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"

	"../wsconn"
)

const copySize = 64 << 10

var errOffline = errors.New("the device is offline")

type relay struct {
	token    string
	upgrader websocket.Upgrader

	mu      sync.RWMutex
	devices map[string]*yamux.Session
}

func main() {
	public := flag.String("public", "127.0.0.1:0", "address of the public port")
	tunnel := flag.String("tunnel", "127.0.0.1:0", "address of the tunnel port")
	tokenFile := flag.String("token-file", "", "file with the one bearer token")
	cert := flag.String("cert", "", "PEM certificate of the tunnel port; with it, TLS")
	key := flag.String("key", "", "PEM key of the tunnel port")
	front := flag.String("front", "proxy", "proxy: net/http and httputil.ReverseProxy; bare: a parser of its own")
	flag.Parse()
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	r := &relay{
		token: strings.TrimSpace(string(token)),
		upgrader: websocket.Upgrader{
			ReadBufferSize:  wsconn.BufferSize,
			WriteBufferSize: wsconn.BufferSize,
			Subprotocols:    []string{"yamux"},
		},
		devices: map[string]*yamux.Session{},
	}
	publicPort, tunnelPort := listen(*public), listen(*tunnel)
	scheme := "ws"
	tunnels := &http.Server{Handler: http.HandlerFunc(r.accept)}
	if *cert != "" {
		scheme = "wss"
		go func() { log.Fatal(tunnels.ServeTLS(tunnelPort, *cert, *key)) }()
	} else {
		go func() { log.Fatal(tunnels.Serve(tunnelPort)) }()
	}
	json.NewEncoder(os.Stdout).Encode(map[string]string{
		"gateway": "http://" + publicPort.Addr().String(),
		"tunnel":  scheme + "://" + tunnelPort.Addr().String() + "/tunnel",
	})
	if *front == "bare" {
		log.Fatal(serveBare(r, publicPort))
	}
	log.Fatal((&http.Server{Handler: newProxy(r)}).Serve(publicPort))
}

func listen(address string) net.Listener {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// bearer checks the token in constant time and returns what follows it after a dot: the device's name.
func (r *relay) bearer(header string) (device string, ok bool) {
	const prefix = "Bearer "
	if len(header) < len(prefix)+len(r.token) || !strings.EqualFold(header[:len(prefix)], prefix) {
		return "", false
	}
	token, rest := header[len(prefix):len(prefix)+len(r.token)], header[len(prefix)+len(r.token):]
	if subtle.ConstantTimeCompare([]byte(token), []byte(r.token)) != 1 {
		return "", false
	}
	if rest == "" {
		return "bench", true
	}
	return rest[1:], rest[0] == '.'
}

func (r *relay) accept(w http.ResponseWriter, request *http.Request) {
	device, ok := r.bearer(request.Header.Get("Authorization"))
	if !ok {
		http.Error(w, "unauthenticated", http.StatusUnauthorized)
		return
	}
	ws, err := r.upgrader.Upgrade(w, request, nil)
	if err != nil {
		return
	}
	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = 6 << 20
	session, err := yamux.Server(wsconn.New(ws), config)
	if err != nil {
		ws.Close()
		return
	}
	r.mu.Lock()
	old := r.devices[device]
	r.devices[device] = session
	r.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// open opens a stream to a device.
func (r *relay) open(device string) (*yamux.Stream, error) {
	r.mu.RLock()
	session := r.devices[device]
	r.mu.RUnlock()
	if session == nil || session.IsClosed() {
		return nil, errOffline
	}
	return session.OpenStream()
}

// split takes /d/{team}/{device}/{service}/{path...} apart; the service is the one that the device has.
func split(path string) (device, rest string, ok bool) {
	if !strings.HasPrefix(path, "/d/") {
		return "", "", false
	}
	rest = path[3:]
	for part := 0; part < 3; part++ {
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			return "", "", false
		}
		if part == 1 {
			device = rest[:slash]
		}
		if part == 2 {
			return device, rest[slash:], true
		}
		rest = rest[slash+1:]
	}
	return "", "", false
}
