package socket

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Drain accepts no new sockets any more, and closes those that are open one by one, at random moments within spread, so
// that their clients do not all come back at the same time. Each is given to per (if not nil), for a last word, and then
// closed with code 1012. Drain returns when all have been told: none is given a frame, or heard, from then on. Gone waits
// for their end. When ctx ends first, Drain returns an error.
func (s *Server) Drain(ctx context.Context, per func(*Conn), spread time.Duration) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	return s.dismissAll(ctx, per, spread)
}

// Suspend is a Drain for a time: handshakes are refused with why until Resume.
func (s *Server) Suspend(ctx context.Context, why Refusal, per func(*Conn), spread time.Duration) error {
	s.mu.Lock()
	s.suspended = &why
	s.mu.Unlock()
	return s.dismissAll(ctx, per, spread)
}

// Resume ends Suspend, but not a Drain or Close.
func (s *Server) Resume() {
	s.mu.Lock()
	s.suspended = nil
	s.mu.Unlock()
}

// Gone returns when no socket is left, or with an error when ctx ends first.
func (s *Server) Gone(ctx context.Context) error {
	select {
	case <-s.empty():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain sockets, %d left: %w", s.Count(), context.Cause(ctx))
	}
}

// dismissAll tells all that are open to go.
func (s *Server) dismissAll(ctx context.Context, per func(*Conn), spread time.Duration) error {
	conns := s.All()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	moments := make([]time.Duration, len(conns))
	if spread > 0 {
		for i := range moments {
			moments[i] = rand.N(spread)
		}
		slices.Sort(moments)
	}
	start := time.Now()
	for i, c := range conns {
		if !sleep(ctx, moments[i]-time.Since(start)) {
			return fmt.Errorf("drain sockets, %d not told: %w", len(conns)-i, context.Cause(ctx))
		}
		if per != nil {
			per(c)
		}
		c.Close(codeRestart, Restarting)
	}
	return nil
}

// sleep waits for d, or returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends what Start began, accepts no new sockets, drops those that are open and waits until nothing of them is
// left, their handlers' Closed included.
func (s *Server) Close() {
	s.stopOnce.Do(func() { close(s.stop) })
	s.sweeping.Wait()
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	for _, c := range s.All() {
		c.Kill(Restarting)
	}
	<-s.empty()
}
