package feed

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"rowcast/server/metrics"
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
		{"messages", hint{kind: hintMessage}, 1.2e6},
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

// told is a sink that is being decided, and counts how often it has caught up.
type told struct {
	Sink
	settled  bool
	caughtUp int
}

func (s *told) Settled() bool { return s.settled }
func (s *told) CaughtUp()     { s.caughtUp++ }

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
		f.backlog = &backlog{read: true}
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
