package main

import (
	"math"
	"math/bits"
	"time"
)

// subBuckets divide each power of two: a quantile is exact to 1.6 %.
const subBuckets = 64

// histogram counts durations without remembering them.
type histogram struct {
	buckets [64 * subBuckets]int64
	count   int64
}

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 1))
	power := bits.Len64(v) - 1
	// The bits after the first, as many as there are sub-buckets.
	sub := (v << (63 - power) >> (63 - 6)) & (subBuckets - 1)
	h.buckets[power*subBuckets+int(sub)]++
	h.count++
}

// quantile is the middle of the bucket in which it lies; 0 if there is nothing.
func (h *histogram) quantile(q float64) time.Duration {
	left := max(1, int64(math.Ceil(q*float64(h.count))))
	for i, n := range h.buckets {
		if left -= n; n > 0 && left <= 0 {
			power, sub := i/subBuckets, i%subBuckets
			return time.Duration(math.Ldexp(1+(float64(sub)+0.5)/subBuckets, power))
		}
	}
	return 0
}
