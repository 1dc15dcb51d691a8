package changes

import (
	"sync/atomic"
	"time"

	"rowcast/server/protocol"
)

const (
	// fullAt is how much may have been given to a reader until it is waited for: less than a socket's queue holds.
	fullAt = 256 << 10
	// patience is how long a batch waits for readers in all. Who does not read in this time is not waited for again before it
	// has read everything: it may be cut by its own bound.
	patience = 100 * time.Millisecond
)

// delivery is what is given to the readers of a batch.
type delivery struct {
	*loop
	outlets []Outlet
	filling []*Subscription
	left    time.Duration // of the patience
	frames  int           // given, and not counted yet: the metric is shared, and costs as much as the rest
}

func newDelivery(l *loop) *delivery { return &delivery{loop: l, left: patience} }

// give gives a frame to one, now or behind its snapshot.
func (d *delivery) give(s *Subscription, f *protocol.Frame) {
	d.frames++
	if s.reading != nil {
		s.reading.hold(d.loop, s, held{frame: f}, f.Size())
		return
	}
	d.hand(s, f)
}

func (d *delivery) hand(s *Subscription, f *protocol.Frame) {
	if outlet := s.Member.Deliver(f); outlet != nil {
		d.outlets = append(d.outlets, outlet)
	}
	before := s.given
	if s.given += f.Size(); before < fullAt && s.given >= fullAt {
		d.filling = append(d.filling, s)
	}
}

// notice tells one something in its place among the frames.
func (d *delivery) notice(s *Subscription, text string) {
	if s.reading != nil {
		s.reading.hold(d.loop, s, held{word: notice{text: text}}, len(text))
		return
	}
	s.Member.Notice("", text)
}

// flush has what was given leave.
func (d *delivery) flush() {
	for _, o := range d.outlets {
		o.Flush()
	}
	clear(d.outlets)
	d.outlets = d.outlets[:0]
}

// relieve waits for readers who were given much, so that those who read at all are not cut by a long transaction.
func (d *delivery) relieve() {
	if len(d.filling) == 0 {
		return
	}
	d.flush()
	drained := make(chan struct{})
	var left atomic.Int64
	left.Store(1)
	passed := func() {
		if left.Add(-1) == 0 {
			close(drained)
		}
	}
	for _, s := range d.filling {
		s.given = 0
		if s.ended.Load() || s.slow.Swap(true) {
			continue
		}
		left.Add(1)
		s.Member.Drained(func() {
			s.slow.Store(false)
			passed()
		})
	}
	clear(d.filling)
	d.filling = d.filling[:0]
	passed()
	began := time.Now()
	select {
	case <-drained:
	case <-time.After(d.left):
	case <-d.ctx.Done():
	}
	d.left = max(0, d.left-time.Since(began))
}

func (d *delivery) end() {
	d.relieve()
	d.flush()
	d.Metrics.ChangesDelivered.Add(float64(d.frames))
	d.frames = 0
}
