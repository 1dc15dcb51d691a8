package hub

// barrier is a place in a worker's share of the log, until it is passed: all who were in doubt there have been decided.
type barrier struct {
	doubts []doubt
	passed func()
}

// doubt is a subscription whose rights were not known at the barrier.
type doubt struct {
	sub   *Subscription
	marks uint64 // so far
}

// settled tells whether an answer has taken into account what was marked by then: all frames before the barrier have been
// released with it, or dropped. Marks that came later may have it in doubt again.
func (d doubt) settled() bool {
	switch g := &d.sub.gate; g.state {
	case gateJoining:
		return false
	case gateHeld:
		return g.answered >= d.marks
	}
	return true
}

// barrierHere sets the barrier. One that has not been passed yet is given up.
type barrierHere struct{ passed func() }

func (e barrierHere) apply(w *worker) {
	w.barrier = &barrier{passed: e.passed}
	for s := range w.private() {
		if d := (doubt{s, s.gate.marks}); !d.settled() {
			w.barrier.doubts = append(w.barrier.doubts, d)
		}
	}
}

// pass says that the barrier is behind us, when it is. It looks at those who have been decided, and at one more.
func (w *worker) pass() {
	b := w.barrier
	if b == nil {
		return
	}
	for n := len(b.doubts); n > 0 && b.doubts[n-1].settled(); n-- {
		b.doubts = b.doubts[:n-1]
	}
	if len(b.doubts) == 0 && !w.catchUp {
		w.barrier = nil
		b.passed()
	}
}
