package feed

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/snapshot"
)

func quiet() *Feed {
	return New(Options{Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New()})
}

// Whoever floods the channel costs a bounded number of bytes; then the connection has no say any more, until another one
// begins, which makes up for it.
func TestInboxIsBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		hint hint
		most int // hints that fit
	}{
		{"messages", hint{kind: hintMessage}, 700_000},
		{"long marks", hint{kind: hintMark, mark: Mark{Topic: strings.Repeat("t", 4000), Subject: strings.Repeat("s", 3000)}}, 20_000},
	} {
		f := quiet()
		for !f.overflow && len(f.inbox) <= test.most {
			f.put(test.hint)
		}
		n := len(f.inbox)
		if !f.overflow || n < test.most/2 || f.inbox[n-1].kind != hintLost || f.losses != 1 || f.epoch != 1 {
			t.Fatalf("%s: %d hints, overflow %t, the last %d, %d losses", test.name, n, f.overflow, f.inbox[n-1].kind, f.losses)
		}
		f.put(test.hint)
		f.put(hint{kind: hintFence})
		if len(f.inbox) != n {
			t.Errorf("%s: the connection that was given up is still heard", test.name)
		}
		f.put(hint{kind: hintProven})
		f.put(hint{kind: hintConnected})
		f.inbox, f.bytes = nil, 0 // as work does
		f.put(test.hint)
		if f.overflow || len(f.inbox) != 1 {
			t.Errorf("%s: the next connection is not heard", test.name)
		}
	}
}

// What waits behind a backlog is bounded too. Nothing may overtake what was not told.
func TestWhatWaitsBehindABacklogIsBounded(t *testing.T) {
	t.Parallel()
	f := quiet()
	f.backlog = &backlog{late: make([]wanted, maxLate-1)}
	message := hint{kind: hintMessage}
	f.apply(t.Context(), []hint{message})
	if f.backlog == nil || len(f.backlog.late) != maxLate || f.overflow {
		t.Fatal("the last one that fits was refused")
	}
	f.apply(t.Context(), []hint{message, message, {kind: hintMark}, {kind: hintFence}}) // which would ask the pool, and tell the sink: there is neither
	if f.backlog != nil || !f.behind || !f.overflow || f.losses != 1 || f.epoch != 1 {
		t.Errorf("backlog %v, behind %t, overflow %t", f.backlog != nil, f.behind, f.overflow)
	}
}

// told is a sink that counts what it is told of hearing.
type told struct {
	Sink
	settled                bool
	caughtUp, deaf, missed int
}

func (s *told) Settled() bool             { return s.settled }
func (s *told) Deaf()                     { s.deaf++ }
func (s *told) Dropped(Message)           {}
func (s *told) Missed()                   { s.missed++ }
func (s *told) Hearing()                  {}
func (s *told) CatchingUp()               {}
func (s *told) Rewound(snapshot.Snapshot) {}
func (s *told) CaughtUp()                 { s.caughtUp++ }

// Late messages wait for the database to be heard, and then for those who are decided again, but not for ever.
func TestBacklogWaitsForThoseWhoAreDecided(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                    string
		heard, settled, waiting bool // waiting: for so long already as patience lasts
		want                    bool
	}{
		{"deaf", false, true, false, false},
		{"undecided", true, false, false, false},
		{"undecided for long", true, false, true, true},
		{"decided", true, true, false, true},
	} {
		f, sink := quiet(), &told{settled: test.settled}
		f.options.Sink = sink
		f.backlog = &backlog{}
		if test.heard {
			f.lease.renew(time.Now(), time.Hour)
		}
		f.tellBacklog(t.Context())
		if test.waiting {
			f.backlog.due, f.backlog.patient = time.Time{}, f.backlog.patient.Add(-settleTime)
			f.tellBacklog(t.Context())
		}
		if done := sink.caughtUp == 1 && f.backlog == nil; done != test.want {
			t.Errorf("%s: caught up: %t", test.name, done)
		}
	}
}

// A lost connection is said at once, gives up the fences, and what was to be told behind a backlog is left to the next one.
func TestLossWhileCatchingUp(t *testing.T) {
	t.Parallel()
	f, sink := quiet(), &told{}
	f.options.Sink, f.hearing, f.backlog = sink, true, &backlog{}
	gone := false
	f.NewFence().Then(func(reached bool) { gone = !reached })
	lost := hint{kind: hintLost}
	f.apply(t.Context(), []hint{lost, lost, {kind: hintMark}, {kind: hintMessage}}) // the last two would be told, or read
	if sink.deaf != 1 || !gone || f.backlog != nil || !f.behind {
		t.Errorf("deaf %d times, the fence gone: %t, a backlog: %t, behind: %t", sink.deaf, gone, f.backlog != nil, f.behind)
	}
}

// A heartbeat proves something if it came back in time, over the connection over which it was sent. Then all that it was
// sent after has been told, unless there is a backlog.
func TestProofs(t *testing.T) {
	t.Parallel()
	now := time.Now()
	behind, snap := at(t, "100:100:", history{}), at(t, "200:200:", history{}).snapshot
	for _, test := range []struct {
		name    string
		proof   proof
		since   time.Time
		backlog *backlog
		hearing bool
		floor   string
	}{
		{"one in time", proof{snapshot: snap, epoch: 7, sent: now}, now, nil, true, "200:200:"},
		{"one behind a backlog", proof{snapshot: snap, epoch: 7, sent: now}, now, &backlog{}, true, "100:100:"},
		{"one of another connection", proof{snapshot: snap, epoch: 6, sent: now}, now, nil, false, "100:100:"},
		{"one that was under way too long", proof{snapshot: snap, epoch: 7, sent: now.Add(-6 * time.Second)}, now, nil, false, "100:100:"},
		{"one without a connection", proof{snapshot: snap, epoch: 7, sent: now}, time.Time{}, nil, false, "100:100:"},
	} {
		f := quiet()
		f.options.Sink, f.epoch, f.since, f.backlog = &told{}, 7, test.since, test.backlog
		f.seen.begin(behind, now)
		f.apply(t.Context(), []hint{{kind: hintProven, proof: &test.proof}})
		if f.Hearing() != test.hearing || f.hearing != test.hearing || f.seen.floor().snapshot.String() != test.floor {
			t.Errorf("%s: hears %t, the floor %s", test.name, f.Hearing(), f.seen.floor().snapshot)
		}
	}
}

// From the moment at which a connection is known to be lost nothing is vouched for, though the feed's own goroutine may
// be busy; and no heartbeat on its way will prove anything.
func TestLostConnectionVouchesForNothing(t *testing.T) {
	t.Parallel()
	f := quiet()
	f.since = time.Now()
	f.lease.renew(time.Now(), time.Hour)
	losses, epoch := f.losses, f.epoch
	f.interrupted()
	if f.Hearing() || f.losses == losses || f.epoch == epoch || !f.since.IsZero() || len(f.inbox) != 1 || f.inbox[0].kind != hintLost {
		t.Errorf("hears %t, %d losses, epoch %d, since %v, %d hints", f.Hearing(), f.losses, f.epoch, f.since, len(f.inbox))
	}
}

// Whichever comes first, the fence or the answer of the database that it was sent.
func TestFencesBeforeTheirAnswer(t *testing.T) {
	t.Parallel()
	f := quiet()
	for _, want := range []bool{true, false} {
		w := f.NewFence()
		if want {
			f.reached(w.nonce)
		} else {
			f.deaf()
		}
		var got []bool
		w.Then(func(reached bool) { got = append(got, reached) })
		if len(got) != 1 || got[0] != want || len(f.fences) != 0 {
			t.Errorf("said %t, want %t; %d fences left", got, want, len(f.fences))
		}
	}
}

// What was told of a history that is gone says nothing of the messages of another one, though its ids are lower.
func TestAnotherHistoryBeginsAnew(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]position{
		"another database": at(t, "100:100:", history{database: "b"}, 7),
		"an older copy":    at(t, "100:100:", history{database: "a", timeline: "2"}, 7),
	} {
		f, sink := quiet(), &told{}
		f.options.Sink = sink
		f.seen.begin(at(t, "500:500:", history{database: "a"}, 7), time.Now())
		if !f.catchUp(t.Context(), &found{position: now}) || f.backlog != nil || sink.missed != 1 || sink.caughtUp != 1 {
			t.Errorf("%s: a backlog: %t, missed %d times, caught up %d times", name, f.backlog != nil, sink.missed, sink.caughtUp)
		}
		if f.seen.has(wanted{entry: entry{xid: 101}}) {
			t.Errorf("%s: its messages pass for told", name)
		}
	}
}

// Who looked at the clock while the proof was late acted as if deaf: everyone is decided again.
func TestLapsedProofIsSaid(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, lapsed := range []bool{false, true} {
		f, sink := quiet(), &told{}
		f.options.Sink, f.hearing, f.since = sink, true, now
		if !lapsed {
			f.lease.renew(now, time.Hour)
		}
		f.prove(&proof{sent: now})
		if said := sink.deaf == 1; said != lapsed || !f.Hearing() {
			t.Errorf("lapsed %t: deaf %d times, hears %t", lapsed, sink.deaf, f.Hearing())
		}
	}
}
