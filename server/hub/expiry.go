package hub

import "time"

// expiry is the moment at which a subscription's rights end or begin by themselves, as its last answer had it.
type expiry struct {
	sub   *Subscription
	at    time.Time
	timer *time.Timer
}

// expire has a subscription decided again at that moment, and no more at the one before; never, if it is zero.
func (w *worker) expire(s *Subscription, at time.Time) {
	if s.expiry != nil {
		s.expiry.timer.Stop()
		s.expiry = nil
	}
	if !at.IsZero() {
		s.expiry = &expiry{sub: s, at: at}
		s.expiry.timer = w.later(time.Until(at), s.expiry)
	}
}

// apply makes it a mark, though nothing was committed.
func (e *expiry) apply(w *worker) {
	if e.sub.expiry == e { // else its time came while something else was decided
		e.sub.expiry = nil
		w.mark(e.sub, &marking{mark: Mark{Lenient: true}, heard: e.at})
	}
}
