package main

import (
	"flag"
	"sort"
	"sync"
	"time"
)

type pacedResult struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Largest  float64 `json:"max_ms"`
}

// paced sends each request at its planned moment or as soon after as its connection is free, and counts its latency
// from that moment: a stall is seen by every request that it delayed.
func paced(flags *flag.FlagSet, arguments []string) (interface{}, error) {
	target := flags.String("url", "", "what to get")
	tokenFile := flags.String("token-file", "", "file with the bearer token")
	rate := flags.Float64("rate", 400, "requests a second, all connections together")
	connections := flags.Int("connections", 8, "keep-alive connections")
	seconds := flags.Float64("seconds", 5, "how long")
	flags.Parse(arguments)
	var (
		mu        sync.Mutex
		latencies []time.Duration
		failed    error
		all       sync.WaitGroup
	)
	interval := time.Duration(float64(time.Second) * float64(*connections) / *rate)
	count := int(*seconds * *rate / float64(*connections))
	clients := make([]*client, *connections)
	for i := range clients {
		c, err := dial(*target, *tokenFile)
		if err == nil {
			_, err = c.get() // the first request opens a stream: not what is measured
		}
		if err != nil {
			return nil, err
		}
		clients[i] = c
	}
	start := time.Now()
	for i, c := range clients {
		all.Add(1)
		go func(c *client, planned time.Time) {
			defer all.Done()
			own := make([]time.Duration, 0, count)
			var err error
			for n := 0; n < count && err == nil; n++ {
				time.Sleep(time.Until(planned))
				_, err = c.get()
				own = append(own, time.Since(planned))
				planned = planned.Add(interval)
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, own...)
			if err != nil {
				failed = err
			}
		}(c, start.Add(interval*time.Duration(i)/time.Duration(*connections)))
	}
	all.Wait()
	if failed != nil {
		return nil, failed
	}
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	return pacedResult{len(latencies), time.Since(start).Seconds(), at(0.5), at(0.99), at(1)}, nil
}
