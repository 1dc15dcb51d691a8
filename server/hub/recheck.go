package hub

import "time"

// Recheck has a part of all private subscriptions decided again, for changes that nobody tells of. Nothing is held
// meanwhile: what passes is what the last answer allows. false: the part before is still being decided.
func (h *Hub) Recheck(part, parts int) bool {
	if h.rechecks.Load() > 0 {
		return false
	}
	h.rechecks.Add(int64(h.options.Workers))
	h.log.appendToAll(recheck{uint(part), uint(parts)})
	return true
}

type recheck struct{ part, parts uint }

func (e recheck) apply(w *worker) {
	defer w.rechecks.Add(-1)
	if w.deaf {
		return // all are decided when it hears
	}
	for s := range w.private() {
		if g := &s.gate; s.turn%e.parts == e.part && g.state == gateOpen && !g.asking {
			s.rechecked = true
			w.rechecks.Add(1)
			w.options.Metrics.Rechecks.Inc()
			g.markedAt = time.Now() // from when a revocation is counted
			s.ask()
		}
	}
}

// endRecheck counts a subscription as answered, or gone.
func (w *worker) endRecheck(s *Subscription) {
	if s.rechecked {
		s.rechecked = false
		w.rechecks.Add(-1)
	}
}
