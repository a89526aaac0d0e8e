package main

import (
	"flag"
	"fmt"
	"math/rand"
	"time"
)

type bulkResult struct {
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
	Transfers int     `json:"transfers"`
}

func bulk(flags *flag.FlagSet, arguments []string) (interface{}, error) {
	target := flags.String("url", "", "what to get or put")
	tokenFile := flags.String("token-file", "", "file with the bearer token")
	method := flags.String("method", "GET", "GET or PUT")
	size := flags.Int64("bytes", 1<<30, "bytes of one transfer")
	seconds := flags.Float64("seconds", 0, "begin no transfer after this long; 0: one transfer")
	flags.Parse(arguments)
	c, err := dial(*target, *tokenFile)
	if err != nil {
		return nil, err
	}
	block := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(block)
	var result bulkResult
	start := time.Now()
	for {
		n := *size
		if *method == "PUT" {
			err = c.put(block, n)
		} else {
			n, err = c.get()
		}
		if err != nil {
			return nil, err
		}
		if n != *size {
			return nil, fmt.Errorf("%d bytes, not %d", n, *size)
		}
		result.Bytes += n
		result.Transfers++
		result.Seconds = time.Since(start).Seconds()
		if result.Seconds >= *seconds {
			return result, nil
		}
	}
}
