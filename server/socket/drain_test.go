package socket

import (
	"context"
	"errors"
	"net/http"
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
		if err := errors.Join(err, r.Gone(t.Context())); err != nil {
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

func TestDrainIsOverOnceAllAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		_, s := r.pipe(t) // which never answers
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := r.Drain(ctx, nil, 0); err != nil || time.Since(begin) != 0 {
			t.Fatal(time.Since(begin), err)
		}
		if err := r.Gone(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if r.Count() != 1 {
			t.Fatal("gone already")
		}
		begin = time.Now()
		r.Close()
		if r.Count() != 0 || time.Since(begin) != 0 {
			t.Fatalf("%d left after Close, which took %v", r.Count(), time.Since(begin))
		}
		s.expectClosed(t, Restarting)
		r.Close() // a second one is harmless
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		_, s := r.pipe(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Drain(ctx, nil, time.Hour); !errors.Is(err, context.Canceled) || r.Count() != 1 {
			t.Fatal(r.Count(), err)
		}
		r.Close()
		s.expectClosed(t, Restarting)
	})
}

// A suspension tells those that are there to go, refuses newcomers with its own words, and ends; a drain does not.
func TestSuspend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		c, s := r.pipe(t)
		why := Refusal{http.StatusServiceUnavailable, "somebody else serves", "elsewhere"}
		if err := r.Suspend(t.Context(), why, nil, 0); err != nil {
			t.Fatal(err)
		}
		c.expectClose(t, codeRestart)
		s.expectClosed(t, Restarting)
		if got := r.admit(); got == nil || *got != why {
			t.Errorf("refused with %v, want %v", got, why)
		}
		r.Resume()
		if got := r.admit(); got != nil {
			t.Errorf("refused with %v after Resume", got)
		}
		r.release()
		if err := r.Drain(t.Context(), nil, 0); err != nil {
			t.Fatal(err)
		}
		r.Resume()
		if got := r.admit(); got == nil || got.Reason != RefusedDraining {
			t.Errorf("refused with %v after Drain and Resume", got)
		}
		r.Close()
	})
}

// A handshake that began before the suspension leads to no socket that stays.
func TestSuspendDuringAHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{IdleTimeout: -1})
		open := r.opt.Open
		r.opt.Open = func(req *http.Request) (Opener, *Refusal) {
			if err := r.Suspend(t.Context(), Refusal{Reason: "elsewhere"}, nil, 0); err != nil {
				t.Error(err)
			}
			return open(req)
		}
		c, s := r.pipe(t)
		c.expectClose(t, codeRestart)
		s.expectClosed(t, Restarting)
	})
}

func TestDrainWithoutSockets(t *testing.T) {
	t.Parallel()
	s := NewServer(Options{})
	if err := s.Drain(t.Context(), func(*Conn) { t.Error("called") }, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close() // without Start
}
