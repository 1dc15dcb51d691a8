package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// Members come and go in any order; whoever is there is given each frame once, and nothing remembers the others.
func TestWorkerForgetsWhoLeft(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	w := bareWorker(0)
	room := Room{"a", true}
	here := map[*Subscription]*recorder{}
	for step := range 3000 {
		if arriving := step < 1500; len(here) == 0 || rng.IntN(3) > 0 == arriving {
			r := &recorder{}
			s := NewSubscription(room, 0, fmt.Sprint(rng.IntN(50)), r)
			join{s}.apply(w)
			answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
			here[s] = r
		} else {
			for s := range here { // any
				leave{s}.apply(w)
				leave{s}.apply(w) // a second time means nothing
				delete(here, s)
				break
			}
		}
		if step%100 != 0 {
			continue
		}
		msg(w, 0)
		for _, r := range here {
			if r.delivered != 1 {
				t.Fatalf("step %d: a member of %d was given %d frames", step, len(here), r.delivered)
			}
			r.delivered = 0
		}
		if got := len(w.rooms[room]); got != len(here) {
			t.Fatalf("step %d: %d members, want %d", step, got, len(here))
		}
	}
	for s := range here {
		leave{s}.apply(w)
	}
	if len(w.rooms) > 0 || len(w.subjects) > 0 {
		t.Errorf("%d rooms and %d subjects are remembered", len(w.rooms), len(w.subjects))
	}
}

// With a new token a member is found by its new subject, and no more by the old one.
func TestRebindMovesTheSubject(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	rebind{s, "v"}.apply(w)
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "60:60:")}}.apply(w)
	asked := len(r.asks)
	(&marking{mark: Mark{XID: 100, Subject: "u"}}).apply(w)
	if len(r.asks) != asked {
		t.Error("asked about somebody else")
	}
	(&marking{mark: Mark{XID: 101, Subject: "v"}}).apply(w)
	if len(r.asks) != asked+1 {
		t.Error("not asked again")
	}
}

// What is answered about the old token, however it is, ends nothing under the new one.
func TestRebindForgetsTheQuestion(t *testing.T) {
	t.Parallel()
	w, r, s := admitted(t, 0)
	(&marking{mark: Mark{XID: 100, Subject: "u"}}).apply(w)
	old := r.last()
	rebind{s, "v"}.apply(w)
	answer{s, Verdict{Round: old, Snapshot: snap(t, "101:101:")}}.apply(w)
	if r.ended != 0 {
		t.Fatalf("ended (%s) by an answer about the old token", r.why)
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "101:101:")}}.apply(w)
	if msg(w, 102); r.delivered != 1 {
		t.Errorf("delivered %d", r.delivered)
	}
}

// What one worker's mark is merged with is nothing to the others.
func TestMarksAreMergedForEachWorker(t *testing.T) {
	t.Parallel()
	l := newLog(2, 1<<20)
	room := Room{"a", false}
	l.join(0, room, leave{})
	l.mark(marking{mark: Mark{XID: 101}})
	l.publish(&Publication{Room: room}, 1, false) // for the first worker alone
	l.mark(marking{mark: Mark{XID: 102}})
	for worker, want := range []string{"leave 101 frame 102", "101+102"} {
		var got []string
		for _, e := range l.take(worker, nil) {
			switch e := e.(type) {
			case leave:
				got = append(got, "leave")
			case *Publication:
				got = append(got, "frame")
			case *marking:
				text := ""
				for _, x := range append(slices.Clone(e.more), e.mark.XID) {
					text += fmt.Sprint("+", x)
				}
				got = append(got, text[1:])
			}
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("worker %d has %q, want %q", worker, got, want)
		}
	}
}

// shared is a connection whose members write down what it is given, whichever of them.
type shared struct {
	mu    sync.Mutex // guards given
	given []*protocol.Frame
}

type sharing struct {
	*listener
	connection *shared
}

func (s sharing) Deliver(f *protocol.Frame) Outlet {
	s.connection.mu.Lock()
	defer s.connection.mu.Unlock()
	s.connection.given = append(s.connection.given, f)
	return nil
}

// A connection sees the frames of all its rooms in the order in which they were published.
func TestAConnectionKeepsTheOrderOfItsRooms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Workers: 4, Metrics: metrics.New()})
		defer h.Close()
		var rooms []Room
		for i := range 8 {
			rooms = append(rooms, Room{strings.Repeat("r", i+1), false})
		}
		connections := []*shared{{}, {}, {}, {}, {}}
		for i, c := range connections {
			for _, room := range rooms {
				h.Join(NewSubscription(room, uint32(i), "", sharing{newListener(), c}))
			}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		var published []*protocol.Frame
		for i := range 5000 {
			f := textFrame(fmt.Sprint(i))
			published = append(published, f)
			h.Publish(Publication{Room: rooms[rng.IntN(len(rooms))], Frame: f})
		}
		synctest.Wait()
		for i, c := range connections {
			if !slices.Equal(c.given, published) {
				t.Errorf("connection %d was given %d frames, or in another order", i, len(c.given))
			}
		}
	})
}

// Whoever does not want its own frames is left out, and nobody else.
func TestExceptTheSender(t *testing.T) {
	t.Parallel()
	w, sender, s := admitted(t, 0)
	other := &recorder{}
	o := NewSubscription(Room{"a", true}, 0, "u", other)
	join{o}.apply(w)
	answer{o, Verdict{Round: other.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
	(&Publication{Room: s.room, Frame: textFrame("x"), Except: s}).apply(w)
	if sender.delivered != 0 || other.delivered != 1 {
		t.Errorf("the sender was given %d frames, the other %d", sender.delivered, other.delivered)
	}
}

// What waits for the verdicts about one connection may be let go at once, so it has one bound, whatever it waits for. Another
// connection has its own.
func TestConnectionsHoldIsBounded(t *testing.T) {
	t.Parallel()
	f := protocol.TextBroadcast("realtime:a", []byte(`{}`))
	w := bareWorker(10 * f.Size())
	var here []*Subscription
	var recorders []*recorder
	for i, outlet := range []uint32{1, 1, 1, 2} {
		r := &recorder{}
		s := NewSubscription(Room{fmt.Sprint("room", i), true}, outlet, "u", r)
		join{s}.apply(w)
		answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "50:50:")}}.apply(w)
		here, recorders = append(here, s), append(recorders, r)
	}
	say := func(i, times int) {
		for range times {
			(&Publication{Room: here[i].room, Frame: f, XID: 100}).apply(w)
		}
	}
	verdict := func(i int, rights Rights) {
		answer{here[i], Verdict{Round: recorders[i].last(), Rights: rights, Snapshot: snap(t, "200:200:")}}.apply(w)
	}
	(&marking{mark: Mark{XID: 90}}).apply(w)
	say(0, 4)
	say(1, 6)
	say(3, 10)
	for i, r := range recorders {
		if r.ended != 0 || r.delivered != 0 {
			t.Fatalf("channel %d: ended %d, delivered %d, and nothing is too much yet", i, r.ended, r.delivered)
		}
	}
	say(2, 1)
	if r := recorders[2]; r.ended != 1 || r.why != EndHeldTooBig {
		t.Errorf("the eleventh frame: ended %d (%s)", r.ended, r.why)
	}
	verdict(0, yes)
	if say(1, 4); recorders[1].ended != 0 {
		t.Error("what was let go still counts")
	}
	verdict(1, Rights{})
	verdict(3, yes)
	for i, want := range []int{4, 0, 0, 10} {
		if got := recorders[i].delivered; got != want {
			t.Errorf("channel %d was given %d frames, want %d", i, got, want)
		}
	}
	if len(w.held) > 0 {
		t.Errorf("%v bytes are said to wait", w.held)
	}
}

// slow is a member for whom a frame takes a millisecond of the worker's time, and a write as long as its test wants.
type slow struct {
	recorder
	write  time.Duration
	waits  bool // for a write
	writes int
}

func (s *slow) Deliver(*protocol.Frame) Outlet {
	time.Sleep(time.Millisecond)
	s.delivered++
	if s.waits {
		return nil
	}
	s.waits = true
	return s
}

func (s *slow) Flush() {
	time.Sleep(s.write)
	s.waits = false
	s.writes++
}

// The longer it takes to write, the longer frames collect for one write, up to a bound.
func TestRoundsAreAsLongAsTheirWrites(t *testing.T) {
	t.Parallel()
	const frames = 100 // that wait when the first is written
	for _, tt := range []struct {
		write  time.Duration
		writes int
	}{{time.Millisecond, 17}, {20 * time.Millisecond, 5}, {time.Second, 2}} {
		t.Run(tt.write.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := New(Options{Workers: 1, Metrics: metrics.New()})
				defer h.Close()
				member := &slow{write: tt.write}
				room := Room{"a", false}
				h.Join(NewSubscription(room, 1, "", member))
				for i := range 1 + frames {
					h.Publish(Publication{Room: room, Frame: textFrame(fmt.Sprint(i))})
					if i == 0 {
						synctest.Wait() // the worker is at it
					}
				}
				time.Sleep(time.Hour) // more than all of it takes
				synctest.Wait()
				if member.delivered != 1+frames || member.writes != 1+tt.writes {
					t.Errorf("%d frames in %d writes, want %d in %d", member.delivered, member.writes, 1+frames, 1+tt.writes)
				}
			})
		})
	}
}

// More is sent to a room than may wait, while somebody joins it: he is in the room from a later moment on, and lacks nothing
// since.
func TestJoinIntoABusyRoom(t *testing.T) {
	t.Parallel()
	f := protocol.TextBroadcast("realtime:a", []byte(`{}`))
	w, r := bareWorker(10*f.Size()), &recorder{}
	s := NewSubscription(Room{"a", true}, 0, "u", r)
	join{s}.apply(w)
	first := r.last()
	(&marking{mark: Mark{XID: 60, Subject: "u"}}).apply(w)
	for i := range 11 {
		msg(w, snapshot.XID(100+i))
	}
	if r.ended != 0 || len(r.asks) != 2 || len(w.held) != 0 {
		t.Fatalf("ended %d, asked %d times, %v held", r.ended, len(r.asks), w.held)
	}
	msg(w, 150)
	msg(w, 0)
	answer{s, Verdict{Round: first, Rights: yes, Snapshot: snap(t, "90:90:")}}.apply(w) // it saw nothing of what was given up
	if r.admitted != 0 || r.delivered != 0 {
		t.Fatalf("admitted %d and given %d by an answer that is too old", r.admitted, r.delivered)
	}
	answer{s, Verdict{Round: r.last(), Rights: yes, Snapshot: snap(t, "140:140:")}}.apply(w)
	if r.admitted != 1 || r.delivered != 2 || r.ended != 0 {
		t.Errorf("admitted %d, given %d of the two that came since, ended %d", r.admitted, r.delivered, r.ended)
	}
}
