package hub

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// tenant is a member whose right ends by itself: Postgres says until when, each time it is asked.
type tenant struct {
	recorder
	hub   *Hub
	t     *testing.T
	began time.Time
	until func() (Rights, time.Time)
	asked []time.Duration // since it began
}

func (m *tenant) Ask(s *Subscription, round uint64, _ bool) {
	m.asked = append(m.asked, time.Since(m.began))
	rights, until := m.until()
	m.hub.Answer(s, Verdict{Round: round, Rights: rights, Snapshot: snap(m.t, "50:50:"), Until: until})
}

// pass lets time pass, and all that is due happen. What the test has looked at until then, the worker may change after it.
func pass(h *Hub, d time.Duration) {
	h.log.appendToAll(looked{})
	time.Sleep(d)
	synctest.Wait()
}

// looked is nothing to a worker.
type looked struct{}

func (looked) apply(*worker) {}

// lease gives a hub that hears and a member of it that has just joined.
func lease(t *testing.T, until func() (Rights, time.Time)) (*Hub, *tenant, *Subscription) {
	h := New(Options{Workers: 1, Metrics: metrics.New(), MaxDeaf: -1})
	h.Hearing()
	m := &tenant{hub: h, t: t, began: time.Now(), until: until}
	s := NewSubscription(Room{"a", true}, 0, "u", m)
	h.Join(s)
	synctest.Wait()
	return h, m, s
}

// A right is asked about when it ends by itself, not before and once: what is published from then on waits for the answer.
func TestARightEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(90 * time.Minute)
		h, m, s := lease(t, func() (Rights, time.Time) {
			if time.Now().Before(end) {
				return yes, end
			}
			return Rights{}, time.Time{}
		})
		defer h.Close()
		publish := func() {
			h.Publish(Publication{Room: s.room, Frame: protocol.TextBroadcast("realtime:a", []byte(`{}`))})
			synctest.Wait()
		}
		pass(h, 90*time.Minute-time.Nanosecond)
		publish()
		if m.delivered != 1 || m.ended > 0 || len(m.asked) != 1 {
			t.Errorf("before: given %d, ended %d, asked after %v", m.delivered, m.ended, m.asked)
		}
		pass(h, time.Nanosecond)
		publish()
		pass(h, time.Hour)
		if m.delivered != 1 || m.why != EndRevoked || !slices.Equal(m.asked, []time.Duration{0, 90 * time.Minute}) {
			t.Errorf("after: given %d, ended %q, asked after %v", m.delivered, m.why, m.asked)
		}
	})
}

// Each answer has its own end. The one before counts no more, nor does any when the subscription is gone.
func TestAnAnswerReplacesTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, m, s := lease(t, inTurn(time.Hour, 3*time.Hour, time.Minute, 0, time.Hour))
		defer h.Close()
		pass(h, 30*time.Minute)
		h.Mark(Mark{XID: 60, Subject: "u"}) // extended: good until 3:30
		synctest.Wait()
		pass(h, 2*time.Hour)
		h.Mark(Mark{XID: 61, Subject: "u"}) // cut short: until 2:31, and then for ever
		synctest.Wait()
		pass(h, 10*time.Hour)
		want := []time.Duration{0, 30 * time.Minute, 150 * time.Minute, 151 * time.Minute}
		if !slices.Equal(m.asked, want) {
			t.Errorf("asked after %v, want %v", m.asked, want)
		}
		h.Mark(Mark{XID: 62, Subject: "u"})
		synctest.Wait()
		h.Leave(s)
		synctest.Wait()
		if s.expiry != nil {
			t.Error("a timer keeps one who has left")
		}
		pass(h, 2*time.Hour)
		if len(m.asked) != len(want)+1 || m.ended > 0 {
			t.Errorf("after it left: asked after %v, ended %q", m.asked, m.why)
		}
	})
}

// An end that is always near costs no more than marks do.
func TestAnEndThatNeverComesIsPaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, m, _ := lease(t, func() (Rights, time.Time) { return yes, time.Now().Add(-time.Second) })
		defer h.Close()
		pass(h, 10*time.Second)
		if n := len(m.asked); n < 10 || n > againBurst+11*againPerSecond {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
}

// What ends while the database is not heard is asked about when it is.
func TestARightEndsInASilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, m, _ := lease(t, inTurn(time.Minute, 0))
		defer h.Close()
		h.Deaf()
		pass(h, time.Hour)
		if len(m.asked) != 1 {
			t.Errorf("asked after %v, unheard", m.asked)
		}
		h.Hearing()
		synctest.Wait()
		if !slices.Equal(m.asked, []time.Duration{0, time.Hour}) || m.decided != 1 {
			t.Errorf("asked after %v, decided %d times", m.asked, m.decided)
		}
	})
}

// inTurn gives answers that are good for so long, one after the other; zero: for ever.
func inTurn(left ...time.Duration) func() (Rights, time.Time) {
	return func() (Rights, time.Time) {
		next := left[0]
		left = left[1:]
		if next == 0 {
			return yes, time.Time{}
		}
		return yes, time.Now().Add(next)
	}
}
