package hub

import "testing"

// modelBarrier is where the model set a barrier, as the model knows it.
type modelBarrier struct {
	sub     *Subscription
	heard   int  // commits whose marks had been told
	place   int  // the frames that had been given
	allowed bool // whether the subject had the right after these commits
	digest  uint64
}

// setBarrier has the worker wait until all that was told so far is done.
func (m *model) setBarrier() {
	m.poll() // realtime.sync() begins with that
	allowed := true
	for _, c := range m.commits[:m.heard] {
		allowed = c.allowed
	}
	m.barrier = &modelBarrier{m.sub, m.heard, len(m.frames), allowed && !m.shut, m.digest}
	barrierHere{m.passed}.apply(m.worker)
	if m.hasty {
		m.worker.barrier.doubts = nil
	}
}

// passed checks that nothing of what was told before the barrier is still to come, and that no right lives on that was gone
// by then.
func (m *model) passed() {
	b := m.barrier
	m.barrier = nil
	for _, c := range append(m.backlog, m.late...) {
		for _, before := range m.commits[:b.heard] {
			if c == before && m.connected {
				m.violation("%v not told, committed before a barrier that is passed", c)
			}
		}
	}
	if m.sub != b.sub || m.ended {
		return
	}
	for _, w := range m.sub.gate.waiting {
		if w.frame != nil && m.frames[w.frame] != nil && m.frames[w.frame].place < b.place {
			m.violation("a frame waits that was given before a barrier that is passed")
		}
	}
	for _, c := range m.commits[b.heard:] {
		if c.allowed {
			return // regained: an answer may have seen that
		}
	}
	if !b.allowed && m.digest == b.digest {
		m.violation("a subscription lives whose right was gone before a barrier that is passed")
	}
}

// A barrier that does not wait must be found out.
func TestModelFindsBarrierThatDoesNotWait(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		if len(play{barriers: true, hasty: true, outages: true}.run(seed)) > 0 {
			return
		}
	}
	t.Fatal("200 runs with barriers that do not wait, and no violation found")
}
