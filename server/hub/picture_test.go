package hub

import (
	"fmt"
	"testing"

	"rowcast/server/protocol"
)

func presenceState() *protocol.Frame {
	return protocol.TextEvent("realtime:a", protocol.EventPresenceState, nil)
}

func presenceDiff() *protocol.Frame {
	return protocol.TextEvent("realtime:a", protocol.EventPresenceDiff, nil)
}

// A frame needs the right to its own extension, and no other.
func TestRightsAreThoseOfTheFrame(t *testing.T) {
	t.Parallel()
	yes := Right{Receive: true}
	for _, tt := range []struct {
		rights Rights
		want   string // broadcasts and presence frames delivered
	}{
		{Rights{Broadcast: yes}, "1 0"},
		{Rights{Presence: yes}, "0 2"},
		{Rights{Broadcast: yes, Presence: yes}, "1 2"},
	} {
		for _, held := range []bool{false, true} {
			w, r := bareWorker(0), &recorder{}
			s := NewSubscription(Room{"a", true}, 0, "u", r)
			join{s}.apply(w)
			answer{s, Verdict{Round: r.last(), Rights: tt.rights, Snapshot: snap(t, "50:50:")}}.apply(w)
			if held {
				(&marking{mark: Mark{XID: 100}}).apply(w)
			}
			count := func(do func()) int {
				do()
				if held {
					answer{s, Verdict{Round: r.last(), Rights: tt.rights, Snapshot: snap(t, "101:101:")}}.apply(w)
					(&marking{mark: Mark{XID: 100}}).apply(w)
				}
				defer func() { r.delivered = 0 }()
				return r.delivered
			}
			broadcasts := count(func() { msg(w, 0) })
			presence := count(func() {
				gift{s, presenceState()}.apply(w)
				(&Publication{Room: s.room, Frame: presenceDiff()}).apply(w)
			})
			if got := fmt.Sprint(broadcasts, presence); got != tt.want {
				t.Errorf("%+v (held %v): delivered %s, want %s", tt.rights, held, got, tt.want)
			}
		}
	}
}

// Diffs follow a state; before it they mean nothing.
func TestNoDiffBeforeTheState(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", false}, 0, "u", r)
	join{s}.apply(w)
	diff := func() { (&Publication{Room: s.room, Frame: presenceDiff()}).apply(w) }
	if diff(); r.delivered != 0 {
		t.Error("a diff before the state")
	}
	gift{s, presenceState()}.apply(w)
	if diff(); r.delivered != 2 {
		t.Errorf("%d frames of a state and a diff", r.delivered)
	}
	leave{s}.apply(w)
	gift{s, presenceState()}.apply(w)
	if r.delivered != 2 {
		t.Error("a state for somebody who has left")
	}
}

// Presence that is withheld because the right was lost and regained is no message withheld: the member asks for a state.
func TestWithheldPresenceIsOutdated(t *testing.T) {
	t.Parallel()
	both := Rights{Broadcast: Right{Receive: true}, Presence: Right{Receive: true}}
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: both, Snapshot: snap(t, "50:50:")}}.apply(w)
	gift{s, presenceState()}.apply(w)
	diff := func() { (&Publication{Room: s.room, Frame: presenceDiff()}).apply(w) }
	doubt := func(between func()) {
		(&marking{mark: Mark{XID: 100, Subject: "u"}}).apply(w)
		between()
		(&marking{mark: Mark{XID: 101, Subject: "u"}}).apply(w)
		diff()
		for range 2 { // the first was asked before the second mark
			if s.gate.asking {
				answer{s, Verdict{Round: r.last(), Rights: both, Snapshot: snap(t, "102:102:")}}.apply(w)
			}
		}
	}
	if doubt(diff); r.delivered != 1 || r.withheld != 0 || r.outdated != 1 {
		t.Errorf("delivered %d, withheld %d, told %d times that it is outdated", r.delivered, r.withheld, r.outdated)
	}
	if diff(); r.delivered != 1 {
		t.Error("a diff after one that was withheld")
	}
	gift{s, presenceState()}.apply(w)
	if diff(); r.delivered != 3 {
		t.Errorf("delivered %d after another state", r.delivered)
	}
	// A state that comes while in doubt makes up for what was withheld.
	doubt(func() { diff() })
	r.delivered, r.outdated = 0, 0
	gift{s, presenceState()}.apply(w)
	(&marking{mark: Mark{XID: 110, Subject: "u"}}).apply(w)
	diff()
	(&marking{mark: Mark{XID: 111, Subject: "u"}}).apply(w)
	gift{s, presenceState()}.apply(w)
	diff()
	for s.gate.asking {
		answer{s, Verdict{Round: r.last(), Rights: both, Snapshot: snap(t, "112:112:")}}.apply(w)
	}
	if r.delivered != 3 || r.outdated != 0 {
		t.Errorf("delivered %d, told %d times that it is outdated", r.delivered, r.outdated)
	}
}
