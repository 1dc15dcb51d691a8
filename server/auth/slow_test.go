package auth

import (
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/metrics"
)

// A lock keeps a topic out of the batches for a moment, policies that take too long for longer. Who waits for his turn alone
// when that is over is asked with others again.
func TestTopicsAreSlowForAWhile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		codes []string
		want  time.Duration
	}{
		{"a lock", []string{lockTimedOut}, lockedFor},
		{"a policy", []string{timedOut}, slowFor},
		{"a lock, then a policy", []string{lockTimedOut, timedOut}, slowFor},
		{"a policy, then a lock", []string{timedOut, lockTimedOut}, slowFor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := NewDecider(DeciderOptions{Metrics: metrics.New()})
				for _, code := range tt.codes {
					d.setSlow("t", code)
				}
				a := &ask{Request: Request{Topic: "t", Fenced: true, Since: time.Now()}}
				d.put(a)
				time.Sleep(tt.want - time.Nanosecond)
				batch := d.sift(&d.changes.slow, d.changes.slow.take(1))
				if len(batch) != 1 {
					t.Fatalf("before %s is over: %d to be asked alone", tt.want, len(batch))
				}
				time.Sleep(time.Nanosecond)
				if left := d.sift(&d.changes.slow, batch); len(left) != 0 || len(d.changes.quick.asks) != 1 {
					t.Errorf("after %s: %d to be asked alone, %d with others", tt.want, len(left), len(d.changes.quick.asks))
				}
			})
		})
	}
}
