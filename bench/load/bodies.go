package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// question is what every request of a run asks.
type question struct {
	path, model string
	key         string // of the Authorization header; empty: none
	size        int    // bytes of the body, about
	stream      bool
	events      int           // of each stream of the stub
	every       time.Duration // between two of them
	tokens      int           // of an answer of a real engine
}

// request returns the bytes of a whole request. Its members stand in the order in which OpenAI's SDK writes them:
// what a router has to find comes after the messages.
func (q question) request(host string, events int) []byte {
	body := q.body(events)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\naccept: application/json\r\n"+
		"user-agent: bench\r\n", q.path, host)
	if q.key != "" {
		head += "authorization: Bearer " + q.key + "\r\n"
	}
	return append(fmt.Appendf([]byte(head), "content-length: %d\r\n\r\n", len(body)), body...)
}

func (q question) body(events int) []byte {
	if strings.HasSuffix(q.path, "/embeddings") {
		return q.embeddings()
	}
	system := "You are a helpful assistant."
	tail := fmt.Sprintf(`],"model":"%s","temperature":0`, q.model)
	if q.tokens > 0 {
		tail += fmt.Sprintf(`,"max_tokens":%d`, q.tokens)
	}
	if q.stream {
		tail += `,"stream":true`
	}
	if q.stream && events > 0 {
		system = fmt.Sprintf("bench: events=%d every=%s.", events, q.every) // what the stub obeys
	}
	tail += "}"
	head := `{"messages":[{"role":"system","content":"` + system + `"},{"role":"user","content":`
	room := max(q.size-len(head)-len(tail), 0)
	if q.size >= 1<<20 {
		return []byte(head + image(room) + tail)
	}
	return []byte(head + `"` + words(room) + `"}` + tail)
}

func (q question) embeddings() []byte {
	inputs := make([]string, q.size)
	for i := range inputs {
		inputs[i] = fmt.Sprintf(`"input %d: %s"`, i, words(50))
	}
	return fmt.Appendf(nil, `{"input":[%s],"model":"%s"}`, strings.Join(inputs, ","), q.model)
}

// words is text of a length, with the escapes that text in JSON has.
func words(length int) string {
	const text = `The quick brown fox jumps over a lazy dog; \"and then\" seven small engines, caf\u00e9.\n `
	if length < len(text) {
		return "Hello"
	}
	return strings.TrimRight(strings.Repeat(text, length/len(text)), " ")
}

// image is a large message: a picture in base64, as the API takes it.
func image(length int) string {
	pixels := make([]byte, length*3/4)
	seed := uint32(7)
	for i := range pixels {
		seed = seed*1664525 + 1013904223
		pixels[i] = byte(seed >> 24)
	}
	return `[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		base64.StdEncoding.EncodeToString(pixels) + `"}}]}`
}
