package channel

import (
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Lines about ended channels: clients that are refused try again, as often as their limits allow, and a silence of the
// database may end all channels at once. The metrics count every one.
const (
	endsPerSecond = 50
	endsBurst     = 500
)

// endLog bounds how many ends are logged.
type endLog struct {
	lines   atomic.Pointer[rate.Limiter] // made at the first
	skipped atomic.Int64
}

// next tells whether an end may be logged, and how many were not since the last one that was.
func (l *endLog) next() (skipped int64, ok bool) {
	if l.lines.Load() == nil {
		l.lines.CompareAndSwap(nil, rate.NewLimiter(endsPerSecond, endsBurst))
	}
	if !l.lines.Load().Allow() {
		l.skipped.Add(1)
		return 0, false
	}
	return l.skipped.Swap(0), true
}

// logEnd says why the server ended a channel, or refused it.
func (c *Channel) logEnd(reason any, more ...any) {
	skipped, ok := c.session.ends.next()
	if !ok {
		return
	}
	if skipped > 0 {
		more = append(more, "ends_not_logged", skipped)
	}
	c.session.log().Info("channel ended", append([]any{"topic", c.name, "reason", reason}, more...)...)
}
