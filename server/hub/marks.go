package hub

import (
	"slices"
	"time"

	"rowcast/server/snapshot"
)

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
	if !m.mark.Seen.IsZero() {
		e.mark.Seen = m.mark.Seen
	}
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
