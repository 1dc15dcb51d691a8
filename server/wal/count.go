package wal

import (
	"io"
	"time"

	"rowcast/server/metrics"
)

type counter interface{ Add(float64) }

// counting is a handler that counts what it hands on.
type counting struct {
	Handler
	inserts, updates, deletes, truncates, messages, large counter

	delay interface{ Observe(float64) }
	began Begin
}

func newCounting(h Handler, m *metrics.Metrics, stream string) *counting {
	kind := func(kind string) counter { return m.WALChanges.WithLabelValues(stream, kind) }
	return &counting{
		Handler: h, inserts: kind("insert"), updates: kind("update"), deletes: kind("delete"), truncates: kind("truncate"),
		messages: kind("message"), large: m.WALLarge.WithLabelValues(stream), delay: m.WALDelay.WithLabelValues(stream),
	}
}

func (c *counting) Begin(b Begin) {
	c.began = b
	c.Handler.Begin(b)
}

func (c *counting) Change(change Change) {
	switch change.Kind {
	case Insert:
		c.inserts.Add(1)
	case Update:
		c.updates.Add(1)
	case Delete:
		c.deletes.Add(1)
	}
	if change.Large {
		c.large.Add(1)
	}
	c.Handler.Change(change)
}

func (c *counting) Truncate(t Truncate) {
	c.truncates.Add(1)
	c.Handler.Truncate(t)
}

func (c *counting) Message(m Message) {
	c.messages.Add(1)
	c.Handler.Message(m)
}

func (c *counting) Commit() {
	c.Handler.Commit()
	c.delay.Observe(max(0, time.Since(c.began.Committed).Seconds())) // the clocks may differ
}

// counted counts the bytes that are read.
type counted struct {
	io.Reader
	bytes counter
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(float64(n))
	return n, err
}
