package hub

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// state is one moment of a scene: the database, what was heard of it, what is under way, and the hub's own worker.
type state struct {
	*scene
	worker *worker

	order   []uint8 // transactions that committed, in this order
	over    uint16  // those that ended, one way or the other
	notices []uint8 // how many commits there were when somebody noticed DDL

	connected bool
	stalled   bool   // the proof of hearing has run out
	proof     int    // commits that have to be heard for another
	heard     int    // commits of which all was heard
	part      int    // notifications heard of the next
	alarmed   uint16 // transactions of which marks were told ahead of their place
	catchesUp bool
	backlog   []int // messages that were missed, in the order in which they are told
	late      []int // heard while there was a backlog
	told      uint32
	pending   *marking // heard, and the worker has not come to it: others may be merged with it

	questions []inquiry
	timers    []entry
	seats     []*seat

	sent, lost, stalls, forged, failed int         // how much of the scene's optional events has happened
	knownAt                            []knowledge // of the server when a client sent a frame
	just                               stepKind    // what was done last, where that matters (see inTurn)

	answering *inquiry
	found     string // a violation
}

// knowledge is how many commits were heard, and notifications of the next.
type knowledge struct{ commits, part int }

// inquiry is an Ask under way.
type inquiry struct {
	seat    int
	sub     *Subscription
	round   uint64
	first   bool
	subject int
	looked  bool
	commits int    // when Postgres looked
	over    uint16 // its snapshot
	right   uint8
}

func newState(c *scene) *state {
	s := &state{scene: c, connected: true, knownAt: make([]knowledge, c.clients)}
	s.worker = newWorker(Options{Metrics: modelMetrics, MaxHeldBytes: c.bound, MaxDeaf: -1}, 0)
	if c.timers {
		s.worker.options.MaxDeaf = time.Hour
	}
	s.worker.deaf = false
	s.bind()
	for i, seating := range c.seats {
		s.seats = append(s.seats, &seat{state: s, number: i, subject: seating.subject, subjects: 1 << seating.subject})
	}
	for i, seating := range c.seats {
		if !seating.here {
			continue
		}
		s.join(i)
		s.look(len(s.questions) - 1)
		s.answer(len(s.questions) - 1)
	}
	return s
}

// bind has the worker use this state's clock.
func (s *state) bind() {
	s.worker.options.Hears = func() bool { return s.connected && !s.stalled }
	s.worker.later = nil
	if s.scene.paced || s.scene.timers || s.clock {
		s.worker.later = func(_ time.Duration, e entry) *time.Timer {
			s.timers = append(s.timers, e)
			return unstoppable
		}
	}
}

// limiter without memory: either everything that is asked again waits for a timer, or nothing.
func (c *scene) limiter() *rate.Limiter {
	if c.paced {
		return never
	}
	return always
}

// unstoppable timers arrive even if they are stopped: as when it was too late.
var unstoppable = time.NewTimer(0)

var never, always = rate.NewLimiter(0, 0), rate.NewLimiter(rate.Inf, 0)

// clone copies all that a step may change. TestExplorationKnowsEveryField sees to it that nothing new is forgotten, here
// and in key.
func (s *state) clone() *state {
	n := *s
	n.notices = slices.Clone(s.notices)
	n.order, n.backlog, n.late = slices.Clone(s.order), slices.Clone(s.backlog), slices.Clone(s.late)
	n.knownAt = slices.Clone(s.knownAt)
	if s.pending != nil {
		p := *s.pending
		p.more = slices.Clone(p.more)
		n.pending = &p
	}
	copies := make(map[*Subscription]*Subscription, len(s.seats))
	n.seats = make([]*seat, len(s.seats))
	for i, old := range s.seats {
		this := *old
		this.state = &n
		n.seats[i] = &this
		if old.sub != nil {
			this.sub = copyOf(old.sub)
			this.sub.member = &this
			copies[old.sub] = this.sub
		}
	}
	n.questions = slices.Clone(s.questions)
	for i := range n.questions {
		n.questions[i].sub = copies[n.questions[i].sub]
	}
	n.timers = slices.Clone(s.timers)
	for i, e := range n.timers {
		switch e := e.(type) {
		case askNow:
			n.timers[i] = askNow{copies[e.sub], e.round}
		case *expiry:
			moved := &expiry{sub: copies[e.sub], at: e.at, timer: e.timer}
			if e.sub.expiry == e {
				moved.sub.expiry = moved
			}
			n.timers[i] = moved
		}
	}
	w := *s.worker
	w.unsettled = new(atomic.Int64)
	w.unsettled.Store(s.worker.unsettled.Load())
	w.rooms, w.subjects, w.held = map[Room][]*Subscription{}, map[string]map[*Subscription]struct{}{}, map[uint32]int{}
	for room, members := range s.worker.rooms {
		moved := make([]*Subscription, len(members))
		for i, m := range members {
			moved[i] = copies[m]
		}
		w.rooms[room] = moved
	}
	for subject, members := range s.worker.subjects {
		w.subjects[subject] = make(map[*Subscription]struct{}, len(members))
		for m := range members {
			w.subjects[subject][copies[m]] = struct{}{}
		}
	}
	for outlet, bytes := range s.worker.held {
		w.held[outlet] = bytes
	}
	n.worker = &w
	n.bind()
	return &n
}

func copyOf(s *Subscription) *Subscription {
	n := *s
	n.gate.waiting = slices.Clone(s.gate.waiting)
	n.history.page = slices.Clone(s.history.page)
	n.history.given = slices.Clone(s.history.given)
	n.history.behind = slices.Clone(s.history.behind)
	return &n
}

// key is the same for states from which the same can happen. Counters that only grow are told as differences.
func (s *state) key(b []byte) []byte {
	w := s.worker
	b = append(append(b, uint8(len(s.order))), s.order...)
	b = append(append(b, uint8(len(s.notices))), s.notices...)
	b = binary.LittleEndian.AppendUint16(b, s.over)
	b = binary.LittleEndian.AppendUint16(b, s.alarmed)
	b = append(b, flags(s.connected, s.stalled, s.catchesUp, w.deaf, w.refusing, w.catchUp, s.pending != nil))
	b = append(b, uint8(s.proof), uint8(s.heard), uint8(s.part), uint8(s.sent), uint8(s.lost), uint8(s.stalls), uint8(s.forged), uint8(s.failed), uint8(s.just))
	b = binary.LittleEndian.AppendUint32(b, s.told)
	b = appendInts(appendInts(b, s.backlog), s.late)
	b = append(b, uint8(w.unsettled.Load()))
	if p := s.pending; p != nil {
		b = append(append(b, p.mark.Subject...), '/')
		b = append(append(b, p.mark.Topic...), uint8(p.mark.XID), flags(p.mixed, p.many, p.mark.Lenient), uint8(len(p.more)))
		for _, x := range p.more {
			b = append(b, uint8(x))
		}
		b = append(b, p.mark.Seen.String()...)
	}
	for i := range s.seats {
		b = s.appendSeat(b, i)
	}
	for _, e := range s.timers {
		switch e := e.(type) {
		case askNow:
			b = append(b, 'a', uint8(s.seatOf(e.sub)), uint8(e.sub.gate.round-e.round))
		case *expiry:
			b = append(b, 'e', uint8(s.seatOf(e.sub)), flags(e.sub.expiry == e))
		case stillDeaf:
			b = append(b, 's', uint8(w.silences-e.silence), uint8(s.noticeOf(e)))
		}
	}
	return b
}

func (s *state) appendSeat(b []byte, i int) []byte {
	this := s.seats[i]
	b = append(b, flags(this.sub != nil, this.ended, this.left, this.admitted, this.held, this.marked, this.warned),
		uint8(this.subject), this.subjects, uint8(this.admittedAt), uint8(this.heardAt), uint8(this.withheld), uint8(this.replayed))
	b = binary.LittleEndian.AppendUint32(b, this.delivered)
	b = binary.LittleEndian.AppendUint32(b, this.expected)
	b = binary.LittleEndian.AppendUint32(b, this.hoped)
	b = binary.LittleEndian.AppendUint32(b, this.past)
	b = append(b, uint8(this.last.commits), uint8(this.last.subject), this.last.right)
	sub := this.sub
	if sub == nil {
		return b
	}
	g := &sub.gate
	b = append(b, uint8(sub.place), uint8(g.state), flags(g.asking, g.paced, g.since.IsZero(), g.lost, g.doubted, g.deafAt > 0, sub.unsettled, sub.history.awaited),
		flags(g.rights.Broadcast.Receive, g.rights.Broadcast.Send, g.rights.Presence.Receive, g.rights.Presence.Send, sub.history.last, sub.expiry != nil, g.was.Broadcast.Receive, g.was.Presence.Receive),
		uint8(g.marks-g.asked), uint8(g.missed), uint8(len(g.waiting)), uint8(len(sub.history.page)), uint8(len(sub.history.behind)), uint8(len(sub.history.given)))
	if g.deafAt > 0 {
		b = append(b, uint8(g.marks-g.deafAt))
	}
	b = append(b, g.overtaken.String()...)
	for _, x := range g.waiting {
		if x.frame != nil {
			n := s.numbers[x.frame]
			b = append(b, 'f', uint8(n))
			if c := n - len(s.origin); c >= 0 {
				b = append(b, uint8(s.knownAt[c].commits), uint8(s.knownAt[c].part))
			}
			continue
		}
		b = append(b, 'm', flags(x.mixed, x.strict), uint8(x.first.xid), uint8(g.marks-x.first.nth), uint8(x.last.xid), uint8(g.marks-x.last.nth))
		b = append(b, x.seen.String()...)
	}
	for _, f := range append(slices.Clone(sub.history.page), sub.history.behind...) {
		b = append(b, uint8(s.numbers[f]))
	}
	for _, q := range s.questions { // of one seat they are in the order of asking
		if q.sub == sub {
			b = append(b, 'q', uint8(g.round-q.round), uint8(q.subject), flags(q.first, q.looked), uint8(q.commits), q.right)
			b = binary.LittleEndian.AppendUint16(b, q.over)
		}
	}
	return b
}

func flags(of ...bool) (b uint8) {
	for i, f := range of {
		if f {
			b |= 1 << i
		}
	}
	return b
}

func appendInts(b []byte, of []int) []byte {
	b = append(b, uint8(len(of)))
	for _, n := range of {
		b = append(b, uint8(n))
	}
	return b
}
