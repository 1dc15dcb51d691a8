package hub

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"rowcast/server/protocol"
)

// step is one thing that can happen next.
type step struct {
	what stepKind
	n    int
}

type stepKind uint8

const (
	// What goes on by itself. Where none of these is left, everybody must be decided.
	stepHear stepKind = iota
	stepWork
	stepLook
	stepAnswer
	stepTimer
	stepDeaf
	stepHearing
	stepConnect
	stepHopeless
	stepLate
	stepReplay
	stepNotice
	// What may happen or not.
	stepCommit
	stepRollback
	stepSend
	stepJoin
	stepLeave
	stepRebind
	stepStall
	stepLose
	stepForge
	stepFail
	stepAlarm
)

func (e step) String() string {
	name := [...]string{"the feed hears", "the worker takes the marks", "Postgres looks", "answer", "timer", "deaf", "hearing", "connect", "connect, all is lost", "a late message",
		"replay", "DDL is noticed", "commit", "rollback", "a client sends", "join", "leave", "rebind", "the proof runs out", "the connection is lost", "forged mark", "no decision", "alarm"}[e.what]
	return fmt.Sprint(name, " ", e.n)
}

// steps are what can happen; the first so many go on by themselves.
func (s *state) steps(into []step) (steps []step, must int) {
	add := func(what stepKind, n int) { into = append(into, step{what, n}) }
	if s.connected && s.heard < len(s.order) {
		add(stepHear, 0)
	}
	if s.pending != nil {
		add(stepWork, 0)
	}
	for i := range s.questions {
		switch q := &s.questions[i]; {
		case q.first, q.looked && q.right == 0, s.connected && s.heard >= q.needs(len(s.order)): // who has no right need not wait for what comes before that
			add(stepAnswer, i)
		}
		if !s.questions[i].looked {
			add(stepLook, i)
		}
	}
	for i, e := range s.timers {
		if _, waits := e.(*expiry); !waits || s.ended() {
			add(stepTimer, i)
		}
	}
	switch deaf := s.worker.deaf; {
	case s.stalled && !deaf:
		add(stepDeaf, 0)
	case deaf && s.connected && s.heard >= s.proof:
		add(stepHearing, 0)
	case deaf && !s.connected:
		add(stepConnect, 0)
		add(stepConnect, 1)
		if s.hopeless {
			add(stepHopeless, 0)
		}
	}
	if s.catchesUp && s.connected {
		add(stepLate, 0)
	}
	for i, seat := range s.seats {
		if seat.sub != nil && seat.sub.history.awaited && seat.admitted && !seat.left && !seat.sub.history.last {
			add(stepReplay, i)
		}
	}
	if s.defined(len(s.order)) != s.noticed() {
		add(stepNotice, 0)
	}
	must = len(into)
	return s.inTurn(s.optional(into)), must
}

// optional steps are what may happen or not.
func (s *state) optional(into []step) []step {
	add := func(what stepKind, n int) { into = append(into, step{what, n}) }
	for i := range s.transactions {
		if s.over&(1<<i) == 0 {
			add(stepCommit, i)
			if s.rollbacks {
				add(stepRollback, i)
			}
		}
	}
	if s.sent < s.clients {
		add(stepSend, s.sent)
	}
	for i, seating := range s.scene.seats {
		seat, before := s.seats[i], s.seats[seating.after]
		switch {
		case seat.sub == nil && (seating.after == i || before.left || before.ended):
			add(stepJoin, i)
		case seat.sub == nil || seat.left || seat.ended:
		default:
			if seating.leaves {
				add(stepLeave, i)
			}
			if seating.turnsInto != seat.subject && seating.turnsInto != seating.subject {
				add(stepRebind, i)
			}
		}
	}
	if s.stalls < s.scene.stalls && s.connected && !s.stalled && !s.worker.deaf {
		add(stepStall, 0)
	}
	if s.lost < s.losses && s.connected {
		add(stepLose, 0)
	}
	if s.forged < len(s.forgeries) {
		add(stepForge, s.forged)
	}
	for i, t := range s.order {
		if s.alarms && s.connected && i >= s.heard && s.alarmed&(1<<t) == 0 && slices.ContainsFunc(s.transactions[t], func(e statement) bool { return !e.message && !e.quiet && !e.clock }) {
			add(stepAlarm, int(t))
		}
	}
	for i, q := range s.questions {
		if s.failed < s.failures && !q.looked {
			add(stepFail, i)
		}
	}
	return into
}

// inTurn leaves out orders that are the same as others. A look is as good later, until the database changes or the answer
// arrives, and a commit until somebody looks or listens: neither has any effect before.
func (s *state) inTurn(steps []step) []step {
	if s.just == stepLook || s.just == stepCommit {
		return slices.DeleteFunc(steps, func(e step) bool {
			switch e.what {
			case stepCommit, stepRollback, stepLook:
				return false
			case stepHear, stepAlarm, stepStall, stepLose, stepConnect, stepHopeless, stepNotice:
				return s.just == stepLook
			case stepSend:
				return s.just == stepLook || s.connected
			case stepAnswer:
				return s.just == stepLook || s.questions[e.n].looked
			}
			return true
		})
	}
	return steps
}

func (s *state) do(e step) {
	switch s.just = 0; e.what {
	case stepLook, stepCommit:
		s.just = e.what
	case stepRollback:
		s.just = stepCommit
	}
	switch e.what {
	case stepHear:
		s.hear()
	case stepWork:
		s.work()
	case stepLook:
		s.look(e.n)
	case stepAnswer:
		s.answer(e.n)
	case stepTimer:
		timer := s.timers[e.n]
		s.timers = slices.Delete(s.timers, e.n, e.n+1)
		s.append(timer)
	case stepDeaf:
		s.append(deaf{})
	case stepHearing:
		s.stalled = false
		for _, seat := range s.seats {
			seat.hoped = 0
		}
		s.worker.unsettled.Add(1)
		s.append(hearing{})
	case stepConnect:
		s.connect(e.n == 1)
	case stepHopeless:
		s.connected, s.catchesUp, s.heard, s.part, s.backlog, s.late = true, true, len(s.order), 0, nil, nil
		s.proof = s.heard
		s.append(rewound{})
		s.append(catchingUp{})
		s.append(missed{})
		s.suspect()
	case stepLate:
		s.catchUp()
	case stepReplay:
		s.replay(e.n)
	case stepNotice:
		s.notice()
	case stepCommit:
		s.over |= 1 << e.n
		s.order = append(s.order, uint8(e.n))
	case stepRollback:
		s.over |= 1 << e.n
	case stepSend:
		s.sent++
		s.publish(len(s.origin) + e.n)
	case stepJoin:
		s.join(e.n)
	case stepLeave:
		s.work()
		s.seats[e.n].left = true
		s.append(leave{s.seats[e.n].sub})
	case stepRebind:
		seat := s.seats[e.n]
		s.work()
		seat.hoped, seat.marked = 0, true
		seat.subject = s.scene.seats[e.n].turnsInto
		seat.subjects |= 1 << seat.subject
		s.append(rebind{seat.sub, subjectName(seat.subject)})
	case stepStall:
		s.stalls++
		s.stalled, s.proof = true, len(s.order)
	case stepLose:
		s.lost++
		s.connected, s.catchesUp, s.backlog, s.late = false, false, nil, nil
		s.append(deaf{})
	case stepForge:
		s.forged++
		s.mark(s.forgeries[e.n])
	case stepAlarm:
		s.alarmed |= 1 << e.n
		for _, statement := range s.transactions[e.n] {
			if m := statement.mark; !statement.message && !statement.quiet && !statement.clock {
				m.XID, m.Lenient = xidOf(e.n), true
				s.mark(m)
			}
		}
	case stepFail:
		s.failed++
		q := s.questions[e.n]
		s.questions = slices.Delete(s.questions, e.n, e.n+1)
		s.answering = &q
		s.append(answer{q.sub, Verdict{Round: q.round, Err: fmt.Errorf("not decided")}})
		s.answering = nil
	}
}

// append puts an entry into the log, where the worker comes to it at once, but for marks that may be merged.
func (s *state) append(e entry) {
	s.work()
	e.apply(s.worker)
}

func (s *state) work() {
	if p := s.pending; p != nil {
		s.pending = nil
		p.apply(s.worker)
	}
}

func (s *state) mark(m Mark) {
	if !m.Lenient {
		s.suspect()
		for _, seat := range s.seats {
			seat.hoped = 0
		}
	}
	this := marking{mark: m}
	switch {
	case !s.merging:
		s.append(&this)
	case s.pending == nil || !s.pending.merge(this):
		s.work()
		s.pending = &this
	}
}

// suspect notes that rights may have changed, as far as the server can know.
func (s *state) suspect() {
	for _, seat := range s.seats {
		seat.marked = seat.marked || seat.sub != nil
	}
}

// needs is how many commits must have been heard before the answer may be given; one that has not looked does so now.
func (q *inquiry) needs(now int) int {
	if q.looked {
		return q.commits
	}
	return now
}

// look has Postgres decide, with what is committed now.
func (s *state) look(i int) {
	q := &s.questions[i]
	q.looked, q.commits, q.over, q.right = true, len(s.order), s.over, s.right(q.subject, len(s.order))
}

func (s *state) answer(i int) {
	if !s.questions[i].looked {
		s.look(i)
	}
	q := s.questions[i]
	if s.defined(q.commits) != s.noticed() { // it does not count, and is asked again once all is noticed
		s.questions[i].looked = false
		if s.defined(len(s.order)) != s.noticed() {
			s.notice()
		}
		return
	}
	s.questions = slices.Delete(s.questions, i, i+1)
	v := Verdict{Round: q.round, Snapshot: s.seen[q.over]}
	if q.right&rightToMessages != 0 {
		v.Rights.Broadcast = Right{Receive: true, Send: true}
	}
	v.Rights.Presence.Receive = q.right&rightToPresence != 0
	if s.clock && !slices.ContainsFunc(s.order[:q.commits], s.isClock) {
		v.Until = time.Unix(1, 0)
	}
	s.work()
	s.answering = &q
	s.append(answer{q.sub, v})
	s.answering = nil
}

// defined is how much DDL there is among the first commits, and noticed how much of it somebody has noticed.
func (s *state) defined(commits int) (n int) {
	for i := range s.order[:commits] {
		if s.quiet(i) {
			n++
		}
	}
	return n
}

func (s *state) noticed() int {
	if len(s.notices) == 0 {
		return 0
	}
	return s.defined(int(s.notices[len(s.notices)-1]))
}

// notice is whoever looks at the digest, beside the feed.
func (s *state) notice() {
	s.notices = append(s.notices, uint8(len(s.order)))
	s.mark(Mark{Seen: s.seen[s.over]})
}

// ended tells whether the moment is over at which a right ends by itself.
func (s *state) ended() bool { return slices.ContainsFunc(s.order, s.isClock) }

func (c *scene) isClock(transaction uint8) bool { return c.transactions[transaction][0].clock }

func (s *state) join(i int) {
	seat := s.seats[i]
	seat.sub = NewSubscription(Room{modelTopic, true}, 0, subjectName(seat.subject), seat)
	seat.sub.gate.pace = s.limiter()
	if s.replays {
		seat.sub.AwaitReplay()
	}
	s.append(join{seat.sub})
}

// replay brings a page of what the admission saw, a message at a time.
func (s *state) replay(i int) {
	seat := s.seats[i]
	var page []*protocol.Frame
	for ; seat.replayed < len(s.origin) && len(page) == 0; seat.replayed++ {
		if seat.past&(1<<seat.replayed) != 0 {
			page = append(page, s.frames[seat.replayed])
		}
	}
	s.append(replay{seat.sub, page, seat.replayed == len(s.origin), func() {}})
}

func (s *state) seatOf(sub *Subscription) int {
	return slices.IndexFunc(s.seats, func(x *seat) bool { return x.sub == sub })
}

// noticeOf numbers what a timer of a silence does.
func (s *state) noticeOf(e stillDeaf) int {
	return slices.IndexFunc(notices, func(n func(*worker)) bool { return reflect.ValueOf(n).Pointer() == reflect.ValueOf(e.then).Pointer() })
}

var notices = []func(*worker){refuseJoins, tellMembers, endMembers}
