package hub

import (
	"iter"
	"time"

	"golang.org/x/time/rate"
)

// worker applies the log. Everything it touches is its own.
type worker struct {
	options  Options
	rooms    map[Room]map[*Subscription]struct{}
	subjects map[string]map[*Subscription]struct{} // private subscriptions by subject
	deaf     bool
	silences uint64                     // how often it became deaf
	later    func(time.Duration, entry) // appends to the log after a while; nil: nothing is paced
}

// A subscription is decided again at once, and again, but not for ever: beyond the burst so many times a second.
const (
	againPerSecond = 20
	againBurst     = 20
)

// maxJoinAsks is how often a join is asked about while marks keep coming: with their pace, a few seconds.
const maxJoinAsks = 60

func (w *worker) run(l *log) {
	var batch []entry
	for {
		if batch = l.take(batch); batch == nil {
			return
		}
		for _, e := range batch {
			e.apply(w)
		}
		if cap(batch) > 1<<16 { // a burst must not pin its memory for ever
			batch = nil
		}
	}
}

type join struct{ sub *Subscription }

func (e join) apply(w *worker) {
	s := e.sub
	if s.gate.state != gateNew { // Leave came first
		return
	}
	if !s.room.Private {
		w.add(s)
		s.gate.state = gateOpen
		s.gate.rights = Rights{Broadcast: Right{true, true}, Presence: Right{true, true}}
		s.member.Admitted(s.gate.rights)
		return
	}
	if w.deaf {
		w.end(s, EndDeaf, Verdict{})
		return
	}
	w.add(s)
	s.gate.state = gateJoining
	s.ask()
}

type leave struct{ sub *Subscription }

func (e leave) apply(w *worker) { w.remove(e.sub) }

// apply gives a frame to a room.
func (p Publication) apply(w *worker) {
	for s := range w.rooms[p.Room] {
		if s != p.Except {
			w.give(s, p)
		}
	}
}

func (w *worker) give(s *Subscription, p Publication) {
	switch s.gate.frame(p.Frame, p.XID, w.options.MaxHeldBytes) {
	case frameGive:
		w.options.Metrics.Deliveries.Inc()
		s.member.Deliver(p.Frame)
	case frameOverflow:
		w.end(s, EndHeldTooBig, Verdict{})
	}
}

type marking struct {
	mark  Mark
	heard time.Time
}

func (e marking) apply(w *worker) {
	w.options.Metrics.Marks.WithLabelValues(e.mark.aim()).Inc()
	m := e.mark
	m.Subject = canonical(m.Subject)
	switch {
	case m.Topic != "":
		for s := range w.rooms[Room{m.Topic, true}] {
			if m.Subject == "" || m.Subject == s.subject {
				w.mark(s, m, e.heard)
			}
		}
	case m.Subject != "":
		for s := range w.subjects[m.Subject] {
			w.mark(s, m, e.heard)
		}
	default:
		w.markAll(m, e.heard)
	}
}

func (w *worker) markAll(m Mark, heard time.Time) {
	for s := range w.private() {
		w.mark(s, m, heard)
	}
}

// private are the subscriptions that live by the database. They may be taken out on the way.
func (w *worker) private() iter.Seq[*Subscription] {
	return func(yield func(*Subscription) bool) {
		for room, members := range w.rooms {
			if !room.Private {
				continue
			}
			for s := range members {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (w *worker) mark(s *Subscription, m Mark, heard time.Time) {
	wasOpen := s.gate.state == gateOpen
	if !s.gate.mark(m, heard) {
		return
	}
	if wasOpen {
		w.options.Metrics.MarkedSubscriptions.Inc()
		s.member.Held()
	}
	w.askAgain(s)
}

type rebind struct {
	sub     *Subscription
	subject string
}

func (e rebind) apply(w *worker) {
	s := e.sub
	if s.gate.state == gateNew || s.gate.state == gateEnded {
		return
	}
	w.unindex(s)
	s.subject = canonical(e.subject)
	w.index(s)
	if !s.gate.paced { // an answer under way is about the old claims; a question not sent yet will be about the new
		s.gate.round++
		s.gate.asking = false
	}
	w.mark(s, Mark{Lenient: true}, time.Now())
}

type answer struct {
	sub     *Subscription
	verdict Verdict
}

func (e answer) apply(w *worker) {
	s, g := e.sub, &e.sub.gate
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
	release := g.allow(e.verdict)
	if first && g.state != gateJoining {
		s.member.Admitted(g.rights)
	}
	for _, frame := range release.frames {
		w.options.Metrics.Deliveries.Inc()
		s.member.Deliver(frame)
	}
	if release.withheld > 0 {
		w.options.Metrics.Withheld.WithLabelValues("right_in_doubt").Add(float64(release.withheld))
		s.member.Withheld(release.withheld)
	}
	if g.state != gateOpen {
		w.askAgain(s) // a mark came that this answer did not see
	} else if !first {
		s.member.Decided(g.rights)
	}
}

type deaf struct{}

func (deaf) apply(w *worker) {
	if w.deaf {
		return
	}
	w.deaf = true
	w.options.Metrics.FeedHearing.Set(0)
	for s := range w.private() {
		if s.gate.state == gateJoining {
			w.end(s, EndDeaf, Verdict{}) // answered now: the client waits ten seconds, we may be deaf for longer
		} else {
			w.mark(s, Mark{}, time.Now())
		}
	}
	w.silences++
	if w.later != nil {
		w.later(pauseNotice, paused{w.silences})
	}
}

// pauseNotice is how long the server is deaf before members are told: a connection lost and made again is nothing to
// tell.
const pauseNotice = 2 * time.Second

// paused tells members of a silence that lasts.
type paused struct{ silence uint64 }

func (e paused) apply(w *worker) {
	if !w.deaf || w.silences != e.silence {
		return
	}
	for s := range w.private() {
		s.member.Paused()
	}
}

type hearing struct{ at time.Time }

func (e hearing) apply(w *worker) {
	w.deaf = false
	w.options.Metrics.FeedHearing.Set(1)
	for s := range w.private() {
		s.gate.round++ // answers under way may have waited for what was never heard
		s.gate.asking, s.gate.paced = false, false
	}
	w.markAll(Mark{}, e.at)
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

func (w *worker) add(s *Subscription) {
	members := w.rooms[s.room]
	if members == nil {
		members = map[*Subscription]struct{}{}
		w.rooms[s.room] = members
	}
	members[s] = struct{}{}
	w.index(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Inc()
}

func (w *worker) remove(s *Subscription) {
	s.gate.close()
	members, ok := w.rooms[s.room]
	if _, in := members[s]; !ok || !in {
		return
	}
	delete(members, s)
	if len(members) == 0 {
		delete(w.rooms, s.room)
	}
	w.unindex(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Dec()
}

func (r Room) kind() string {
	if r.Private {
		return "private"
	}
	return "public"
}

func (w *worker) index(s *Subscription) {
	if !s.room.Private || s.subject == "" {
		return
	}
	members := w.subjects[s.subject]
	if members == nil {
		members = map[*Subscription]struct{}{}
		w.subjects[s.subject] = members
	}
	members[s] = struct{}{}
}

func (w *worker) unindex(s *Subscription) {
	if members := w.subjects[s.subject]; members != nil {
		delete(members, s)
		if len(members) == 0 {
			delete(w.subjects, s.subject)
		}
	}
}
