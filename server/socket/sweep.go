package socket

import "time"

// sweepsPerTimeout is how often sockets are looked at: at most a twelfth of a timeout late, 5 s by default.
const sweepsPerTimeout = 12

// Start begins to look for sockets that are idle or too far behind: one sweep for all, instead of timers for each. Close
// ends it.
func (s *Server) Start() {
	var every time.Duration
	for _, timeout := range []time.Duration{s.opt.MaxQueueAge, s.opt.IdleTimeout, s.opt.UnusedTimeout} {
		if timeout > 0 && (every == 0 || timeout < every) {
			every = timeout
		}
	}
	if every == 0 {
		return
	}
	s.sweeping.Go(func() {
		tick := time.NewTicker(max(every/sweepsPerTimeout, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.sweep()
			case <-s.stop:
				return
			}
		}
	})
}

// sweep closes the sockets from which nothing was received for IdleTimeout (pings and pongs count), and those for which
// a frame has waited longer than MaxQueueAge. Nor may one message take longer than IdleTimeout to arrive: no heartbeat
// gets past it, so clients that live by theirs have given up before. Without that a client could have the server keep the
// beginning of a large message for ever. A client that goes on to say that it lives, and nothing else, may do so for
// UnusedTimeout.
func (s *Server) sweep() {
	now := s.now()
	oldest := now - int64(s.opt.IdleTimeout)
	for _, c := range s.All() {
		began := c.tap.began.Load()
		switch {
		case s.opt.IdleTimeout > 0 && c.lastRead.Load() <= oldest:
			c.Close(codeNormal, Idle)
		case s.opt.IdleTimeout > 0 && began != 0 && began <= oldest:
			c.Close(codePolicy, FrameTooSlow)
		case s.opt.UnusedTimeout > 0 && c.unusedFor(now) > int64(s.opt.UnusedTimeout):
			c.Close(codeNormal, Unused)
		case s.opt.MaxQueueAge > 0:
			c.checkAge(now, int64(s.opt.MaxQueueAge))
		}
	}
}

// unusedFor is how long the handler has had no use for the socket, as the sweeps saw it.
func (c *Conn) unusedFor(now int64) int64 {
	h := c.Handler()
	switch {
	case h == nil || h.InUse():
		c.unused = 0
		return 0
	case c.unused == 0:
		c.unused = now
	}
	return now - c.unused
}

// backlog remembers of one sweep what was waiting, instead of a time for every frame.
type backlog struct {
	seen int64  // when; 0: nothing was waiting
	last uint64 // how many frames will have gone when all of it has
}

// checkAge ends the socket if the frames that an earlier sweep saw waiting still do.
func (c *Conn) checkAge(now, limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, b := &c.queue, &c.backlog
	switch {
	case c.shut.Load():
	case b.seen == 0 || q.out >= b.last:
		*b = backlog{}
		if q.len() > 0 {
			*b = backlog{now, q.out + uint64(q.len())}
		}
	case now-b.seen > limit:
		c.giveUpLocked()
	}
}
