package hub

import (
	"fmt"
	"math/bits"

	"rowcast/server/protocol"
)

// seat is a Member of a scene, and what it is held against.
type seat struct {
	state    *state
	number   int
	sub      *Subscription
	subject  int
	subjects uint8 // that it ever was

	admitted, held, ended, left bool

	admittedAt int     // commits that the admission saw
	heardAt    int     // that were heard then
	last       inquiry // the last answer that was taken

	delivered uint32
	expected  uint32 // of clients' frames: those that must come, or be told of
	hoped     uint32 // the same, of those that wait for the admission
	withheld  int
	marked    bool // rights may have changed, as far as the server can know
	warned    bool // the member was told that something is missing

	past     uint32 // what is to be replayed
	replayed int    // messages looked at for that
}

func (m *seat) violation(format string, args ...any) {
	if m.state.found == "" {
		m.state.found = fmt.Sprintf("seat %d: ", m.number) + fmt.Sprintf(format, args...)
	}
}

// answer is the one that counts: the one that is being taken, or the last.
func (m *seat) answer() inquiry {
	if q := m.state.answering; q != nil && q.sub == m.sub {
		return *q
	}
	return m.last
}

func (m *seat) Ask(sub *Subscription, round uint64, first bool) {
	s := m.state
	if m.left || m.ended {
		m.violation("asked about when it is gone")
	}
	s.questions = append(s.questions, inquiry{seat: m.number, sub: sub, round: round, first: first, subject: m.subject})
}

func (m *seat) Admitted(Rights) {
	if m.admitted {
		m.violation("admitted twice")
	}
	m.take()
	m.admitted, m.admittedAt, m.heardAt = true, m.last.commits, m.state.heard
	if m.last.right&rightToMessages != 0 {
		m.expected |= m.hoped
	}
	m.hoped = 0
	if m.last.right == 0 {
		m.violation("admitted without a right")
	}
	if m.state.replays {
		for n := range m.state.origin {
			if at := m.state.committed(n); at >= 0 && at < m.admittedAt {
				m.past |= 1 << n
			}
		}
	}
}

// take notes an answer that the hub took.
func (m *seat) take() {
	m.last = m.answer()
	if m.last.subject != m.subject {
		m.violation("an answer about other claims was taken")
	}
}

func (m *seat) Held() {
	if m.held || !m.admitted {
		m.violation("held twice, or before it was admitted")
	}
	m.held = true
}

func (m *seat) StillHeld(Rights) {
	if !m.held {
		m.violation("still held, and was not in doubt")
	}
}

func (m *seat) Decided(Rights) {
	if !m.held {
		m.violation("decided, and was not in doubt")
	}
	m.held = false
	m.take()
	if m.last.right == 0 {
		m.violation("goes on without a right")
	}
	if s := m.state; s.changedAmong(m.subject, s.heard) > m.last.commits {
		m.violation("decided by an answer from before a change that was heard")
	}
}

func (m *seat) Paused()        {}
func (m *seat) Withheld(n int) { m.withheld += n }
func (m *seat) Outdated()      {}
func (m *seat) Missed(Loss)    { m.warned = true }

func (m *seat) Ended(why End, _ Verdict) {
	s := m.state
	if m.ended || m.left {
		m.violation("ended when it is gone")
	}
	m.ended, m.held, m.hoped = true, false, 0
	switch q := m.answer(); why {
	case EndRefused, EndRevoked:
		if s.answering == nil || q.subject != m.subject || q.right == rightToAll {
			m.violation("%s, and has the right", why)
		}
		if why == EndRefused && s.changedAmong(m.subject, s.heard) > q.commits {
			m.violation("refused by an answer from before a change that was heard")
		}
	case EndDeaf:
		if !s.worker.deaf {
			m.violation("ended as deaf, and the database is heard")
		}
	case EndHeldTooBig:
		if s.bound == 0 {
			m.violation("too much waits, and there is no bound")
		}
	case EndUndecided:
		if s.failed == 0 {
			m.violation("ended as undecided, and no decision failed")
		}
	}
}

// Deliver holds what is given against the database.
func (m *seat) Deliver(f *protocol.Frame) Outlet {
	s, n := m.state, m.state.numbers[f]
	switch {
	case !m.admitted, m.ended, m.left:
		m.violation("frame %d given before the admission, or after the end", n)
		return nil
	case s.worker.deaf, !s.connected, s.stalled:
		m.violation("frame %d given while the database is not heard", n)
	}
	q := m.answer()
	if q.subject != m.subject {
		m.violation("frame %d given by an answer about other claims", n)
	}
	if q.right&rightToMessages == 0 {
		m.violation("frame %d given, and the last answer was no", n)
	}
	if m.past&(1<<n) != 0 {
		m.past &^= 1 << n
		if m.delivered != 0 {
			m.violation("message %d of the past given behind what is live", n)
		}
		if s.changedAmong(m.subject, s.heard) > q.commits {
			m.violation("message %d of the past given, and a change was heard that the last answer did not see", n)
		}
		return nil
	}
	if m.delivered&(1<<n) != 0 {
		m.violation("frame %d given twice", n)
	}
	m.delivered |= 1 << n
	if m.sub.history.awaited && !m.sub.history.last {
		m.violation("frame %d given before the past", n)
	}
	if c := n - len(s.origin); c >= 0 {
		m.judgeClients(n, s.knownAt[c], q)
	} else {
		m.judgeMessage(n, q)
	}
	return nil
}

// judgeMessage: the last answer saw every change that was committed before the message; and where a lost right is told
// strictly, it was sent while there was the right.
func (m *seat) judgeMessage(n int, q inquiry) {
	s := m.state
	if s.committed(n) < m.admittedAt {
		m.violation("message %d given live, and the admission saw it", n)
	}
	if at := s.changed(m.subject, n); at > q.commits {
		m.violation("message %d given by an answer that saw %d commits; a right changed with commit %d", n, q.commits, at)
	}
	for subject := range len(s.begun()) {
		if m.subjects&(1<<subject) != 0 && (s.leniently(subject) || s.had(subject, n)) {
			return
		}
	}
	m.violation("message %d given, sent without the right", n)
}

// judgeClients: the same for what a client sends. Where a grant was not heard before somebody was admitted by it, nobody
// can say which was first.
func (m *seat) judgeClients(n int, known knowledge, q inquiry) {
	s := m.state
	if at := s.changedAmong(m.subject, known.commits); at > q.commits {
		m.violation("frame %d of a client given by an answer that saw %d commits; a right changed with commit %d", n, q.commits, at)
	}
	for subject := range len(s.begun()) {
		if m.subjects&(1<<subject) == 0 {
			continue
		}
		right := s.right(subject, known.commits)
		if known.part > 0 {
			right |= after(right, subject, s.transactions[s.order[known.commits]][:known.part])
		}
		if s.leniently(subject) || right&rightToMessages != 0 || s.changedAmong(subject, m.admittedAt) > m.heardAt {
			return
		}
	}
	m.violation("frame %d of a client given, sent without the right", n)
}

// begun are the rights at first, of all subjects.
func (c *scene) begun() []uint8 {
	if c.begin == nil {
		return []uint8{rightToAll}
	}
	return c.begin
}

// expect notes who must be given what a client sends now, or be told of it: who has the right as far as the server can
// know. Who is being admitted is not, if a right changes meanwhile, or the database falls silent.
func (s *state) expect(n int) {
	for _, m := range s.seats {
		known := s.known().commits
		if m.sub == nil || m.ended || m.left || s.right(m.subject, known)&rightToMessages == 0 || s.changedAmong(m.subject, len(s.order)) > known {
			continue
		}
		switch m.sub.gate.state {
		case gateOpen, gateHeld:
			m.expected |= 1 << n
		case gateJoining:
			if s.bound == 0 && !s.worker.deaf && s.connected && !s.stalled {
				m.hoped |= 1 << n
			}
		}
	}
}

// check is made after every step.
func (s *state) check() {
	for _, m := range s.seats {
		if m.sub == nil {
			continue
		}
		g := &m.sub.gate
		bytes := 0
		for _, w := range g.waiting {
			if w.frame != nil {
				bytes += w.frame.Size()
			}
		}
		switch {
		case bytes != g.bytes:
			m.violation("%d bytes are counted as waiting, and there are %d", g.bytes, bytes)
		case g.state == gateOpen && (len(g.waiting) > 0 || m.held):
			m.violation("open, and something waits")
		case g.state == gateHeld && !m.held:
			m.violation("held, and the member does not know")
		case (m.ended || m.left) != (g.state == gateEnded):
			m.violation("the member and the hub disagree about the end")
		case s.worker.held[0] < m.sub.held, m.sub.held != g.bytes+m.sub.history.bytes:
			m.violation("what waits is not counted")
		}
		if g.state == gateOpen && s.worker.deaf {
			m.violation("open while deaf")
		}
	}
}

// checkRest is made where nothing goes on any more by itself: everybody is decided, by what is so, and lacks nothing but
// what they were told of.
func (s *state) checkRest() {
	for _, m := range s.seats {
		if m.sub == nil || m.left || m.ended {
			continue
		}
		g, right := &m.sub.gate, s.right(m.subject, len(s.order))
		switch {
		case g.state != gateOpen || g.asking:
			m.violation("not decided, and nothing is under way: state %d", g.state)
			return
		case right == 0:
			m.violation("open without the right")
		case g.rights.Broadcast.Receive != (right&rightToMessages != 0) || g.rights.Presence.Receive != (right&rightToPresence != 0):
			m.violation("goes on with other rights than it has")
		case m.past != 0 || m.sub.history.awaited:
			m.violation("not all of the past was given")
		}
		missing := 0
		for n := range s.frames {
			if m.delivered&(1<<n) == 0 && m.owed(n) {
				missing++
			}
		}
		if missing > m.withheld && !m.warned {
			m.violation("%d frames missing, %d withheld", missing, m.withheld)
		}
		if given := bits.OnesCount32(m.delivered); m.withheld > bits.OnesCount32(s.told)+s.sent-given {
			m.violation("%d frames withheld, which is more than there were", m.withheld)
		}
		if !m.marked && !m.warned && m.withheld > 0 {
			m.violation("%d frames withheld, and nothing said that rights changed", m.withheld)
		}
	}
	if n := s.worker.unsettled.Load(); n != 0 {
		s.seats[0].violation("%d are counted as undecided", n)
	}
	if n := s.worker.held[0]; n != 0 {
		s.seats[0].violation("%d bytes are counted as waiting, and nothing waits", n)
	}
}

// owed tells whether a frame was to be given to who is there.
func (m *seat) owed(n int) bool {
	s := m.state
	if n >= len(s.origin) {
		return m.expected&(1<<n) != 0
	}
	if at := s.committed(n); at < m.admittedAt || at < 0 {
		return false
	}
	for subject := range len(s.begun()) {
		if m.subjects&(1<<subject) != 0 && !s.had(subject, n) {
			return false
		}
	}
	return true
}
