package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// A barrier waits for who is in doubt when it is set, on whichever worker, and for nobody else.
func TestBarrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 3, Metrics: metrics.New()})
		defer h.Close()
		h.Hearing()
		passes := func(passed <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-passed:
				return true
			default:
				return false
			}
		}
		if !passes(h.Barrier()) {
			t.Fatal("nobody was there, and somebody was waited for")
		}
		type seat struct {
			*Subscription
			*recorder
		}
		join := func(outlet uint32, subject string) seat {
			r := &recorder{}
			s := NewSubscription(Room{"a", true}, outlet, subject, r)
			h.Join(s)
			synctest.Wait()
			return seat{s, r}
		}
		answer := func(s seat) {
			h.Answer(s.Subscription, Verdict{Round: s.last(), Rights: yes, Snapshot: snap(t, "50:50:")})
			synctest.Wait()
		}
		first, second := join(0, "u"), join(1, "v")
		joining := h.Barrier()
		answer(first)
		if passes(joining) {
			t.Fatal("passed, with a join undecided")
		}
		third := join(2, "w") // after it
		answer(second)
		if !passes(joining) {
			t.Fatal("not passed, though all were decided who were there")
		}
		answer(third)
		h.Mark(Mark{XID: 100, Subject: "u"})
		held := h.Barrier()
		h.Mark(Mark{XID: 101, Subject: "v"})
		if passes(held) {
			t.Fatal("passed, with a subscription held")
		}
		h.Leave(first.Subscription)
		if !passes(held) {
			t.Fatal("not passed, though the one in doubt has left")
		}
		given := h.Barrier()
		late := h.Barrier()
		answer(second)
		if passes(given) || !passes(late) {
			t.Error("the later barrier takes the place of the one before it")
		}
		h.Deaf()
		h.CatchingUp()
		caughtUp := h.Barrier()
		h.Hearing()
		synctest.Wait()
		answer(second)
		answer(third)
		if passes(caughtUp) {
			t.Fatal("passed, with messages to come late")
		}
		h.CaughtUp()
		if !passes(caughtUp) {
			t.Fatal("not passed, though all was caught up")
		}
		time.Sleep(time.Minute) // what was meant for the silence does nothing
	})
}

// Marks that do not end keep nobody from being decided about those before.
func TestBarrierAmongMarks(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	mark := func(xid snapshot.XID) { (&marking{mark: Mark{XID: xid, Subject: "u"}}).apply(w) }
	mark(100)
	passed := false
	barrierHere{func() { passed = true }}.apply(w)
	mark(101) // the same run: no frame has come between
	if w.pass(); passed {
		t.Fatal("passed before the answer")
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "60:60:")}}.apply(w)
	if w.pass(); !passed || s.gate.state != gateHeld {
		t.Errorf("passed: %t, state %d", passed, s.gate.state)
	}
	passed = false
	barrierHere{func() { passed = true }}.apply(w)
	if w.pass(); passed {
		t.Error("passed by an answer that was asked for before the last mark")
	}
}

// stuck is a member whose connection takes its frames when it is told to.
type stuck struct {
	recorder
	writes chan struct{}
}

func (m *stuck) Deliver(*protocol.Frame) Outlet { return m }
func (m *stuck) Flush()                         { <-m.writes }

// A barrier is behind the frames before it, also those of the same round.
func TestBarrierIsBehindFrames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 1, Metrics: metrics.New()})
		defer h.Close()
		h.Hearing()
		m := &stuck{writes: make(chan struct{})}
		s := NewSubscription(Room{"a", false}, 0, "u", m)
		h.Join(s)
		publish := func() {
			h.Publish(Publication{Room: s.room, Frame: protocol.TextBroadcast("realtime:a", []byte(`{}`))})
		}
		publish()
		synctest.Wait() // the worker writes, and what follows is one round
		publish()
		passed := h.Barrier()
		m.writes <- struct{}{}
		synctest.Wait()
		select {
		case <-passed:
			t.Error("passed, with a frame that has not left")
		default:
		}
		m.writes <- struct{}{}
		<-passed
	})
}
