package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"rowcast/server/protocol"
)

// firstRead is room for most bodies; it grows with what comes, not with what is announced.
const firstRead = 16 << 10

// body reads the request's body. A refusal has a code.
func (s *REST) body(c *call) (body []byte, a answer) {
	reader := c.Body
	if s.MaxBodyBytes > 0 {
		if c.ContentLength > int64(s.MaxBodyBytes) {
			return nil, refuse(http.StatusRequestEntityTooLarge, protocol.BodyTooLarge, s.MaxBodyBytes)
		}
		reader = http.MaxBytesReader(c.w, c.Body, int64(s.MaxBodyBytes))
	}
	for {
		if len(body) == cap(body) {
			more := max(firstRead, cap(body))
			if !c.hold(more) {
				return nil, busy(c)
			}
			grown := make([]byte, len(body), cap(body)+more)
			copy(grown, body)
			body = grown
		}
		n, err := reader.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == nil {
			continue
		}
		// The server's own timeouts count from the beginning of the request.
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(answerTime)) // if not, it is the old one
		if err == io.EOF {
			return body, answer{}
		}
		return nil, s.unread(err)
	}
}

// unread is the answer to a body that did not come.
func (s *REST) unread(err error) answer {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, protocol.BodyTooLarge, s.MaxBodyBytes)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, protocol.BodyTooSlow)
	}
	return refuse(http.StatusBadRequest, protocol.MalformedBody, "The body did not arrive whole")
}

// malformed is the answer to a body that is no JSON.
func malformed(err error) answer {
	text := "The body is not JSON"
	switch {
	case errors.Is(err, protocol.ErrUTF8):
		text = "The body is not UTF-8"
	case errors.Is(err, protocol.ErrTooDeep):
		text = "The body " + protocol.TextTooDeep
	}
	a := refuse(http.StatusBadRequest, protocol.MalformedBody, text)
	a.sends = 1
	return a
}
