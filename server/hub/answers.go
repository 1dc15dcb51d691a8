package hub

import (
	"time"

	"golang.org/x/time/rate"
)

// A subscription is decided again at once, and again, but not for ever: beyond the burst so many times a second.
const (
	againPerSecond = 20
	againBurst     = 20
)

// maxJoinAsks is how often a join is asked about while marks keep coming: with their pace, a few seconds.
const maxJoinAsks = 60

// rebind has a subscription live by other claims.
type rebind struct {
	sub     *Subscription
	subject string
}

func (e rebind) apply(w *worker) {
	s := e.sub
	if s.gate.state == gateNew || s.gate.state == gateEnded {
		return
	}
	before := s.subject
	w.unindex(s)
	s.subject = CanonicalSubject(e.subject)
	w.index(s)
	if !s.gate.paced { // an answer under way is about the old claims; a question not sent yet will be about the new
		s.gate.round++
		s.gate.asking = false
	}
	// Marks of another subject did not reach this subscription before, and those of the old one do not any more: what is
	// told from here on may fall into a time in which neither had the right.
	w.mark(s, &marking{mark: Mark{Lenient: s.subject == before}, heard: time.Now()})
}

// answer is what Postgres said.
type answer struct {
	sub     *Subscription
	verdict Verdict
}

func (e answer) apply(w *worker) {
	s, g := e.sub, &e.sub.gate
	w.endRecheck(s)
	w.listen()
	if !g.asking || e.verdict.Round != g.round || g.state == gateEnded || w.deaf {
		return
	}
	g.asking = false
	first := g.state == gateJoining
	switch {
	case e.verdict.Err != nil:
		w.end(s, EndUndecided, e.verdict)
		return
	case first && g.asks >= maxJoinAsks:
		w.end(s, EndUndecided, e.verdict)
		return
	case first && !e.verdict.Rights.Any():
		if g.unseen(e.verdict) { // a right may have been given meanwhile
			w.askAgain(s)
			return
		}
		w.end(s, EndRefused, e.verdict)
		return
	case !first && g.rights.lost(e.verdict.Rights), !e.verdict.Rights.Any():
		w.options.Metrics.RevokeSeconds.Observe(time.Since(g.markedAt).Seconds())
		w.end(s, EndRevoked, e.verdict)
		return
	}
	w.expire(s, e.verdict.Until)
	release := g.allow(e.verdict)
	w.recount(s)
	if first && g.state != gateJoining {
		s.member.Admitted(g.rights)
	}
	if release.lost {
		s.member.Missed(LossDropped)
	}
	w.withheld(s, release.withheld) // before what follows: who resumes after that has been told
	for _, frame := range release.frames {
		if w.deliver(s, frame); g.state == gateEnded { // too much waits behind its history
			return
		}
	}
	if g.state != gateOpen {
		if !first {
			s.member.StillHeld(e.verdict.Rights)
		}
		w.askAgain(s) // a mark came that this answer did not see
		return
	}
	w.settle(s)
	if release.outdated {
		s.member.Outdated()
	}
	if !first {
		s.member.Decided(g.rights)
	}
	w.replay(s)
}

// withheld tells a member of frames that it was not given.
func (w *worker) withheld(s *Subscription, frames int) {
	if frames > 0 {
		w.options.Metrics.Withheld.WithLabelValues("right_in_doubt").Add(float64(frames))
		s.member.Withheld(frames)
	}
}

// askAgain has a subscription decided again, unless it is being asked about already. Anyone can forge a mark: what that
// costs is bounded for each subscription.
func (w *worker) askAgain(s *Subscription) {
	g := &s.gate
	if g.asking || w.deaf {
		return
	}
	if g.pace == nil {
		g.pace = rate.NewLimiter(againPerSecond, againBurst)
	}
	delay := g.pace.Reserve().Delay()
	if delay == 0 || w.later == nil {
		s.ask()
		return
	}
	g.round++
	g.asking, g.paced = true, true // the marks that come meanwhile are answered with this one
	w.later(delay, askNow{s, g.round})
}

// makeHistory drops all that waits for a join, which is to be decided later than that.
func (w *worker) makeHistory(s *Subscription) {
	s.gate.waiting, s.gate.bytes = nil, 0
	w.recount(s)
}

// beginAnew has a join for which too much waits decided anew: a room that is busy is joined as others are.
func (w *worker) beginAnew(s *Subscription) {
	g := &s.gate
	w.makeHistory(s)
	if !g.paced { // an answer under way may speak of a time before what was given up
		g.round++
		g.asking = false
	}
	w.askAgain(s)
}

// askNow is an ask whose time has come.
type askNow struct {
	sub   *Subscription
	round uint64
}

func (e askNow) apply(*worker) {
	if g := &e.sub.gate; g.asking && g.round == e.round && g.state != gateEnded {
		e.sub.ask()
	}
}

func (s *Subscription) ask() {
	s.gate.asking, s.gate.paced, s.gate.asked = true, false, s.gate.marks
	s.gate.round++
	s.gate.asks++
	s.member.Ask(s, s.gate.round, s.gate.state == gateJoining)
}

// end takes a subscription out and says why.
func (w *worker) end(s *Subscription, why End, v Verdict) {
	if s.gate.state == gateEnded {
		return
	}
	w.remove(s)
	s.member.Ended(why, v)
}
