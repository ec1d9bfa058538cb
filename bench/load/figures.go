package main

import (
	"slices"
	"sync/atomic"
	"time"
)

// figures is what one worker measured; only its own goroutine writes, and only while recording is on.
type figures struct {
	recording *atomic.Bool // shared by all workers of a run
	requests  int
	bytes     int64
	events    int
	missing   int
	errors    map[string]int
	latencies []time.Duration
	firsts    []time.Duration // time to the first event
	gaps      []time.Duration
	delays    []time.Duration // of each event from the stub to here
}

func (f *figures) answered(d time.Duration, size int64) {
	if f.recording.Load() {
		f.requests++
		f.bytes += size
		f.latencies = append(f.latencies, d)
	}
}

func (f *figures) first(d time.Duration) {
	if f.recording.Load() {
		f.firsts = append(f.firsts, d)
	}
}

func (f *figures) gap(d time.Duration) {
	if f.recording.Load() {
		f.gaps = append(f.gaps, d)
	}
}

func (f *figures) event() {
	if f.recording.Load() {
		f.events++
	}
}

func (f *figures) delay(ns int64) {
	if f.recording.Load() {
		f.delays = append(f.delays, time.Duration(ns))
	}
}

// lost and failed count whether recording is on or not: no stream of a run may lose an event.
func (f *figures) lost(events int) {
	f.missing += events
}

func (f *figures) failed(err error) {
	if f.errors == nil {
		f.errors = map[string]int{}
	}
	f.errors[err.Error()]++
}

// quantiles are µs.
type quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func quantilesOf(parts [][]time.Duration) *quantiles {
	all := slices.Concat(parts...)
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[int(share*float64(len(all)-1))].Nanoseconds()) / 1e3
	}
	return &quantiles{len(all), at(0.5), at(0.9), at(0.99), at(1)}
}

// result is what a run prints at its end.
type result struct {
	At         string         `json:"at"`
	Seconds    float64        `json:"seconds"`
	Requests   int            `json:"requests"`
	Bytes      int64          `json:"bytes"`
	Events     int            `json:"events"`
	Lost       int            `json:"lost"`
	Reconnects int            `json:"reconnects"`
	Errors     map[string]int `json:"errors"`
	Latency    *quantiles     `json:"latency,omitempty"`
	First      *quantiles     `json:"first,omitempty"`
	Gap        *quantiles     `json:"gap,omitempty"`
	Delay      *quantiles     `json:"delay,omitempty"`
}

func resultOf(workers []*worker, seconds float64) result {
	r := result{At: "result", Seconds: seconds, Errors: map[string]int{}}
	var latencies, firsts, gaps, delays [][]time.Duration
	for _, w := range workers {
		f := w.figures
		r.Requests += f.requests
		r.Bytes += f.bytes
		r.Events += f.events
		r.Lost += f.missing
		r.Reconnects += w.client.reconnects
		for text, n := range f.errors {
			r.Errors[text] += n
		}
		latencies = append(latencies, f.latencies)
		firsts = append(firsts, f.firsts)
		gaps = append(gaps, f.gaps)
		delays = append(delays, f.delays)
	}
	r.Latency, r.First = quantilesOf(latencies), quantilesOf(firsts)
	r.Gap, r.Delay = quantilesOf(gaps), quantilesOf(delays)
	return r
}
