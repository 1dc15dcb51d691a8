package hub

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener is a member that remembers what it was given, and a connection that counts its flushes.
type listener struct {
	admitted chan struct{}
	ended    chan End

	mu        sync.Mutex // guards what follows
	delivered []*protocol.Frame
	unflushed int
}

func newListener() *listener {
	return &listener{admitted: make(chan struct{}, 1), ended: make(chan End, 1)}
}

func (*listener) Ask(*Subscription, uint64, bool) {}
func (l *listener) Admitted(Rights)               { l.admitted <- struct{}{} }
func (*listener) Held()                           {}
func (*listener) Paused()                         {}
func (*listener) StillHeld(Rights)                {}
func (*listener) Decided(Rights)                  {}
func (*listener) Withheld(int)                    {}
func (*listener) Outdated()                       {}
func (*listener) Missed(Loss)                     {}
func (l *listener) Ended(why End, _ Verdict)      { l.ended <- why }

func (l *listener) Deliver(f *protocol.Frame) Outlet {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered = append(l.delivered, f)
	l.unflushed++
	if l.unflushed > 1 {
		return nil
	}
	return l
}

func (l *listener) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unflushed = 0
}

func (l *listener) flushed(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.delivered) == n && l.unflushed == 0
}

func textFrame(payload string) *protocol.Frame {
	return protocol.TextBroadcast("realtime:a", fmt.Appendf(nil, "{%q:1}", payload))
}

// Members of one room on several workers are given the same frames in the same order, whoever published them, and
// nothing of other rooms; and nothing is left behind when they are gone.
func TestAllWorkersKeepOneOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 4, Metrics: metrics.New()})
		defer h.Close()
		rooms := []Room{{"a", false}, {"b", false}}
		var subs []*Subscription
		var listeners []*listener
		for i := range 40 {
			l := newListener()
			s := NewSubscription(rooms[i%2], uint32(i/2), "", l)
			h.Join(s)
			<-l.admitted
			subs, listeners = append(subs, s), append(listeners, l)
		}
		const publishers, each = 5, 200
		of := map[*protocol.Frame]Room{}
		var mu sync.Mutex
		var group sync.WaitGroup
		for p := range publishers {
			group.Go(func() {
				for i := range each {
					f := textFrame(fmt.Sprint(p, i))
					room := rooms[(p+i)%2]
					mu.Lock()
					of[f] = room
					mu.Unlock()
					h.Publish(Publication{Room: room, Frame: f})
				}
			})
		}
		group.Wait()
		synctest.Wait()
		for i, l := range listeners {
			if !l.flushed(publishers * each / 2) {
				t.Fatalf("member %d was given %d frames, %d of them not flushed", i, len(l.delivered), l.unflushed)
			}
			if !slices.Equal(l.delivered, listeners[i%2].delivered) {
				t.Fatalf("members %d and %d saw different orders", i, i%2)
			}
			for _, f := range l.delivered {
				if of[f] != rooms[i%2] {
					t.Fatalf("member %d of %v was given a frame of %v", i, rooms[i%2], of[f])
				}
			}
		}
		for _, s := range subs {
			h.Leave(s)
		}
		synctest.Wait()
		h.log.mu.Lock()
		defer h.log.mu.Unlock()
		if len(h.log.seats) > 0 {
			t.Errorf("the log still counts %v", h.log.seats)
		}
	})
}

// A subscription that was taken out before it was put in is not counted for ever.
func TestLeaveBeforeJoinCountsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 2, Metrics: metrics.New()})
		defer h.Close()
		s := NewSubscription(Room{"a", false}, 1, "", newListener())
		h.Leave(s)
		h.Join(s)
		synctest.Wait()
		h.log.mu.Lock()
		defer h.log.mu.Unlock()
		if len(h.log.seats) > 0 {
			t.Errorf("the log counts %v", h.log.seats)
		}
	})
}

// A flood of marks with nothing between them takes the place of one. What lies between two keeps them apart, and so does
// another aim.
func TestMarksWithoutAnythingBetweenAreOne(t *testing.T) {
	t.Parallel()
	l := newLog(1, 1<<20)
	l.join(0, Room{"a", true}, leave{})
	flood := func(m Mark) {
		for i := range 100_000 {
			m.XID = 101
			if i%2 == 0 {
				m.XID++
			}
			l.mark(marking{mark: m})
		}
	}
	flood(Mark{})
	flood(Mark{Topic: "a"})
	flood(Mark{Topic: "nobody is there"})
	flood(Mark{Subject: "u", Topic: "a"})
	l.publish(&Publication{Room: Room{"a", true}}, 1, false)
	flood(Mark{Subject: "u", Topic: "a", Lenient: true})
	l.mark(marking{mark: Mark{Subject: "u", Topic: "a"}})
	entries := l.take(0, nil)
	var got []string
	for _, e := range entries {
		switch e := e.(type) {
		case *marking:
			got = append(got, fmt.Sprintf("%s mixed=%v lenient=%v", e.mark.aim(), e.mixed, e.mark.Lenient))
		default:
			got = append(got, fmt.Sprintf("%T", e))
		}
	}
	want := []string{"hub.leave", "all mixed=true lenient=false", "topic mixed=true lenient=false", "both mixed=true lenient=false",
		"*hub.Publication", "both mixed=true lenient=false"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Publishers wait for the slowest of the workers concerned, and only for those.
func TestFullShareMakesPublishersWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLog(2, 100)
		l.join(0, Room{"a", false}, leave{})
		l.join(1, Room{"b", false}, leave{})
		a, b := &Publication{Room: Room{"a", false}}, &Publication{Room: Room{"b", false}}
		l.publish(a, 1000, true) // alone, any size
		l.publish(b, 50, true)
		var second atomic.Bool
		go func() {
			l.publish(a, 1, true)
			second.Store(true)
		}()
		synctest.Wait()
		if second.Load() {
			t.Fatal("published into a full share")
		}
		l.publish(b, 50, true) // is not held up by the other
		l.take(0, nil)
		synctest.Wait()
		if !second.Load() {
			t.Fatal("still waiting")
		}
		if n := len(l.take(1, nil)); n != 3 {
			t.Fatalf("%d entries for the second worker", n)
		}
	})
}

// A flood of marks, each with another aim, does not outrun the worker either; and nobody waits for a log that is closed.
func TestFullShareMakesMarksWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLog(1, 10*markSize)
		var marked atomic.Int64
		go func() {
			for i := range 40 {
				l.mark(marking{mark: Mark{Subject: fmt.Sprint(i)}})
				marked.Add(1)
			}
		}()
		for _, want := range []int64{10, 20} {
			synctest.Wait()
			if got := marked.Load(); got != want {
				t.Fatalf("%d marks appended, want %d", got, want)
			}
			l.take(0, nil)
		}
		synctest.Wait()
		l.close()
		synctest.Wait()
		if got := marked.Load(); got != 40 {
			t.Errorf("still waiting after %d marks", got)
		}
	})
}

// Who joins before the database was ever heard waits for a second, and no longer.
func TestJoinBeforeTheDatabaseIsHeard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 1, Metrics: metrics.New()})
		defer h.Close()
		begin := time.Now()
		private := newListener()
		h.Join(NewSubscription(Room{"a", true}, 0, "u", private))
		if why := <-private.ended; why != EndDeaf || time.Since(begin) != time.Second {
			t.Fatal(why, time.Since(begin))
		}
	})
}

// Private members wait through a short silence and are ended by a long one; public ones never notice.
func TestLongSilenceEndsPrivateMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 2, MaxDeaf: 30 * time.Second, Metrics: metrics.New()})
		defer h.Close()
		h.Hearing()
		public, private := newListener(), newListener()
		h.Join(NewSubscription(Room{"a", false}, 0, "", public))
		s := NewSubscription(Room{"a", true}, 1, "u", private)
		h.Join(s)
		synctest.Wait()
		h.Answer(s, Verdict{Round: 1, Rights: yes, Snapshot: snap(t, "50:50:")})
		<-private.admitted

		h.Deaf()
		time.Sleep(29 * time.Second)
		h.Hearing() // and the timer of this silence means nothing to the next
		time.Sleep(500 * time.Millisecond)
		h.Deaf()
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if len(private.ended) > 0 {
			t.Fatal("ended by a short silence")
		}
		begin := time.Now()
		if why := <-private.ended; why != EndDeaf || time.Since(begin) != time.Second {
			t.Fatal(why, time.Since(begin))
		}
		synctest.Wait()
		if len(public.ended) > 0 {
			t.Fatal("a public member ended")
		}
	})
}
