package feed

import (
	"sync/atomic"
	"time"
)

// lease is how long a proof of hearing holds: until so long after it was sent, by two clocks. One never jumps, the other
// goes on while the machine sleeps.
type lease struct {
	began    time.Time    // of the clock that never jumps
	steady   atomic.Int64 // nanoseconds since began; 0: no lease
	ofTheDay atomic.Int64 // Unix nanoseconds
}

// renew prolongs the lease. lapsed tells that somebody may have found it at its end before.
func (l *lease) renew(sent time.Time, length time.Duration) (lapsed bool) {
	until := sent.Add(length)
	ofTheDay, steady := l.ofTheDay.Swap(until.UnixNano()), l.steady.Swap(int64(until.Sub(l.began)))
	return !l.within(time.Now(), steady, ofTheDay) // now, and not before: they did not wait for us
}

func (l *lease) end() { l.steady.Store(0) }

func (l *lease) holds(now time.Time) bool { return l.within(now, l.steady.Load(), l.ofTheDay.Load()) }

func (l *lease) within(now time.Time, steady, ofTheDay int64) bool {
	return int64(now.Sub(l.began)) < steady && now.UnixNano() < ofTheDay
}
