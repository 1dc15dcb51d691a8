package hub

import (
	"testing"
	"time"
)

// While somebody is asked about by the timer nothing waits; what the answer takes away is gone at once.
func TestRecheckHoldsNothing(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	once(w)
	if len(r.asks) != 2 || r.asks[1].first {
		t.Fatalf("asked %v", r.asks)
	}
	if msg(w, 60); r.delivered != 1 {
		t.Error("a frame waits for an answer that nobody asked for it")
	}
	once(w)
	if len(r.asks) != 2 {
		t.Error("asked again before the answer")
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "61:61:")}}.apply(w)
	if msg(w, 62); r.delivered != 2 || w.rechecks.Load() != 0 {
		t.Errorf("delivered %d, %d under way", r.delivered, w.rechecks.Load())
	}
	once(w)
	answer{s, Verdict{Round: r.last(), Snapshot: snap(t, "63:63:")}}.apply(w)
	if r.why != EndRevoked {
		t.Errorf("ended %q", r.why)
	}
}

func TestRecheckAppliesTheRightToSend(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	once(w)
	answer{s, Verdict{Round: r.last(), Rights: Rights{Broadcast: Right{Receive: true}}, Snapshot: snap(t, "61:61:")}}.apply(w)
	if s.gate.rights.Broadcast.Send || r.decided != 1 || r.ended != 0 {
		t.Errorf("rights %+v, decided %d, ended %d", s.gate.rights, r.decided, r.ended)
	}
}

// A mark that comes while the timer's question is under way is not answered by it, unless that has seen it.
func TestRecheckAnswersNoLaterMark(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	once(w)
	(&marking{mark: Mark{XID: 100, Subject: "u"}, heard: time.Now()}).apply(w)
	if msg(w, 101); r.delivered != 0 {
		t.Fatal("delivered behind a mark")
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "99:99:")}}.apply(w)
	if r.delivered != 0 || len(r.asks) != 3 {
		t.Fatalf("delivered %d, asked %v", r.delivered, r.asks)
	}
	answer{s, Verdict{Round: r.last(), Snapshot: snap(t, "101:101:")}}.apply(w)
	if r.delivered != 0 || r.why != EndRevoked {
		t.Errorf("delivered %d, ended %q", r.delivered, r.why)
	}
}

// Passes do not overlap: whoever leaves, is held for another reason, or is not answered because the database is silent, is
// not waited for.
func TestRecheckCountsWhoIsAsked(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	for _, end := range []func(){
		func() { answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "61:61:")}}.apply(w) },
		func() {
			deaf{}.apply(w)
			hearing{time.Now()}.apply(w)
			answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "62:62:")}}.apply(w)
		},
		func() { leave{s}.apply(w) },
	} {
		once(w)
		if n := w.rechecks.Load(); n != 1 {
			t.Errorf("%d under way, want 1", n)
		}
		if end(); w.rechecks.Load() != 0 {
			t.Errorf("%d under way, want none", w.rechecks.Load())
		}
	}
}

// Every subscription is in one of the parts.
func TestRecheckTakesTurns(t *testing.T) {
	t.Parallel()
	w := bareWorker(0)
	var all []*recorder
	for range 25 {
		r := &recorder{}
		s := NewSubscription(Room{"a", true}, 0, "u", r)
		join{s}.apply(w)
		answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
		all = append(all, r)
	}
	for part := range uint(10) {
		before := w.rechecks.Load()
		w.rechecks.Add(1)
		recheck{part, 10}.apply(w)
		if n := w.rechecks.Load() - before; n < 2 || n > 3 {
			t.Errorf("part %d has %d", part, n)
		}
	}
	for i, r := range all {
		if len(r.asks) != 2 {
			t.Errorf("subscription %d was asked about %d times", i, len(r.asks))
		}
	}
}

// once is a pass of one part.
func once(w *worker) {
	w.rechecks.Add(1) // as Hub.Recheck does
	recheck{0, 1}.apply(w)
}
