package main

import (
	"math"
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := range 10_000 {
		h.add(time.Duration(i+1) * 37 * time.Microsecond)
	}
	for _, q := range []float64{0.001, 0.5, 0.99, 1} {
		got, want := float64(h.quantile(q)), q*10_000*37e3
		if math.Abs(got/want-1) > 1.0/subBuckets {
			t.Errorf("quantile %v: %v, want %v", q, time.Duration(got), time.Duration(want))
		}
	}
	h.add(-1)
	h.add(math.MaxInt64)
	if got := h.quantile(1); got < math.MaxInt64/64*63 {
		t.Errorf("the longest: %v", got)
	}
}
