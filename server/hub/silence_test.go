package hub

import (
	"testing"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// hears ends an outage: everything is decided anew, and allowed.
func hears(t testing.TB, w *worker, r *recorder, s *Subscription) {
	t.Helper()
	hearing{time.Now()}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "200:200:")}}.apply(w)
}

func TestWhatIsCaughtUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                string
		mark                *Mark
		delivered, withheld int
	}{
		{"no mark", nil, 2, 0},
		{"a mark for somebody else", &Mark{XID: 100, Subject: "other"}, 2, 0},
		{"a mark that the admission saw", &Mark{XID: 49, Subject: "u"}, 2, 0},
		{"a lenient mark", &Mark{XID: 100, Topic: "a", Lenient: true}, 2, 0},
		{"a mark", &Mark{XID: 100, Subject: "u"}, 0, 2},
		{"a mark for everyone", &Mark{}, 0, 2},
	}
	for _, test := range tests {
		for _, late := range []bool{false, true} { // whether messages are told before the database is proven to be heard
			w, r, s := admitted(t, 0)
			deaf{}.apply(w)
			catchingUp{}.apply(w)
			if test.mark != nil {
				(&marking{mark: *test.mark}).apply(w)
			}
			if late {
				hears(t, w, r, s)
			}
			msg(w, 101)
			msg(w, 99)
			if !late {
				hears(t, w, r, s)
			}
			caughtUp{}.apply(w)
			if r.delivered != test.delivered || r.withheld != test.withheld {
				t.Errorf("%s (late: %t): delivered %d, withheld %d; want %d, %d", test.name, late, r.delivered, r.withheld, test.delivered, test.withheld)
			}
			msg(w, 201)
			if r.delivered != test.delivered+1 {
				t.Errorf("%s (late: %t): the message after it was not delivered", test.name, late)
			}
			deaf{}.apply(w)
			catchingUp{}.apply(w)
			hears(t, w, r, s)
			msg(w, 202)
			caughtUp{}.apply(w)
			if r.delivered != test.delivered+2 || r.withheld != test.withheld {
				t.Errorf("%s (late: %t): after another outage, without marks: delivered %d, withheld %d", test.name, late, r.delivered, r.withheld)
			}
		}
	}
}

// What follows lenient marks is withheld because of strict ones in the silence, not of those after it.
func TestSilenceIsOver(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	deaf{}.apply(w)
	hears(t, w, r, s)
	(&marking{mark: Mark{XID: 100, Topic: "a", Lenient: true}}).apply(w)
	msg(w, 101)
	(&marking{mark: Mark{XID: 102, Subject: "u"}}).apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "200:200:")}}.apply(w)
	for s.gate.state != gateOpen {
		answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "200:200:")}}.apply(w)
	}
	if r.delivered != 1 || r.withheld != 0 {
		t.Errorf("delivered %d, withheld %d", r.delivered, r.withheld)
	}
}

// What clients send is never late: a member who is held back from the past may have the present.
func TestClientsAreNotLate(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	deaf{}.apply(w)
	catchingUp{}.apply(w)
	(&marking{mark: Mark{XID: 100, Subject: "u"}}).apply(w)
	hears(t, w, r, s)
	msg(w, 0)
	if r.delivered != 1 || r.withheld != 0 {
		t.Errorf("delivered %d, withheld %d", r.delivered, r.withheld)
	}
}

func TestMissedIsToldToEveryone(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	public := &recorder{}
	join{NewSubscription(Room{"a", false}, 0, "", public)}.apply(w)
	deaf{}.apply(w)
	rewound{}.apply(w)
	catchingUp{}.apply(w)
	missed{}.apply(w)
	caughtUp{}.apply(w)
	msg(w, 3) // heard before anybody can tell whether the right was lost for a while
	hears(t, w, r, s)
	if r.missed != 1 || public.missed != 1 {
		t.Errorf("told %d times in private, %d times in public", r.missed, public.missed)
	}
	if r.delivered != 0 || r.withheld != 1 {
		t.Errorf("delivered %d, withheld %d", r.delivered, r.withheld)
	}
}

// Postgres crashes while messages of an earlier outage are still told. Somebody who joined in between must not be given
// those from before his admission, though nobody knows any more which these are.
func TestAdmittedInTheMiddleOfCatchingUp(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	deaf{}.apply(w)
	catchingUp{}.apply(w)
	hears(t, w, r, s)
	late := &recorder{}
	sub := NewSubscription(Room{"a", true}, 0, "v", late)
	join{sub}.apply(w)
	answer{sub, Verdict{Round: late.last(), Rights: yes, Snapshot: snap(t, "150:150:")}}.apply(w)
	msg(w, 101)
	deaf{}.apply(w)
	rewound{snap(t, "102:102:")}.apply(w)
	catchingUp{}.apply(w)
	hears(t, w, r, s)
	answer{sub, Verdict{Round: late.last(), Rights: yes, Snapshot: snap(t, "200:200:")}}.apply(w)
	msg(w, 103)
	caughtUp{}.apply(w)
	if late.delivered != 0 || late.withheld != 1 {
		t.Errorf("who joined meanwhile: delivered %d, withheld %d", late.delivered, late.withheld)
	}
	if r.delivered != 2 || r.withheld != 0 {
		t.Errorf("who was there before: delivered %d, withheld %d", r.delivered, r.withheld)
	}
}

// Ids from a history that is gone say nothing about the one that goes on.
func TestRewoundIdsComeAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		to        string
		forgotten bool
	}{{"30:30:", true}, {"60:60:", false}} { // the admission saw what is below 50
		w, r, s := admitted(t, 0)
		deaf{}.apply(w)
		rewound{snap(t, test.to)}.apply(w)
		catchingUp{}.apply(w)
		hears(t, w, r, s)
		msg(w, 40)
		if (r.delivered == 1) != test.forgotten {
			t.Errorf("rewound to %s: delivered %d", test.to, r.delivered)
		}
	}
}

// Far more frames than may wait for one subscription: late ones do not wait.
func TestCatchingUpIsNotHeld(t *testing.T) {
	t.Parallel()
	f := protocol.TextBroadcast("realtime:a", []byte(`{}`))
	w, r, s := admitted(t, 10*f.Size())
	deaf{}.apply(w)
	catchingUp{}.apply(w)
	hears(t, w, r, s)
	for i := range 1000 {
		(&Publication{Room: Room{"a", true}, Frame: f, XID: 100 + snapshot.XID(i)}).apply(w)
	}
	caughtUp{}.apply(w)
	if r.delivered != 1000 || r.ended != 0 {
		t.Errorf("delivered %d, ended %d", r.delivered, r.ended)
	}
}
