package wal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// shortValue is the longest value that is kept of a change that is too large: keys are shorter, as a rule.
	shortValue = 64
	// frameHeader is a message's kind and length; walHeader what is in front of one of pgoutput: a kind, two places, a time.
	frameHeader, walHeader = 1 + 4, 1 + 8 + 8 + 8
	// readBuffer is what is read from the connection at a time.
	readBuffer = 64 << 10
)

// errMalformed is what Postgres does not send.
var errMalformed = errors.New("malformed message of pgoutput")

// shrinker reads what Postgres sends and passes it on as it is, but for changes that are larger than the limit: of these, the
// values longer than shortValue are left out. So a large row is never in memory as a whole.
//
// In the tuple, what was left out has the kind TooLarge, which pgoutput does not know, and nothing behind it. Of a logical
// message the content is left out.
type shrinker struct {
	r     *bufio.Reader
	limit int    // bytes of a message of pgoutput; 0: none
	pass  int    // bytes that go on as they are
	out   []byte // a message that was rewritten, and waits to be read
	err   error  // why nothing more can be read
}

func newShrinker(r io.Reader, limit int) *shrinker {
	return &shrinker{r: bufio.NewReaderSize(r, readBuffer), limit: limit}
}

// Read waits only while it has nothing to give.
func (s *shrinker) Read(p []byte) (n int, err error) {
	for n < len(p) && s.err == nil {
		switch {
		case len(s.out) > 0:
			copied := copy(p[n:], s.out)
			n, s.out = n+copied, s.out[copied:]
		case n > 0 && s.r.Buffered() < frameHeader+walHeader+1:
			return n, nil
		case s.pass > 0:
			var read int
			read, s.err = s.r.Read(p[n:min(len(p), n+s.pass)])
			n, s.pass = n+read, s.pass-read
		default:
			s.out = nil
			s.err = s.next()
		}
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, s.err
}

// next looks at the beginning of a message.
func (s *shrinker) next() error {
	head, err := s.r.Peek(frameHeader)
	if err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint32(head[1:])) // of itself and the body
	if length < 4 {
		return fmt.Errorf("read a message from Postgres: its length is %d", length)
	}
	s.pass = 1 + length
	if body := length - 4; head[0] != 'd' || s.limit == 0 || body-walHeader <= max(s.limit, 1) {
		return nil
	}
	if head, err = s.r.Peek(frameHeader + walHeader + 1); err != nil {
		return err
	}
	if head[frameHeader] != 'w' {
		return nil
	}
	switch kind := head[frameHeader+walHeader]; kind {
	case 'I', 'U', 'D', 'M':
		s.pass = 0
		if s.out, err = rewrite(s.r, kind, length); err != nil {
			return fmt.Errorf("leave out what is too large: %w", err)
		}
	}
	return nil
}

// rewrite reads a message and gives what remains of it.
func rewrite(r *bufio.Reader, kind byte, length int) ([]byte, error) {
	c := cutter{r: r, left: 1 + length}
	c.keep(frameHeader + walHeader + 1)
	if kind == 'M' {
		c.keep(1 + 8) // flags, place
		c.text()
		c.skip(int(c.uint32())) // content
		c.out = append(c.out, 0, 0, 0, 0)
	} else {
		c.keep(4) // relation
		c.tuple()
		if kind == 'U' && c.left > 0 {
			c.tuple()
		}
	}
	if c.err == nil && c.left > 0 {
		c.err = errMalformed
	}
	if c.err != nil {
		return nil, c.err
	}
	binary.BigEndian.PutUint32(c.out[1:], uint32(len(c.out)-1))
	return c.out, nil
}

// cutter keeps parts of a message and skips others, until an error.
type cutter struct {
	r    *bufio.Reader
	left int // bytes of the message
	out  []byte
	err  error
}

// take tells whether the message goes on for so long.
func (c *cutter) take(n int) bool {
	if c.err == nil && (n < 0 || n > c.left) {
		c.err = errMalformed
	}
	c.left -= n
	return c.err == nil
}

func (c *cutter) keep(n int) {
	if !c.take(n) {
		return
	}
	at := len(c.out)
	c.out = append(c.out, make([]byte, n)...)
	_, c.err = io.ReadFull(c.r, c.out[at:])
}

func (c *cutter) skip(n int) {
	if c.take(n) {
		_, c.err = c.r.Discard(n)
	}
}

// uint32 reads a number without keeping it.
func (c *cutter) uint32() (n uint32) {
	if c.take(4) {
		var b [4]byte
		_, c.err = io.ReadFull(c.r, b[:])
		n = binary.BigEndian.Uint32(b[:])
	}
	return n
}

// text keeps the beginning of a text that ends with a zero.
func (c *cutter) text() {
	for kept := 0; c.take(1); {
		var b byte
		if b, c.err = c.r.ReadByte(); b == 0 {
			c.out = append(c.out, 0)
			return
		}
		if kept < shortValue {
			c.out = append(c.out, b)
			kept++
		}
	}
}

func (c *cutter) tuple() {
	c.keep(1 + 2) // kind, number of columns
	if c.err != nil {
		return
	}
	columns := binary.BigEndian.Uint16(c.out[len(c.out)-2:])
	for range columns {
		if c.keep(1); c.err != nil {
			return
		}
		kind := &c.out[len(c.out)-1]
		if *kind != 't' && *kind != 'b' {
			continue
		}
		length := c.uint32()
		if length > shortValue {
			*kind = byte(TooLarge)
			c.skip(int(length))
			continue
		}
		c.out = binary.BigEndian.AppendUint32(c.out, length)
		c.keep(int(length))
	}
}
