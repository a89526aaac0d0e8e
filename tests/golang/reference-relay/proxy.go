package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }

// newProxy is the front by the standard library: what most programs of this shape have.
func newProxy(r *relay) http.Handler {
	proxy := &httputil.ReverseProxy{
		Director: func(request *http.Request) {
			device, rest, _ := split(request.URL.Path)
			request.URL.Scheme = "http"
			request.URL.Host = device
			request.URL.Path = rest
			request.Header.Del("Authorization")
		},
		Transport: &http.Transport{
			DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
				device, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return r.open(device)
			},
			MaxIdleConnsPerHost: 1024,
			IdleConnTimeout:     30 * time.Second,
			ReadBufferSize:      copySize,
			WriteBufferSize:     copySize,
			DisableCompression:  true,
		},
		BufferPool: &bufferPool{sync.Pool{New: func() interface{} { b := make([]byte, copySize); return &b }}},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if _, ok := r.bearer(request.Header.Get("Authorization")); !ok {
			http.Error(w, "unauthenticated", http.StatusUnauthorized)
			return
		}
		if _, _, ok := split(request.URL.Path); !ok || strings.Contains(request.URL.Path, "..") {
			http.Error(w, "no route", http.StatusNotFound)
			return
		}
		proxy.ServeHTTP(w, request)
	})
}
