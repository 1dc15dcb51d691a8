package hub

import (
	"iter"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// worker applies its share of the log. Everything it touches is its own.
type worker struct {
	options  Options
	log      *log                       // nil in tests that have no other worker
	later    func(time.Duration, entry) // appends to this worker's share after a while; nil: nothing is paced
	number   int
	rooms    map[Room][]*Subscription
	subjects map[string]map[*Subscription]struct{} // private subscriptions by subject
	deaf     bool
	silences uint64 // how often it became deaf
	catchUp  bool   // messages of the database come late

	unsettled *atomic.Int64 // the hub's; see Hub.Settled

	outlets   []Outlet // to be flushed at the end of the round
	delivered int      // frames in this round
}

func newWorker(o Options, number int) *worker {
	return &worker{options: o, number: number, deaf: true, unsettled: new(atomic.Int64), rooms: map[Room][]*Subscription{}, subjects: map[string]map[*Subscription]struct{}{}}
}

// A subscription is decided again at once, and again, but not for ever: beyond the burst so many times a second.
const (
	againPerSecond = 20
	againBurst     = 20
)

// maxJoinAsks is how often a join is asked about while marks keep coming: with their pace, a few seconds.
const maxJoinAsks = 60

func (w *worker) run() {
	var batch []entry
	for {
		if batch = w.log.take(w.number, batch); batch == nil {
			return
		}
		began := time.Now()
		for _, e := range batch {
			e.apply(w)
			if len(w.outlets) > 0 && time.Since(began) > maxRound {
				w.flush()
				began = time.Now()
			}
		}
		w.flush()
		if cap(batch) > keepEntries { // a burst must not pin its memory for ever
			batch = nil
		}
	}
}

// maxRound is how long frames may collect: a burst of thousands must not fill the queues of those who would read.
const maxRound = 5 * time.Millisecond

// How long a worker writes before it lets others run: whatever they append meanwhile goes out with one write per
// connection in the next round. The clock is not looked at after every write.
const (
	turn         = time.Millisecond
	flushesATurn = 16
)

// How many elements a list may have had and keep its memory when they are gone.
const (
	keepEntries = 1 << 16
	keepOutlets = 1 << 12
	keepMembers = 64
)

// flush ends a round: everything that was delivered in it leaves, each connection's in one write.
func (w *worker) flush() {
	w.options.Metrics.Deliveries.Add(float64(w.delivered))
	w.delivered = 0
	began := time.Now()
	for i, o := range w.outlets {
		o.Flush()
		if i%flushesATurn == flushesATurn-1 && time.Since(began) > turn {
			runtime.Gosched()
			began = time.Now()
		}
	}
	clear(w.outlets)
	if w.outlets = w.outlets[:0]; cap(w.outlets) > keepOutlets {
		w.outlets = nil
	}
}

type join struct{ sub *Subscription }

func (e join) apply(w *worker) {
	s := e.sub
	s.counted = true
	if s.gate.state != gateNew { // Leave came first
		w.discount(s)
		return
	}
	if !s.room.Private {
		w.add(s)
		s.gate.state = gateOpen
		s.gate.rights = Rights{Broadcast: Right{true, true}, Presence: Right{true, true}}
		s.member.Admitted(s.gate.rights)
		return
	}
	if w.listen(); w.deaf {
		w.end(s, EndDeaf, Verdict{})
		return
	}
	w.add(s)
	s.gate.state = gateJoining
	s.ask()
}

type leave struct{ sub *Subscription }

func (e leave) apply(w *worker) { w.remove(e.sub) }

// apply gives a frame to a room. Backwards, because a member that overflows is taken out on the way.
func (p *Publication) apply(w *worker) {
	if p.Room.Private {
		w.listen()
	}
	members := w.rooms[p.Room]
	for i := len(members) - 1; i >= 0; i-- {
		if s := members[i]; s != p.Except {
			w.give(s, p)
		}
	}
}

func (w *worker) give(s *Subscription, p *Publication) {
	switch s.gate.frame(p.Frame, p.XID, w.catchUp && p.XID != 0, w.options.MaxHeldBytes) {
	case frameGive:
		w.deliver(s, p.Frame)
	case frameOverflow:
		w.end(s, EndHeldTooBig, Verdict{})
	}
}

func (w *worker) deliver(s *Subscription, f *protocol.Frame) {
	w.delivered++
	if o := s.member.Deliver(f); o != nil {
		w.outlets = append(w.outlets, o)
	}
}

// marking is one mark, or several of one aim with nothing between them.
type marking struct {
	mark  Mark           // the last of them
	mixed bool           // they name different transactions
	more  []snapshot.XID // these as well
	many  bool           // and others
	heard time.Time
}

// merge takes another mark in, if it has the same aim.
func (e *marking) merge(m marking) bool {
	if e.mark.Subject != m.mark.Subject || e.mark.Topic != m.mark.Topic {
		return false
	}
	if e.mark.XID != m.mark.XID {
		e.mixed = true
		if len(e.more) == maxMerged {
			e.many = true
		} else {
			e.more = append(e.more, e.mark.XID)
		}
		e.mark.XID = m.mark.XID
	}
	e.mark.Lenient = e.mark.Lenient && m.mark.Lenient
	return true
}

// maxMerged is how many transactions several marks may name and still be known to be seen. More are forged.
const maxMerged = 8

// seenBy tells whether a snapshot sees all that was marked.
func (e *marking) seenBy(s snapshot.Snapshot) bool {
	return !e.many && s.Sees(e.mark.XID) && !slices.ContainsFunc(e.more, func(x snapshot.XID) bool { return !s.Sees(x) })
}

func (e *marking) apply(w *worker) {
	m := e.mark
	switch {
	case m.Topic != "":
		members := w.rooms[Room{m.Topic, true}]
		for i := len(members) - 1; i >= 0; i-- {
			if s := members[i]; m.Subject == "" || m.Subject == s.subject {
				w.mark(s, e)
			}
		}
	case m.Subject != "":
		for s := range w.subjects[m.Subject] {
			w.mark(s, e)
		}
	default:
		w.markAll(e)
	}
}

func (w *worker) markAll(m *marking) {
	for s := range w.private() {
		w.mark(s, m)
	}
}

// private are the subscriptions that live by the database. They may be taken out on the way.
func (w *worker) private() iter.Seq[*Subscription] {
	return func(yield func(*Subscription) bool) {
		for room, members := range w.rooms {
			if !room.Private {
				continue
			}
			for i := len(members) - 1; i >= 0; i-- {
				if !yield(members[i]) {
					return
				}
			}
		}
	}
}

func (w *worker) mark(s *Subscription, m *marking) {
	wasOpen := s.gate.state == gateOpen
	if !s.gate.mark(m, w.catchUp) {
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
	w.mark(s, &marking{mark: Mark{Lenient: true}, heard: time.Now()})
}

type answer struct {
	sub     *Subscription
	verdict Verdict
}

func (e answer) apply(w *worker) {
	s, g := e.sub, &e.sub.gate
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
	release := g.allow(e.verdict)
	if first && g.state != gateJoining {
		s.member.Admitted(g.rights)
	}
	for _, frame := range release.frames {
		w.deliver(s, frame)
	}
	w.withheld(s, release.withheld)
	if g.state != gateOpen {
		w.askAgain(s) // a mark came that this answer did not see
		return
	}
	w.settle(s)
	if !first {
		s.member.Decided(g.rights)
	}
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
	s.place = len(w.rooms[s.room])
	w.rooms[s.room] = append(w.rooms[s.room], s)
	w.index(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Inc()
}

func (w *worker) remove(s *Subscription) {
	s.gate.close()
	w.settle(s)
	w.discount(s)
	members := w.rooms[s.room]
	if s.place >= len(members) || members[s.place] != s {
		return
	}
	last := len(members) - 1
	members[s.place] = members[last]
	members[s.place].place = s.place
	members[last] = nil
	switch {
	case last == 0:
		delete(w.rooms, s.room)
	case cap(members) > keepMembers && last < cap(members)/4:
		w.rooms[s.room] = append([]*Subscription(nil), members[:last]...)
	default:
		w.rooms[s.room] = members[:last]
	}
	w.unindex(s)
	w.options.Metrics.Channels.WithLabelValues(s.room.kind()).Dec()
}

// discount has the log count a subscription as gone, once.
func (w *worker) discount(s *Subscription) {
	if s.counted && w.log != nil {
		w.log.left(w.number, s.room)
	}
	s.counted = false
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
