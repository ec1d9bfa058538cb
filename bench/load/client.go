package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// client is one connection that asks one request after the other.
type client struct {
	address    string
	expect     []string // one of these models every answer has to name; empty: any
	stream     bool
	fresh      bool // a connection for each request
	buffer     int  // bytes to read at a time
	conn       net.Conn
	reader     *bufio.Reader
	body       window
	events     scanner
	reconnects int
}

// ask sends one request and reads its answer to the end. Times go to the figures; the error says what was wrong
// with the answer. events is how many a stream must have, 0: any number.
func (c *client) ask(request []byte, events int, from time.Time, f *figures) error {
	h, err := c.send(request)
	if err != nil {
		c.close()
		return err
	}
	c.body.reset()
	sink := c.body.add
	if c.stream && h.status == 200 {
		c.events.begin(from, f)
		sink = c.events.add
	}
	err = readBody(c.reader, h, true, sink)
	end := time.Now()
	if err != nil || c.fresh || h.close || (!h.chunked && h.length < 0) {
		c.close()
	}
	if err != nil {
		err = fmt.Errorf("the answer breaks off: %w", err)
	} else {
		err = c.check(h)
	}
	if c.stream && h.status == 200 && events > 0 {
		f.lost(events - c.events.count)
		if err == nil && c.events.count != events {
			err = fmt.Errorf("a stream of %d events instead of %d", c.events.count, events)
		}
	}
	if err == nil {
		f.answered(end.Sub(from), c.body.size)
	}
	return err
}

// send opens a connection where there is none. One that the server closed while it was idle is opened anew, once.
func (c *client) send(request []byte) (head, error) {
	kept := c.conn != nil
	for {
		if c.conn == nil {
			conn, err := net.DialTimeout("tcp", c.address, 10*time.Second)
			if err != nil {
				return head{}, err
			}
			c.conn, c.reader = conn, bufio.NewReaderSize(conn, c.buffer)
		}
		c.conn.SetDeadline(time.Now().Add(2 * time.Minute))
		_, err := c.conn.Write(request)
		var h head
		if err == nil {
			h, err = readHead(c.reader)
		}
		if err == nil || !kept || errors.Is(err, errHead) {
			return h, err
		}
		c.close()
		kept = false
		c.reconnects++
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) check(h head) error {
	switch {
	case h.status != 200:
		return fmt.Errorf("status %d: %.200s", h.status, c.body.first)
	case c.stream && !c.events.done:
		return fmt.Errorf("a stream without [DONE], of %d events", c.events.count)
	case c.stream && c.events.disorder > 0:
		return errors.New("a stream out of order")
	case c.stream && len(c.expect) > 0 && c.events.named != c.events.count:
		return errors.New("an event without the expected model")
	case !c.stream && len(c.expect) > 0 && !c.names(&c.body):
		return errors.New("an answer without the expected model")
	case !c.stream && !bytes.HasSuffix(bytes.TrimSpace(c.body.last), []byte("}")) && c.body.size > windowSize:
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (c *client) names(body *window) bool {
	return slices.ContainsFunc(c.expect, func(name string) bool { return body.has("model", `"`+name+`"`) })
}

// scanner reads the events of one stream out of pieces of any size.
type scanner struct {
	expect   [][]byte
	rest     []byte // the beginning of a line whose end has not come yet
	figures  *figures
	from     time.Time // of the request
	last     time.Time // of the last event
	sent     int64     // when the last event was sent, Unix ns
	count    int
	named    int
	disorder int
	done     bool
}

func (s *scanner) begin(from time.Time, f *figures) {
	*s = scanner{expect: s.expect, rest: s.rest[:0], figures: f, from: from}
}

func (s *scanner) add(piece []byte) {
	now := time.Now()
	if len(s.rest) > 0 {
		s.rest = append(s.rest, piece...)
		piece = s.rest
	}
	for {
		end := bytes.IndexByte(piece, '\n')
		if end < 0 {
			break
		}
		s.line(piece[:end], now)
		piece = piece[end+1:]
	}
	s.rest = append(s.rest[:0], piece...)
}

// line: an event of this API is one line, the empty one after it ends it.
func (s *scanner) line(text []byte, now time.Time) {
	if !bytes.HasPrefix(text, []byte("data: ")) {
		return
	}
	if bytes.HasPrefix(text, []byte("data: [DONE]")) {
		s.done = true
		return
	}
	content, isText := bytes.CutPrefix(member(text, "content"), []byte(`"`))
	if !isText || len(content) == 0 || content[0] == '"' { // an event without text: its role, its end
		return
	}
	if slices.ContainsFunc(s.expect, func(name []byte) bool { return bytes.Contains(text, name) }) {
		s.named++
	}
	if sent, digits := number(content); digits == 19 { // the stub's; a real engine's text is none
		if sent <= s.sent {
			s.disorder++
		}
		s.sent = sent
		s.figures.delay(now.UnixNano() - sent)
	}
	s.figures.event()
	if s.count == 0 {
		s.figures.first(now.Sub(s.from))
	} else {
		s.figures.gap(now.Sub(s.last))
	}
	s.count, s.last = s.count+1, now
}
