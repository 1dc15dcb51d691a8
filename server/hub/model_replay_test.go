package hub

import (
	"math"

	"rowcast/server/protocol"
)

// past is what the model's member asked for of what was before it, if it did.
type past struct {
	wanted  bool
	pages   [][]*protocol.Frame // not given to the hub yet
	under   bool                // one was, and the hub has not said that it gave it
	missing map[*protocol.Frame]bool
	next    int // place of the next frame: before all that is live
}

// wish begins a member, of which half want a replay.
func (m *model) wish() {
	m.past = past{wanted: m.replays && m.rng.IntN(2) == 0, missing: map[*protocol.Frame]bool{}, next: math.MinInt / 2}
	if m.past.wanted {
		m.sub.AwaitReplay()
	}
	m.last = math.MinInt
}

// remember has the database read, by what the admission saw.
func (m *model) remember(r Rights) {
	if !m.past.wanted {
		return
	}
	var page []*protocol.Frame
	for _, c := range m.commits {
		if !c.message || !r.Broadcast.Receive || !m.sub.Admission().Sees(c.xid) {
			continue
		}
		f := protocol.TextBroadcast("realtime:"+modelTopic, []byte(`{}`))
		m.past.missing[f] = true
		if page = append(page, f); m.rng.IntN(3) == 0 {
			m.past.pages = append(m.past.pages, page)
			page = nil
		}
	}
	m.past.pages = append(m.past.pages, page)
}

// replay brings the next page to the hub.
func (m *model) replay() {
	if len(m.past.pages) == 0 || m.past.under {
		return
	}
	page, this := m.past.pages[0], m.sub
	m.past.pages, m.past.under = m.past.pages[1:], true
	replay{m.sub, page, len(m.past.pages) == 0, func() {
		if m.sub == this {
			m.past.under = false
		}
	}}.apply(m.worker)
}

// replayed tells whether a frame is one of the past, and looks whether it may be given now.
func (m *model) replayed(f *protocol.Frame) bool {
	if !m.past.missing[f] {
		return false
	}
	delete(m.past.missing, f)
	if m.last >= 0 {
		m.violation("a message of the past behind one of the present")
	}
	known := max(m.heard, m.admitted) // of what was committed, that the hub can know
	if known > 0 && !m.commits[known-1].allowed && !m.mute {
		m.violation("a message of the past given without the right")
	}
	if m.worker.deaf {
		m.violation("a message of the past given while deaf")
	}
	return true
}
