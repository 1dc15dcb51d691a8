package hub

import (
	"fmt"
	"maps"
	"slices"

	"rowcast/server/protocol"
)

// members is who is present in the model's room, besides its subscription: it is told of them, as whoever keeps presence
// would tell it, and has to know exactly who they are in the end.
type members struct {
	here    map[int]bool
	version int // how often they have changed
	frames  map[*protocol.Frame]*membersFrame

	waits bool // for a state
	asked bool
	known map[int]bool // as the subscription has been told; nil: it has no state
	at    int          // the version that it knows
}

// membersFrame is a state of a version, or the diff to it.
type membersFrame struct {
	version int
	state   map[int]bool
	changed int
	heard   int // commits that the hub had been told of when it was given the frame
}

func newMembers() members {
	return members{here: map[int]bool{}, frames: map[*protocol.Frame]*membersFrame{}}
}

// leave forgets what the subscription before knew.
func (p *members) leave() { p.waits, p.asked, p.known = false, false, nil }

// decided asks for a state once there is the right to it.
func (p *members) decided(r Rights) {
	if r.Presence.Receive && !p.asked {
		p.waits, p.asked = true, true
	}
}

func (p *members) outdated() { p.waits, p.known = true, nil }

// changeMembers has somebody come or go, or gives a state, sometimes to somebody who has not asked for it, or may not have it.
func (m *model) changeMembers() {
	p := &m.members
	if p.waits && m.rng.IntN(2) == 0 || m.rng.IntN(16) == 0 {
		p.waits = true
		m.tellMembers()
		return
	}
	who := m.rng.IntN(4)
	p.version++
	p.here[who] = !p.here[who]
	f := protocol.TextEvent("realtime:"+modelTopic, protocol.EventPresenceDiff, nil)
	p.frames[f] = &membersFrame{version: p.version, changed: who, heard: m.heard}
	(&Publication{Room: Room{modelTopic, true}, Frame: f}).apply(m.worker)
}

func (m *model) tellMembers() {
	for m.members.waits {
		p := &m.members
		p.waits = false
		f := protocol.TextEvent("realtime:"+modelTopic, protocol.EventPresenceState, nil)
		p.frames[f] = &membersFrame{version: p.version, state: maps.Clone(p.here), heard: m.heard}
		gift{m.sub, f}.apply(m.worker)
	}
}

// hearsOfMembers checks that a diff follows what was known, and that somebody may know it: of the commits that the hub
// had heard when it was given the frame the last allows it, or one that an answer may have seen since.
func (m *model) hearsOfMembers(f *protocol.Frame) {
	p, this := &m.members, m.members.frames[f]
	sees := func(c *commit) bool { return c.sees }
	if this.heard > 0 && !slices.ContainsFunc(m.commits[this.heard-1:], sees) {
		m.violation("members told of without the right")
	}
	switch {
	case this.state != nil:
		p.known = maps.Clone(this.state)
	case p.known == nil:
		m.violation("told of a change of members, and not before of them")
		return
	case this.version != p.at+1:
		m.violation("told of change %d after %d", this.version, p.at)
	default:
		p.known[this.changed] = !p.known[this.changed]
	}
	p.at = this.version
}

// completeMembers checks that whoever may know all members does.
func (m *model) completeMembers() {
	present := func(who map[int]bool) (names []int) {
		for name, here := range who {
			if here {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	p := &m.members
	if got, want := fmt.Sprint(present(p.known)), fmt.Sprint(present(p.here)); p.known == nil || got != want {
		m.violation("members %s are present, known are %s (%v)", want, got, p.known != nil)
	}
}
