package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

var errHead = errors.New("not an HTTP head")

// head is what this program needs of the head of a request or an answer.
type head struct {
	path    string // of a request
	status  int    // of an answer
	length  int64  // -1: not said
	chunked bool
	close   bool
}

// readHead reads to the empty line. io.EOF: the peer closed before the first byte.
func readHead(r *bufio.Reader) (head, error) {
	h := head{length: -1}
	line, err := r.ReadSlice('\n')
	if err != nil {
		if len(line) > 0 {
			err = errHead
		}
		return h, err
	}
	parts := bytes.SplitN(line, []byte(" "), 3)
	if len(parts) < 2 {
		return h, errHead
	}
	if bytes.HasPrefix(parts[0], []byte("HTTP/1.")) {
		h.status, _ = strconv.Atoi(string(bytes.TrimSpace(parts[1])))
		h.close = parts[0][7] == '0'
	} else {
		h.path = string(parts[1])
	}
	for {
		line, err = r.ReadSlice('\n')
		if err != nil {
			return h, errHead
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		h.field(line)
	}
}

func (h *head) field(line []byte) {
	switch line[0] | 0x20 { // most lines are of no interest: their first letter says so
	case 'c':
		if v := value(line, "content-length:"); v != nil {
			if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
				h.length = n
			}
		} else if v := value(line, "connection:"); v != nil {
			h.close = bytes.EqualFold(v, []byte("close"))
		}
	case 't':
		if v := value(line, "transfer-encoding:"); v != nil {
			h.chunked = bytes.EqualFold(v, []byte("chunked"))
		}
	}
}

// value returns what follows the name, or nil where the line has another.
func value(line []byte, name string) []byte {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil
	}
	return bytes.TrimSpace(line[len(name):])
}

// readBody hands the body to sink, piece by piece; a piece is valid only during the call.
// untilClose: a body without a length goes on until the peer closes (an answer), else there is none (a request).
func readBody(r *bufio.Reader, h head, untilClose bool, sink func([]byte)) error {
	switch {
	case h.chunked:
		return readChunks(r, sink)
	case h.length >= 0:
		return feed(r, h.length, sink)
	case untilClose:
		if err := feed(r, 1<<62, sink); err != io.EOF {
			return err
		}
	}
	return nil
}

func readChunks(r *bufio.Reader, sink func([]byte)) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		text, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(";"))
		size, err := strconv.ParseInt(string(text), 16, 64)
		if err != nil {
			return err
		}
		if err := feed(r, size, sink); err != nil {
			return err
		}
		if _, err := r.ReadSlice('\n'); err != nil { // the chunk's own line end; after the last chunk the body's
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

func feed(r *bufio.Reader, n int64, sink func([]byte)) error {
	for n > 0 {
		if _, err := r.Peek(1); err != nil {
			return err
		}
		piece, _ := r.Peek(int(min(n, int64(r.Buffered()))))
		sink(piece)
		n -= int64(len(piece))
		r.Discard(len(piece))
	}
	return nil
}

// window keeps both ends of a body: what is to be read in it stands there, a large middle is only counted.
type window struct {
	first, last []byte
	size        int64
}

const windowSize = 2048

func (w *window) reset() {
	w.first, w.last, w.size = w.first[:0], w.last[:0], 0
}

func (w *window) add(piece []byte) {
	w.size += int64(len(piece))
	if room := windowSize - len(w.first); room > 0 {
		n := min(room, len(piece))
		w.first = append(w.first, piece[:n]...)
		piece = piece[n:]
	}
	if len(piece) > windowSize {
		w.last = w.last[:0]
		piece = piece[len(piece)-windowSize:]
	}
	if over := len(w.last) + len(piece) - windowSize; over > 0 {
		w.last = append(w.last[:0], w.last[over:]...)
	}
	w.last = append(w.last, piece...)
}

// has looks for a member of a JSON object, written with or without a space after the colon.
func (w *window) has(name, value string) bool {
	return hasMember(w.first, name, value) || hasMember(w.last, name, value)
}

func hasMember(text []byte, name, value string) bool {
	return bytes.HasPrefix(member(text, name), []byte(value))
}

// member returns the text from the value of the first member with that name on, or nil.
func member(text []byte, name string) []byte {
	_, after, found := bytes.Cut(text, []byte(`"`+name+`":`))
	if !found {
		return nil
	}
	return bytes.TrimLeft(after, " ")
}

// number reads the digits that a text begins with.
func number(text []byte) (n int64, digits int) {
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
		digits++
	}
	return n, digits
}
