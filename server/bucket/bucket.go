// Package bucket limits how much somebody may do in a second.
package bucket

import (
	"time"

	"golang.org/x/time/rate"
)

// Bucket holds one second's worth, and fills in a second. It is safe for concurrent use.
type Bucket struct{ limiter *rate.Limiter } // nil: no limit

// New is a full bucket; 0 lifts the limit.
func New(perSecond int) Bucket {
	if perSecond == 0 {
		return Bucket{}
	}
	return Bucket{rate.NewLimiter(rate.Limit(perSecond), perSecond)}
}

// Take takes n, or nothing if there is less.
func (b Bucket) Take(n int) bool { return b.limiter == nil || b.limiter.AllowN(time.Now(), n) }

// TakeAny takes n. A full bucket gives any number, and is then in debt: who sends 3 MB at once waits for as long as it takes
// to be given 3 MB.
func (b Bucket) TakeAny(n int) bool {
	if b.limiter == nil {
		return true
	}
	now, most := time.Now(), b.limiter.Burst()
	if !b.limiter.AllowN(now, min(n, most)) {
		return false
	}
	for n -= most; n > 0; n -= most {
		b.limiter.ReserveN(now, min(n, most))
	}
	return true
}

// Left is how much there is.
func (b Bucket) Left() int {
	if b.limiter == nil {
		return 0
	}
	return max(0, int(b.limiter.Tokens()))
}
