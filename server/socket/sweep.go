package socket

import "time"

// sweepsPerTimeout is how often idle sockets are looked for: at most a twelfth of IdleTimeout late, 5 s by default.
const sweepsPerTimeout = 12

// Start begins to look for idle sockets: one sweep for all, instead of a timer for each. Close ends it.
func (s *Server) Start() {
	if s.opt.IdleTimeout < 0 {
		return
	}
	s.sweeping.Go(func() {
		tick := time.NewTicker(max(s.opt.IdleTimeout/sweepsPerTimeout, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.closeIdle()
			case <-s.stop:
				return
			}
		}
	})
}

// closeIdle closes the sockets from which nothing was received for IdleTimeout; pings and pongs count.
func (s *Server) closeIdle() {
	oldest := s.now() - int64(s.opt.IdleTimeout)
	for _, c := range s.snapshot() {
		if c.lastRead.Load() <= oldest {
			c.Close(codeNormal, Idle)
		}
	}
}
