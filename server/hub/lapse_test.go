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
	// An answer that comes too late releases nothing, and a join is not asked about.
	(&marking{}).apply(w)
	msg(w, 0)
	hears = false
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "60:60:")}}.apply(w)
	late := &recorder{}
	join{NewSubscription(Room{"a", true}, 0, "u", late)}.apply(w)
	if r.delivered != 2 || len(late.asks) > 0 {
		t.Errorf("delivered %d, the join was asked about %d times", r.delivered, len(late.asks))
	}
}

// Whoever joins is the first to notice, and waits for a moment: for what is heard again soon, or else to be refused.
func TestJoinOnALapsedProof(t *testing.T) {
	t.Parallel()
	w, r, _ := admitted(t, 0)
	hears := false
	w.options.Hears = func() bool { return hears }
	joins := func() (*recorder, *Subscription) {
		m := &recorder{}
		s := NewSubscription(Room{"a", true}, 0, "u", m)
		join{s}.apply(w)
		return m, s
	}
	waits, _ := joins()
	if msg(w, 0); r.delivered != 0 || len(waits.asks) > 0 || waits.ended > 0 {
		t.Errorf("delivered %d; the join asked about %d times, ended %q", r.delivered, len(waits.asks), waits.why)
	}
	stillDeaf{w.silences, refuseJoins}.apply(w)
	later, _ := joins()
	for _, m := range []*recorder{waits, later} {
		if m.why != EndDeaf || len(m.asks) > 0 {
			t.Errorf("ended %q, asked %d times", m.why, len(m.asks))
		}
	}

	hears = true
	hearing{}.apply(w)
	hears = false
	other, s := joins()
	msg(w, 0) // history by the time of the decision
	hears = true
	hearing{}.apply(w)
	stillDeaf{w.silences, refuseJoins}.apply(w) // comes too late
	answer{s, Verdict{Round: other.last(), Rights: yes, Snapshot: snap(t, "70:70:")}}.apply(w)
	msg(w, 0)
	if other.ended > 0 || len(other.asks) != 1 || other.delivered != 1 {
		t.Errorf("who waited: ended %q, asked about %d times, delivered %d", other.why, len(other.asks), other.delivered)
	}
}
