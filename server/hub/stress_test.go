package hub

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// The model plays one worker without goroutines. Here all workers run, while members join and leave, rights come and go,
// and several publish; a lock around each call to the hub knows in which order they were made.

const (
	stressWorkers = 4
	stressRooms   = 3
	stressUsers   = 6
	stressSeeds   = uint64(40)
)

// world is the truth that the hub is held against.
type world struct {
	t   *testing.T
	hub *Hub

	mu      sync.Mutex // guards all below; held while the hub is told, so that this is the order of its log
	allowed [stressUsers][stressRooms]bool
	turns   int             // how often that changed: transaction 100 was the first
	told    map[Room][]sent // what was published
}

type sent struct {
	frame   *protocol.Frame
	allowed [stressUsers]bool // who had the right then
}

// visitor is a member of one room.
type visitor struct {
	world *world
	user  int
	room  Room
	index int // of the room
	sub   *Subscription

	joined, left int // how much had been published when it came, and when it went: -1 while it is there
	wants        chan uint64
	done         chan struct{} // closed when it is no more

	mu        sync.Mutex // guards all below
	delivered []*protocol.Frame
	withheld  int
	unflushed int
	ended     End
}

func (v *visitor) Ask(_ *Subscription, round uint64, _ bool) {
	select {
	case <-v.wants: // nobody has looked yet: the newest question is the one that counts
	default:
	}
	v.wants <- round
}

// decide answers for the database, late.
func (v *visitor) decide(rng *rand.Rand) {
	for {
		select {
		case <-v.done:
			return
		case round := <-v.wants:
			time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
			w := v.world
			w.mu.Lock()
			next := 100 + w.turns
			seen, err := snapshot.Parse(fmt.Sprintf("%d:%d:", next, next))
			if err != nil {
				panic(err)
			}
			verdict := Verdict{Round: round, Snapshot: seen}
			if w.allowed[v.user][v.index] {
				verdict.Rights = yes
			}
			w.mu.Unlock()
			time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
			w.hub.Answer(v.sub, verdict)
		}
	}
}

func (*visitor) Admitted(Rights)  {}
func (*visitor) Held()            {}
func (*visitor) Paused()          {}
func (*visitor) Outdated()        {}
func (*visitor) Missed(Loss)      {}
func (*visitor) StillHeld(Rights) {}
func (*visitor) Decided(Rights)   {}

func (v *visitor) Withheld(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.withheld += n
}

func (v *visitor) Ended(why End, _ Verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = why
}

func (v *visitor) Deliver(f *protocol.Frame) Outlet {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.delivered = append(v.delivered, f)
	if v.unflushed++; v.unflushed > 1 {
		return nil
	}
	return v
}

func (v *visitor) Flush() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unflushed = 0
}

func (w *world) enter(rng *rand.Rand, outlet uint32) *visitor {
	index := rng.IntN(stressRooms)
	room := Room{fmt.Sprint(index), rng.IntN(3) > 0}
	v := &visitor{world: w, user: rng.IntN(stressUsers), room: room, index: index, left: -1, wants: make(chan uint64, 1), done: make(chan struct{})}
	v.sub = NewSubscription(room, outlet, fmt.Sprint(v.user), v)
	w.mu.Lock()
	defer w.mu.Unlock()
	v.joined = len(w.told[room])
	w.hub.Join(v.sub)
	return v
}

func (w *world) leave(v *visitor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.left = len(w.told[v.room])
	w.hub.Leave(v.sub)
}

func (w *world) publish(rng *rand.Rand, name string) {
	w.say(rng.IntN(stressRooms), rng.IntN(2) == 0, name)
}

// finish says a last word in every room, for whoever is still there.
func (w *world) finish() {
	for index := range stressRooms {
		w.say(index, true, "end")
		w.say(index, false, "end")
	}
}

func (w *world) say(index int, private bool, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room, s := Room{fmt.Sprint(index), private}, sent{frame: textFrame(name)}
	for user := range w.allowed {
		s.allowed[user] = w.allowed[user][index]
	}
	w.told[room] = append(w.told[room], s)
	w.hub.Publish(Publication{Room: room, Frame: s.frame})
}

// turn gives or takes a right, or all of them in some way that a mark can name.
func (w *world) turn(rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	user, room, to := rng.IntN(stressUsers), rng.IntN(stressRooms), rng.IntN(4) > 0
	mark := Mark{XID: snapshot.XID(100 + w.turns)}
	w.turns++
	everyUser, everyRoom := rng.IntN(3) == 0, rng.IntN(3) == 0
	if !everyUser {
		mark.Subject = fmt.Sprint(user)
	}
	if !everyRoom {
		mark.Topic = fmt.Sprint(room)
	}
	for u := range w.allowed {
		for r := range w.allowed[u] {
			if (everyUser || u == user) && (everyRoom || r == room) {
				w.allowed[u][r] = to
			}
		}
	}
	w.hub.Mark(mark)
}

// interrupt is a silence, after which the hub may rely on nothing.
func (w *world) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hub.Deaf()
	w.hub.Hearing()
}

func TestWorkersUnderStress(t *testing.T) {
	t.Parallel()
	total := 0
	for seed := range stressSeeds {
		synctest.Test(t, func(t *testing.T) { total += stressOnce(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if total == 0 {
		t.Error("nothing was delivered to a private member: nothing was tested")
	}
}

func stressOnce(t *testing.T, seed uint64) (private int) {
	w := &world{t: t, told: map[Room][]sent{}, hub: New(Options{Workers: stressWorkers, MaxDeaf: -1, MaxLogBytes: 4 << 10, Metrics: modelMetrics})}
	defer w.hub.Close()
	for u := range w.allowed {
		for r := range w.allowed[u] {
			w.allowed[u][r] = true
		}
	}
	w.hub.Hearing()
	var acting, deciding sync.WaitGroup
	var all []*visitor
	var mu sync.Mutex // guards all
	for outlet := range uint32(8) {
		rng := rand.New(rand.NewPCG(seed, uint64(outlet)))
		acting.Go(func() {
			var here []*visitor
			for range 40 {
				time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
				if len(here) > 0 && rng.IntN(3) == 0 {
					w.leave(here[0])
					here = here[1:]
					continue
				}
				v, own := w.enter(rng, outlet), rand.New(rand.NewPCG(rng.Uint64(), 1))
				deciding.Go(func() { v.decide(own) })
				here = append(here, v)
				mu.Lock()
				all = append(all, v)
				mu.Unlock()
			}
		})
	}
	for n := range 3 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+n)))
		acting.Go(func() {
			for i := range 300 {
				time.Sleep(time.Duration(rng.IntN(60)) * time.Microsecond)
				switch k := rng.IntN(200); {
				case k < 20:
					w.turn(rng)
				case k == 20 && seed%2 == 0:
					w.interrupt()
				default:
					w.publish(rng, fmt.Sprint(n, " ", i))
				}
			}
		})
	}
	acting.Wait()
	time.Sleep(time.Minute) // until all is answered
	if !w.hub.Settled() {
		t.Error("everyone was decided again, and the hub does not know")
	}
	w.finish()
	synctest.Wait()
	for _, v := range all {
		private += w.judge(v)
		if v.left < 0 {
			w.leave(v)
		}
		close(v.done)
	}
	deciding.Wait()
	synctest.Wait()
	w.hub.log.mu.Lock()
	defer w.hub.log.mu.Unlock()
	if len(w.hub.log.seats) > 0 {
		t.Errorf("the log still counts %v", w.hub.log.seats)
	}
	return private
}

// judge holds what a visitor was given against what it should have been; it returns how much of it was private.
func (w *world) judge(v *visitor) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unflushed > 0 {
		w.t.Errorf("%d frames not flushed", v.unflushed)
	}
	told := w.told[v.room]
	end := v.left
	if end < 0 {
		end = len(told)
	}
	next, missing := v.joined, 0
	for _, f := range v.delivered {
		for ; next < end && told[next].frame != f; next++ {
			missing++
		}
		if next == end {
			w.t.Errorf("%v: a frame twice, out of order, or from before the join or after the leave", v.room)
			return 0
		}
		if v.room.Private && !told[next].allowed[v.user] {
			w.t.Errorf("user %d was given a frame of %v without the right", v.user, v.room)
		}
		next++
	}
	missing += end - next
	switch {
	case !v.room.Private:
		if missing > 0 || v.ended != "" {
			w.t.Errorf("%d frames of public room %s missing, ended %q", missing, v.room.Name, v.ended)
		}
		return 0
	case v.left < 0 && v.ended == "" && !w.allowed[v.user][v.index]:
		w.t.Errorf("user %d is still on %v without the right", v.user, v.room)
	case v.left < 0 && v.ended == "" && missing > 0 && next < end:
		w.t.Errorf("user %d on %v was not given the last word", v.user, v.room)
	}
	return len(v.delivered)
}
