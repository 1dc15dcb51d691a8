package hub

import (
	"time"

	"rowcast/server/snapshot"
)

// listen turns the worker deaf where nobody can vouch for its hearing any more. When the whole process was stopped for a
// while, what is in the log is there before anybody can say Deaf.
func (w *worker) listen() {
	if !w.deaf && w.options.Hears != nil && !w.options.Hears() {
		deaf{}.apply(w)
	}
}

type deaf struct{}

func (deaf) apply(w *worker) {
	if w.deaf {
		return
	}
	w.deaf = true
	for s := range w.private() {
		if s.gate.state != gateJoining {
			w.mark(s, &marking{mark: Mark{Lenient: true}, heard: time.Now()}) // what was said meanwhile is told afterwards
			s.gate.deafAt = s.gate.marks
		}
	}
	w.silences++
	if w.later != nil {
		w.later(joinPause, stillDeaf{w.silences, refuseJoins})
		w.later(pauseNotice, stillDeaf{w.silences, tellMembers})
		if w.options.MaxDeaf > 0 {
			w.later(w.options.MaxDeaf, stillDeaf{w.silences, endMembers})
		}
	}
}

// stillDeaf does something unless the silence is over for which it was meant.
type stillDeaf struct {
	silence uint64
	then    func(*worker)
}

func (e stillDeaf) apply(w *worker) {
	if w.deaf && w.silences == e.silence {
		e.then(w)
	}
}

// A connection lost and made again is nothing to tell. Clients wait ten seconds for the answer to a join, and it may last
// longer; release 2.44.0 of the official client may lose an answer that takes two.
const (
	joinPause   = time.Second     // how long the server is deaf before joins are refused
	pauseNotice = 2 * time.Second // … and members told
)

// refuseJoins answers those who join in a silence that lasts.
func refuseJoins(w *worker) {
	w.refusing = true
	for s := range w.private() {
		if s.gate.state == gateJoining {
			w.end(s, EndDeaf, Verdict{})
		}
	}
}

func tellMembers(w *worker) {
	for s := range w.private() {
		s.member.Paused()
	}
}

// endMembers ends what can only be kept waiting: a client that joins again finds out when there is hope.
func endMembers(w *worker) {
	for s := range w.private() {
		w.end(s, EndDeaf, Verdict{})
	}
}

type hearing struct{ at time.Time }

func (e hearing) apply(w *worker) {
	w.deaf, w.refusing = false, false
	for s := range w.private() {
		if s.gate.state == gateJoining {
			w.makeHistory(s)
		}
		s.gate.round++ // answers under way may have waited for what was never heard
		s.gate.asking, s.gate.paced = false, false
		s.gate.deafAt = 0
		w.endRecheck(s)
		if !s.unsettled {
			s.unsettled = true
			w.unsettled.Add(1)
		}
	}
	w.unsettled.Add(-1)
	w.markAll(&marking{mark: Mark{Lenient: true}, heard: e.at})
}

// settle counts a subscription as decided, or gone.
func (w *worker) settle(s *Subscription) {
	if s.unsettled {
		s.unsettled = false
		w.unsettled.Add(-1)
	}
}

// catchingUp makes messages of the database late: marks have overtaken them, and so have answers.
type catchingUp struct{}

func (catchingUp) apply(w *worker) { w.catchUp = true }

// rewound comes before catchingUp; if that is on already, there are subscriptions that began in the middle of it.
type rewound struct{ to snapshot.Snapshot }

func (e rewound) apply(w *worker) {
	for s := range w.private() {
		s.gate.rewind(e.to, w.catchUp)
	}
}

// missed tells everyone that something is missing, and has private subscriptions asked about what they are given next.
type missed struct{}

func (missed) apply(w *worker) {
	for _, members := range w.rooms {
		for _, s := range members {
			if s.gate.state != gateJoining {
				s.member.Missed(LossUnheard)
			}
		}
	}
	w.markAll(&marking{heard: time.Now()})
}

// dropped tells a room that a message to it is missing.
type dropped struct{ room Room }

func (e dropped) apply(w *worker) {
	for _, s := range w.rooms[e.room] {
		if s.gate.lose() {
			s.member.Missed(LossDropped)
		}
	}
}

type caughtUp struct{}

func (caughtUp) apply(w *worker) {
	w.catchUp = false
	for s := range w.private() {
		w.withheld(s, s.gate.caughtUp())
	}
}
