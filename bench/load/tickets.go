package main

import (
	"sync/atomic"
	"time"
)

// tickets let requests begin: with a rate each at its own time, else as soon as somebody takes one.
type tickets struct {
	left  atomic.Int64
	until time.Time
	due   chan time.Time // nil: no rate
}

func (p *plan) tickets(length time.Duration, requests int) *tickets {
	t := &tickets{until: time.Now().Add(length)}
	t.left.Store(1 << 62)
	if requests > 0 {
		t.left.Store(int64(requests))
	}
	if p.rate > 0 {
		t.due = make(chan time.Time, 1<<16)
		go t.issue(p.rate)
	}
	return t
}

// next yields the time at which a request begins. With a rate that is the time at which it was due, also where all
// connections were busy then: waiting for one is part of the latency.
func (t *tickets) next(yield func(time.Time) bool) {
	if t.due != nil {
		for due := range t.due {
			if !yield(due) {
				return
			}
		}
		return
	}
	for t.left.Add(-1) >= 0 {
		now := time.Now()
		if now.After(t.until) || !yield(now) {
			return
		}
	}
}

func (t *tickets) issue(rate float64) {
	defer close(t.due)
	start := time.Now()
	for i := 0; t.left.Add(-1) >= 0; i++ {
		due := start.Add(time.Duration(float64(i) / rate * 1e9))
		time.Sleep(time.Until(due))
		now := time.Now() // a sleep ends up to 1 ms late, which is no fault of the router
		if now.After(t.until) {
			return
		}
		t.due <- now
	}
}
