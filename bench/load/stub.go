package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// engine is the stub: it answers at once, streams at a steady pace, and knows one model.
type engine struct {
	model      string
	events     int
	every      time.Duration
	answer     []byte // of a chat that is not streamed
	embeddings []byte
	models     []byte
	event      event
}

func stub(args []string) error {
	var e engine
	flags := flag.NewFlagSet("stub", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:9000", "address")
	inputs := flags.Int("inputs", 256, "vectors in an answer of /v1/embeddings")
	dimensions := flags.Int("dimensions", 1024, "numbers in each of them")
	flags.StringVar(&e.model, "model", "real-model", "the only model it knows")
	flags.IntVar(&e.events, "events", 100, "events of a stream, where the question does not say")
	flags.DurationVar(&e.every, "every", 0, "time between two events, likewise")
	flags.Parse(args)
	e.answer = answer("200 OK", "application/json", chatAnswer(e.model))
	e.embeddings = answer("200 OK", "application/json", embeddingsAnswer(e.model, *inputs, *dimensions))
	e.models = answer("200 OK", "application/json", modelsAnswer(e.model))
	e.event = newEvent(e.model)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Println("listening on", *listen)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go e.serve(conn)
	}
}

var (
	healthy  = answer("200 OK", "text/plain", []byte("ok"))
	notFound = answer("404 Not Found", "application/json", []byte(`{"error":{"message":"no such thing","code":"404"}}`))
)

func (e *engine) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 16<<10)
	var body window
	for {
		h, err := readHead(r)
		if err != nil {
			return
		}
		body.reset()
		if err := readBody(r, h, false, body.add); err != nil {
			return
		}
		if err := e.reply(conn, h.path, &body); err != nil || h.close {
			return
		}
	}
}

func (e *engine) reply(conn net.Conn, path string, body *window) error {
	var err error
	switch path {
	case "/health":
		_, err = conn.Write(healthy)
	case "/v1/models":
		_, err = conn.Write(e.models)
	case "/v1/chat/completions", "/v1/embeddings":
		switch {
		case !body.has("model", `"`+e.model+`"`): // a router that does not rewrite the name is found out
			_, err = conn.Write(notFound)
		case path == "/v1/embeddings":
			_, err = conn.Write(e.embeddings)
		case body.has("stream", "true"):
			err = e.stream(conn, body)
		default:
			_, err = conn.Write(e.answer)
		}
	default:
		_, err = conn.Write(notFound)
	}
	return err
}

// stream sends the first event at once and each other at its own time. The second waits a random part of the
// interval, so that streams that began together do not all tick together.
func (e *engine) stream(conn net.Conn, body *window) error {
	events, every := e.pace(body)
	out := append(make([]byte, 0, 1024), streamHead...)
	start := time.Now()
	phase := time.Duration(rand.Float64() * float64(every))
	for i := range events {
		if i > 0 && every > 0 {
			time.Sleep(time.Until(start.Add(phase + time.Duration(i-1)*every)))
		}
		out = e.event.appendTo(out, time.Now())
		if i == events-1 {
			break // the last one goes out together with the end
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	_, err := conn.Write(append(out, streamEnd...))
	return err
}

// pace is what the question asks for in its text, the one thing that every router hands on as it is.
func (e *engine) pace(body *window) (events int, every time.Duration) {
	_, text, found := bytes.Cut(body.first, []byte("bench: events="))
	if !found {
		return e.events, e.every
	}
	n, _ := number(text)
	_, text, _ = bytes.Cut(text, []byte(" every="))
	text, _, _ = bytes.Cut(text, []byte(`."`))
	every, err := time.ParseDuration(string(text))
	if err != nil {
		return e.events, e.every
	}
	return int(n), every
}

func answer(status, kind string, body []byte) []byte {
	head := fmt.Sprintf("HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n", status, kind, len(body))
	return append([]byte(head), body...)
}
