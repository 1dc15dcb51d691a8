package hub

import (
	"testing"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

type asked struct {
	round uint64
	first bool
}
type recorder struct {
	asks                     []asked
	admitted, ended, decided int
	delivered, withheld      int
	missed, outdated, still  int
	why                      End
}

func (r *recorder) Ask(_ *Subscription, round uint64, first bool) {
	r.asks = append(r.asks, asked{round, first})
}
func (r *recorder) Admitted(Rights)  { r.admitted++ }
func (r *recorder) Held()            {}
func (r *recorder) Paused()          {}
func (r *recorder) StillHeld(Rights) { r.still++ }
func (r *recorder) Decided(Rights)   { r.decided++ }
func (r *recorder) Withheld(n int)   { r.withheld += n }
func (r *recorder) Outdated()        { r.outdated++ }
func (r *recorder) Missed(Loss)      { r.missed++ }
func (r *recorder) Deliver(*protocol.Frame) Outlet {
	r.delivered++
	return nil
}
func (r *recorder) Ended(e End, _ Verdict) { r.ended++; r.why = e }
func (r *recorder) last() uint64           { return r.asks[len(r.asks)-1].round }

func bareWorker(max int) *worker {
	w := newWorker(Options{Metrics: metrics.New(), MaxHeldBytes: max}, 0)
	w.deaf = false
	return w
}
func snap(t testing.TB, s string) snapshot.Snapshot {
	v, err := snapshot.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// admitted is a worker with one subscription, admitted by an answer that saw the transactions below 50.
func admitted(t testing.TB, maxHeld int) (*worker, *recorder, *Subscription) {
	w, r := bareWorker(maxHeld), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
	return w, r, s
}

var yes = Rights{Broadcast: Right{true, true}}

func msg(w *worker, xid snapshot.XID) {
	(&Publication{Room: Room{"a", true}, Frame: protocol.TextBroadcast("realtime:a", []byte(`{}`)), XID: xid}).apply(w)
}

// A forged mark with an old xid, right behind a real one, makes a stale first answer count.
func TestForgedMarkAdmitsStale(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	// the answer's snapshot is 100:100:, taken before the revocation 100
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // the revocation is heard
	(&marking{mark: Mark{XID: 3}, heard: time.Now()}).apply(w)                             // NOTIFY realtime, 'r {"x":"3"}'
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "100:100:")}}.apply(w)
	msg(w, 101)
	if r.admitted != 0 || r.delivered != 0 {
		t.Errorf("admitted %d, delivered %d on an answer that did not see the revocation", r.admitted, r.delivered)
	}
}

func TestForgedMarkReleasesStale(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{}, heard: time.Now()}).apply(w)                                   // anything that has it asked
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // revocation, after Postgres looked
	(&marking{mark: Mark{XID: 3}, heard: time.Now()}).apply(w)                             // forged
	msg(w, 101)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "100:100:")}}.apply(w)
	if r.delivered != 0 {
		t.Errorf("delivered %d after the revocation, on an answer that did not see it", r.delivered)
	}
}

// A forged mark in front of the regain hides it from the search for the last mark seen: nothing is withheld.
func TestForgedMarkDefeatsWithholding(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // loss
	msg(w, 101)                                                                            // without the right
	(&marking{mark: Mark{XID: 1 << 60}, heard: time.Now()}).apply(w)                       // forged
	(&marking{mark: Mark{XID: 102, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // regain
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "103:103:")}}.apply(w)
	if r.delivered != 0 {
		t.Errorf("delivered %d, withheld %d: committed without the right", r.delivered, r.withheld)
	}
}

// The same without forgery: loss and regain by marks that name no subject.
func TestUnnamedLossAndRegain(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{XID: 100}, heard: time.Now()}).apply(w) // TRUNCATE members
	msg(w, 101)
	(&marking{mark: Mark{XID: 102}, heard: time.Now()}).apply(w) // members loaded again
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "103:103:")}}.apply(w)
	if r.delivered != 0 {
		t.Errorf("delivered %d, withheld %d: committed without the right", r.delivered, r.withheld)
	}
}

// The database behind the URL is another one after an interruption, with smaller transaction ids.
func TestSinceOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "5000:5000:")}}.apply(w)
	deaf{}.apply(w)
	rewound{}.apply(w)
	hearing{time.Now()}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "900:900:")}}.apply(w)
	n := len(r.asks)
	msg(w, 901)
	if r.delivered != 1 {
		t.Errorf("message not delivered, and nothing said")
	}
	(&marking{mark: Mark{XID: 902, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w)
	if len(r.asks) == n {
		t.Errorf("revocation not noticed: not asked again")
	}
}

// A client that refreshes its token in a loop: reservations and timers pile up.
func TestRebindTimers(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	pending := 0
	w.later = func(time.Duration, entry) *time.Timer { pending++; return nil }
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
	for range 1000 {
		rebind{s, "u"}.apply(w)
	}
	if pending > 1 {
		t.Errorf("%d timers under way", pending)
	}
}

// One legal frame (3 MB payload) while held ends the channel (bound 1 MiB).
func TestOneLegalFrameWhileHeld(t *testing.T) {
	t.Parallel()
	w, r, _ := admitted(t, 1<<20)
	(&marking{mark: Mark{XID: 100, Topic: "a"}, heard: time.Now()}).apply(w)
	(&Publication{Room: Room{"a", true}, Frame: protocol.TextBroadcast("realtime:a", append(append([]byte(`{"x":"`), make([]byte, 2<<20)...), `"}`...)), XID: 101}).apply(w)
	if r.ended != 0 {
		t.Errorf("ended: %s", r.why)
	}
}

// A gain whose mark was heard before the refusal that did not see it.
func TestStaleRefusal(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // the grant
	answer{s, Verdict{Round: r.last(), Snapshot: snap(t, "100:100:")}}.apply(w)
	if r.ended != 0 {
		t.Errorf("ended: %s, without asking again (docs: the question is asked again)", r.why)
	}
}

// A forged mark in a run of its own, never seen, stops the answer there; that a named loss came before is then forgotten.
func TestForgedMarkForgetsTheLoss(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // loss
	msg(w, 101)
	(&marking{mark: Mark{XID: 1 << 60}, heard: time.Now()}).apply(w) // forged
	msg(w, 102)
	(&marking{mark: Mark{XID: 103, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w) // regain
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "104:104:")}}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "104:104:")}}.apply(w)
	if r.delivered != 0 {
		t.Errorf("delivered %d, withheld %d: committed without the right", r.delivered, r.withheld)
	}
}

// A mark that the answer did not see, before every answer: the join is answered all the same.
func TestJoinStarves(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	for i := range 1000 {
		round := r.last()
		(&marking{mark: Mark{XID: snapshot.XID(1<<40 + i)}, heard: time.Now()}).apply(w)
		answer{s, Verdict{Round: round, Rights: yes, Snapshot: snap(t, "104:104:")}}.apply(w)
	}
	if r.ended != 1 || r.why != EndUndecided {
		t.Errorf("asked %d times, ended %d times (%s)", len(r.asks), r.ended, r.why)
	}
}

// Each mark is answered at once, and forged again: beyond the burst, asking waits for its time.
func TestAskingAgainIsPaced(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	put := 0
	w.later = func(time.Duration, entry) *time.Timer { put++; return nil }
	for range 1000 {
		(&marking{mark: Mark{}, heard: time.Now()}).apply(w)
		answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "104:104:")}}.apply(w)
	}
	if n := len(r.asks); n < againBurst || n > 2*againBurst {
		t.Errorf("asked %d times, want about %d", n, againBurst)
	}
	if put != 1 {
		t.Errorf("%d asks wait for their time, want 1", put)
	}
}

// What clients sent before the right was given is not for who was only waiting to be let in; what they sent afterwards is.
func TestJoinIsNotGivenWhatCameBeforeTheGrant(t *testing.T) {
	t.Parallel()
	w, r := bareWorker(0), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	msg(w, 0) // sent while u has no right
	(&marking{mark: Mark{XID: 100, Subject: "u", Topic: "a"}, heard: time.Now()}).apply(w)
	msg(w, 0)
	(&marking{mark: Mark{XID: 101, Lenient: true}, heard: time.Now()}).apply(w) // a change as common as messages
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "102:102:")}}.apply(w)
	if r.admitted != 1 || r.delivered != 1 {
		t.Errorf("admitted %d, delivered %d, want the frame behind the grant alone", r.admitted, r.delivered)
	}
}

// Several marks that became one hold a member unless its admission saw them all, however many there are.
func TestMergedMarksAreSeenTogether(t *testing.T) {
	t.Parallel()
	seen, unseen := snapshot.XID(3), snapshot.XID(100)
	for name, tt := range map[string]struct {
		marks []snapshot.XID
		asks  bool
	}{
		"all seen":                {[]snapshot.XID{seen, seen + 1, seen + 2}, false},
		"one unseen, first":       {[]snapshot.XID{unseen, seen, seen + 1}, true},
		"one unseen, in between":  {[]snapshot.XID{seen, unseen, seen + 1}, true},
		"one unseen, last":        {[]snapshot.XID{seen, seen + 1, unseen}, true},
		"one unseen, behind many": {append(forged(2*maxMerged, seen), unseen, seen), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLog(1, 1<<20)
			for _, x := range tt.marks {
				l.mark(marking{mark: Mark{XID: x, Subject: "u"}})
			}
			entries := l.take(0, nil)
			if len(entries) != 1 {
				t.Fatalf("%d entries", len(entries))
			}
			w, r, _ := admitted(t, 0) // by an answer that saw the transactions below 50
			asked := len(r.asks)
			entries[0].apply(w)
			if got := len(r.asks) > asked; got != tt.asks {
				t.Errorf("asked again: %v, want %v", got, tt.asks)
			}
		})
	}
}

// forged are n transactions, from one on.
func forged(n int, from snapshot.XID) (all []snapshot.XID) {
	for i := range n {
		all = append(all, from+snapshot.XID(i))
	}
	return all
}

// An answer that has not seen all marks lets nothing go, but the member is told what it took away.
func TestAnAnswerInBetweenIsTold(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{XID: 100}, heard: time.Now()}).apply(w)
	round := r.last()
	(&marking{mark: Mark{XID: 101}, heard: time.Now()}).apply(w)
	answer{s, Verdict{Round: round, Rights: yes, Snapshot: snap(t, "101:101:")}}.apply(w)
	if r.still != 1 || r.decided != 0 {
		t.Errorf("told %d times, decided %d", r.still, r.decided)
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "102:102:")}}.apply(w)
	if r.still != 1 || r.decided != 1 {
		t.Errorf("at the end: told %d times, decided %d", r.still, r.decided)
	}
}
