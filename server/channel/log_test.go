package channel

import (
	"testing"
	"testing/synctest"
	"time"
)

// However many channels end, the log stays readable; what is left out is counted.
func TestEndsAreLoggedSparingly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l endLog
		logged := 0
		for range 10_000 {
			if skipped, ok := l.next(); ok {
				if logged++; skipped != 0 {
					t.Fatalf("%d left out before the first that was", skipped)
				}
			}
		}
		if logged != endsBurst {
			t.Errorf("%d lines at once, want %d", logged, endsBurst)
		}
		time.Sleep(time.Second)
		if skipped, ok := l.next(); !ok || skipped != int64(10_000-logged) {
			t.Errorf("a second later: %t, %d left out", ok, skipped)
		}
		if skipped, ok := l.next(); !ok || skipped != 0 {
			t.Errorf("then: %t, %d left out", ok, skipped)
		}
	})
}
