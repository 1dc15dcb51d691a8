package hub

import "testing"

// A frame that is in the log before anybody has said Deaf waits all the same, once nobody can vouch for the hearing.
func TestNothingPassesOnALapsedProof(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	hears := true
	w.options.Hears = func() bool { return hears }
	msg(w, 0)
	hears = false
	msg(w, 0)
	if r.delivered != 1 {
		t.Fatalf("delivered %d, want the first alone", r.delivered)
	}
	(&marking{mark: Mark{XID: 55}}).apply(w) // this had been said meanwhile
	deaf{}.apply(w)                          // and this is said at last
	hears = true
	hearing{}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "60:60:")}}.apply(w)
	msg(w, 0)
	if r.delivered != 2 || r.withheld != 1 || r.ended != 0 { // what was sent unheard stays away
		t.Errorf("delivered %d, withheld %d, ended %d after hearing again", r.delivered, r.withheld, r.ended)
	}
	// An answer that comes too late releases nothing, and a join is refused.
	(&marking{}).apply(w)
	msg(w, 0)
	hears = false
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "60:60:")}}.apply(w)
	late := &recorder{}
	join{NewSubscription(Room{"a", true}, 0, "u", late)}.apply(w)
	if r.delivered != 2 || late.why != EndDeaf {
		t.Errorf("delivered %d, the join ended %q", r.delivered, late.why)
	}
}

// Whoever joins is the first to notice, and is refused at once rather than kept waiting.
func TestJoinOnALapsedProof(t *testing.T) {
	t.Parallel()
	w, r, _ := admitted(t, 0)
	w.options.Hears = func() bool { return false }
	late := &recorder{}
	join{NewSubscription(Room{"a", true}, 0, "u", late)}.apply(w)
	if late.why != EndDeaf || len(late.asks) > 0 {
		t.Errorf("ended %q, asked %d times", late.why, len(late.asks))
	}
	if msg(w, 0); r.delivered != 0 {
		t.Errorf("delivered %d", r.delivered)
	}
}
