package feed

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := lease{began: time.Now()}
		holds := func(want bool, when string) {
			t.Helper()
			if l.holds(time.Now()) != want {
				t.Errorf("%s: holds is %v", when, !want)
			}
		}
		holds(false, "at the beginning")
		if !l.renew(time.Now(), 5*time.Second) {
			t.Error("the first was said to prolong another")
		}
		holds(true, "at once")
		time.Sleep(4 * time.Second)
		holds(true, "before its end")
		if l.renew(time.Now().Add(-2*time.Second), 5*time.Second) { // it counts from when the proof was sent
			t.Error("prolonged in time, but said to have lapsed")
		}
		time.Sleep(2 * time.Second)
		holds(true, "prolonged")
		time.Sleep(time.Second)
		holds(false, "at the end of what was prolonged")
		if !l.renew(time.Now(), time.Minute) {
			t.Error("it had lapsed")
		}
		// The machine slept: the steady clock stood still.
		if now := time.Now(); l.within(now, l.steady.Load(), now.UnixNano()-1) {
			t.Error("holds after the time of day has passed its end")
		}
		l.end()
		holds(false, "after its end was said")
	})
}
