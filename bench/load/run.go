package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// plan is how the question is asked.
type plan struct {
	question
	address     string
	expect      string
	connections int
	fresh       bool          // a connection for each request
	requests    int           // after which the run ends; 0: by time
	seconds     time.Duration // for which it goes on
	warm        time.Duration // before anything is measured
	rate        float64       // requests a second of all connections together; 0: as many as are answered
	ramp        time.Duration // for streams: over which they begin; 0: all at once
}

// run prints `{"at":"begin"}` when it is warm and waits for a line, so that the one who measures can look at the
// clock of a process; then `{"at":"end"}` when the last answer is there, and the result.
//
// With a ramp the streams go on without a pause instead, one after the other on each connection, and what happens
// between begin and end is measured; the streams that run at the end are read to their own end, and checked.
func run(args []string) error {
	p := plan{}
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	flags.StringVar(&p.address, "address", "127.0.0.1:9000", "host:port to ask")
	flags.StringVar(&p.path, "path", "/v1/chat/completions", "what to ask for")
	flags.StringVar(&p.model, "model", "real-model", "the model asked for")
	flags.StringVar(&p.expect, "expect", "", "the model that answers must name; several with commas: any of them")
	flags.StringVar(&p.key, "key", "", "API key")
	flags.IntVar(&p.size, "size", 1400, "bytes of a body; for embeddings the number of inputs")
	flags.BoolVar(&p.stream, "stream", false, "ask for streams")
	flags.BoolVar(&p.fresh, "fresh", false, "a connection for each request")
	flags.IntVar(&p.events, "events", 100, "events of a stream of the stub; 0: a real engine, any number")
	flags.IntVar(&p.tokens, "tokens", 0, "max_tokens of a real engine; 0: not said")
	flags.DurationVar(&p.every, "every", 20*time.Millisecond, "time between two events")
	flags.IntVar(&p.connections, "connections", 1, "connections, each with one request at a time")
	flags.IntVar(&p.requests, "requests", 0, "requests of all connections; 0: as many as fit into the time")
	flags.DurationVar(&p.seconds, "time", 3*time.Second, "how long to measure")
	flags.DurationVar(&p.warm, "warm", 500*time.Millisecond, "how long to ask before that")
	flags.Float64Var(&p.rate, "rate", 0, "requests a second; 0: the next one as soon as one is answered")
	flags.DurationVar(&p.ramp, "ramp", 0, "for streams: begin them over this time and keep them running")
	flags.Parse(args)
	workers := p.workers()
	var seconds float64
	if p.ramp > 0 {
		seconds = p.crowd(workers)
	} else {
		seconds = p.repeat(workers)
	}
	return json.NewEncoder(os.Stdout).Encode(resultOf(workers, seconds))
}

type worker struct {
	client  *client
	figures *figures
}

func (p *plan) workers() []*worker {
	recording := new(atomic.Bool)
	buffer := 64 << 10
	if p.connections > 256 { // a stream comes in small pieces
		buffer = 4 << 10
	}
	workers := make([]*worker, p.connections)
	for i := range workers {
		c := &client{address: p.address, stream: p.stream, fresh: p.fresh, buffer: buffer}
		if p.expect != "" {
			c.expect = strings.Split(p.expect, ",")
		}
		for _, name := range c.expect {
			c.events.expect = append(c.events.expect, fmt.Appendf(nil, "%q", name))
		}
		workers[i] = &worker{c, &figures{recording: recording}}
	}
	return workers
}

func (p *plan) repeat(workers []*worker) (seconds float64) {
	request := p.request(p.address, p.events)
	phase := func(length time.Duration, requests int) {
		tickets := p.tickets(length, requests)
		var all sync.WaitGroup
		for _, w := range workers {
			all.Go(func() {
				for from := range tickets.next {
					if err := w.client.ask(request, p.events, from, w.figures); err != nil {
						w.figures.failed(err)
						time.Sleep(10 * time.Millisecond) // a server that refuses everything is not to be flooded
					}
				}
			})
		}
		all.Wait()
	}
	if p.warm > 0 {
		phase(p.warm, 0)
	}
	say("begin", true)
	workers[0].figures.recording.Store(true)
	start := time.Now()
	phase(p.seconds, p.requests)
	seconds = time.Since(start).Seconds()
	say("end", false)
	return seconds
}

// crowd keeps one stream running on each connection.
func (p *plan) crowd(workers []*worker) (seconds float64) {
	request := p.request(p.address, p.events)
	var stop atomic.Bool
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			time.Sleep(p.ramp * time.Duration(i) / time.Duration(len(workers)))
			events := 1 + rand.IntN(p.events) // the first stream is shorter, so that they do not all end together
			first := p.request(p.address, events)
			for ask := first; !stop.Load(); ask, events = request, p.events {
				if err := w.client.ask(ask, events, time.Now(), w.figures); err != nil {
					w.figures.failed(err)
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(p.ramp + p.warm)
	say("begin", true)
	figures := workers[0].figures
	start := time.Now()
	figures.recording.Store(true)
	time.Sleep(p.seconds)
	figures.recording.Store(false)
	seconds = time.Since(start).Seconds()
	say("end", false)
	stop.Store(true)
	all.Wait()
	return seconds
}

func say(at string, wait bool) {
	fmt.Printf("{\"at\":%q}\n", at)
	if wait {
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
}
