package socket

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainSpreads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, spread = 100, 10 * time.Second
		r := newRig(t, Options{IdleTimeout: -1})
		left := make(chan time.Duration, n)
		var sessions []*session
		begin := time.Now()
		for range n {
			c, s := r.pipe(t)
			sessions = append(sessions, s)
			go func() {
				c.expect(t, opText, "goodbye")
				left <- time.Since(begin)
				c.expectClose(t, codeRestart)
			}()
		}
		told := map[*Conn]int{}
		err := r.Drain(t.Context(), func(c *Conn) {
			told[c]++
			c.Send(text("goodbye"))
		}, spread)
		if err != nil {
			t.Fatal(err)
		}
		if r.Count() != 0 || len(told) != n {
			t.Fatalf("%d left, %d told", r.Count(), len(told))
		}
		seconds := map[time.Duration]bool{}
		for range n {
			d := <-left
			if d > spread {
				t.Fatalf("one was told after %v", d)
			}
			seconds[d/time.Second] = true
		}
		if len(seconds) < 5 { // the chance of that is below 10^-30
			t.Fatalf("all left in %d of 10 seconds", len(seconds))
		}
		for _, s := range sessions {
			s.expectClosed(t, Restarting)
		}
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		_, s := r.pipe(t) // which never answers
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Drain(ctx, nil, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if r.Count() != 1 {
			t.Fatal("gone already")
		}
		begin := time.Now()
		r.Close()
		if r.Count() != 0 || time.Since(begin) != 0 {
			t.Fatalf("%d left after Close, which took %v", r.Count(), time.Since(begin))
		}
		s.expectClosed(t, Restarting)
		r.Close() // a second one is harmless
	})
}

func TestDrainWithoutSockets(t *testing.T) {
	t.Parallel()
	s := NewServer(Options{})
	if err := s.Drain(t.Context(), func(*Conn) { t.Error("called") }, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.Close() // without Start
}
