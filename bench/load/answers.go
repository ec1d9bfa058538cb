package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const streamHead = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"

const streamEnd = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

// event is one chunk of a stream, some 230 bytes, whose text is the time at which it was sent (Unix, ns). The load
// runs on the same machine, so by the same clock, and sees how long the event was under way.
type event struct {
	before, after string
}

func newEvent(model string) event {
	before := `data: {"id":"chatcmpl-8d76b65abad042ef912d4a0533d90d61","object":"chat.completion.chunk",` +
		`"created":1688919187,"model":"` + model + `","choices":[{"index":0,"delta":{"content":"`
	after := `"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	const digits = 19
	size := strconv.FormatInt(int64(len(before)+digits+len(after)), 16)
	return event{size + "\r\n" + before, after + "\r\n"}
}

func (e event) appendTo(out []byte, now time.Time) []byte {
	out = append(out, e.before...)
	out = strconv.AppendInt(out, now.UnixNano(), 10)
	return append(out, e.after...)
}

func chatAnswer(model string) []byte {
	return fmt.Appendf(nil, `{"id":"chatcmpl-8d76b65a-bad0-42ef-912d-4a0533d90d61","object":"chat.completion",`+
		`"created":1688919187,"model":"%s","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},`+
		`"logprobs":null,"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":320,"completion_tokens":70,"total_tokens":390}}`,
		model, strings.Repeat("The blue whale grows to twenty three metres. ", 9))
}

// embeddingsAnswer has the model after the vectors, where OpenAI and infinity write it.
func embeddingsAnswer(model string, inputs, dimensions int) []byte {
	out := []byte(`{"object":"list","data":[`)
	seed := uint32(1)
	for i := range inputs {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"object":"embedding","embedding":[`...)
		for j := range dimensions {
			if j > 0 {
				out = append(out, ',')
			}
			seed = seed*1664525 + 1013904223
			out = strconv.AppendFloat(out, (float64(seed)/(1<<32)-0.5)/10, 'g', 9, 64)
		}
		out = fmt.Appendf(out, `],"index":%d}`, i)
	}
	return fmt.Appendf(out, `],"model":"%s","usage":{"prompt_tokens":%d,"total_tokens":%d}}`, model, inputs*12, inputs*12)
}

func modelsAnswer(model string) []byte {
	return fmt.Appendf(nil, `{"object":"list","data":[{"id":"%s","object":"model","created":1688919187,`+
		`"owned_by":"bench"}]}`, model)
}
