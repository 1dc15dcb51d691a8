package bucket

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		for i, step := range []struct {
			wait time.Duration
			n    int
			want bool
			left int
		}{
			{0, 11, false, 10}, {0, 4, true, 6}, {0, 7, false, 6}, {0, 6, true, 0}, {0, 1, false, 0},
			{500 * time.Millisecond, 5, true, 0}, {time.Hour, 11, false, 10}, {0, 10, true, 0},
		} {
			time.Sleep(step.wait)
			if got := b.Take(step.n); got != step.want || b.Left() != step.left {
				t.Errorf("step %d: %t and %d left, want %t and %d", i, got, b.Left(), step.want, step.left)
			}
		}
	})
}

// One that is larger than the bucket goes through a full one alone, and is paid for afterwards.
func TestTakeAny(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		for i, step := range []struct {
			wait time.Duration
			n    int
			want bool
		}{
			{0, 35, true}, {0, 1, false}, {2500 * time.Millisecond, 1, false}, {100 * time.Millisecond, 1, true},
			{0, 35, false}, {time.Second, 35, true}, {0, 0, false}, {time.Hour, 10, true}, {0, 1, false},
		} {
			time.Sleep(step.wait)
			if got := b.TakeAny(step.n); got != step.want {
				t.Errorf("step %d: %t, want %t", i, got, step.want)
			}
		}
	})
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	b := New(0)
	for range 100 {
		if !b.Take(1<<30) || !b.TakeAny(1<<30) {
			t.Fatal("limited")
		}
	}
}
