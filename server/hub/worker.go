package hub

import (
	"runtime"
	"sync/atomic"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// worker applies its share of the log. Everything it touches is its own.
type worker struct {
	options  Options
	log      *log                                   // nil in tests that have no other worker
	later    func(time.Duration, entry) *time.Timer // appends to this worker's share after a while; nil: nothing is paced
	number   int
	rooms    map[Room][]*Subscription
	subjects map[string]map[*Subscription]struct{} // private subscriptions by subject
	held     map[uint32]int                        // bytes that wait for a connection, of all of its subscriptions
	deaf     bool
	refusing bool     // joins, because that lasts
	silences uint64   // how often it became deaf
	catchUp  bool     // messages of the database come late
	barrier  *barrier // nil: nobody waits for one

	unsettled *atomic.Int64 // the hub's; see Hub.Settled
	rechecks  *atomic.Int64 // the same; see Hub.Recheck
	turns     uint          // given to subscriptions, one after the other

	outlets   []Outlet      // to be flushed at the end of the round
	delivered int           // frames in this round
	writing   time.Duration // how long the last flush took
}

func newWorker(o Options, number int) *worker {
	return &worker{options: o, number: number, deaf: true, unsettled: new(atomic.Int64), rechecks: new(atomic.Int64), rooms: map[Room][]*Subscription{}, subjects: map[string]map[*Subscription]struct{}{}, held: map[uint32]int{}}
}

func (w *worker) run() {
	var batch []entry
	for {
		if batch = w.log.take(w.number, batch); batch == nil {
			return
		}
		began := time.Now()
		for _, e := range batch {
			e.apply(w)
			if len(w.outlets) > 0 && time.Since(began) > w.round() {
				w.flush()
				began = time.Now()
			}
		}
		w.flush()
		w.pass()
		if cap(batch) > keepEntries { // a burst must not pin its memory for ever
			batch = nil
		}
	}
}

// How long frames may collect before they are written: a burst of thousands must not fill the queues of those who would
// read, and nobody waits for long while others are given theirs.
const minRound, maxRound = 5 * time.Millisecond, 50 * time.Millisecond

// round is as long as the last round's writes took: with many connections to write to, each gets more at a time.
func (w *worker) round() time.Duration { return min(max(minRound, w.writing), maxRound) }

// How long a worker writes before it lets others run: whatever they append meanwhile goes out with one write per
// connection in the next round. The clock is not looked at after every write.
const (
	turn         = time.Millisecond
	flushesATurn = 16
)

// How many elements a list may have had and keep its memory when they are gone.
const (
	keepEntries = 1 << 16
	keepOutlets = 1 << 12
	keepMembers = 64
)

// flush ends a round: everything that was delivered in it leaves, each connection's in one write.
func (w *worker) flush() {
	w.options.Metrics.Deliveries.Add(float64(w.delivered))
	w.delivered = 0
	began := time.Now()
	turned := began
	for i, o := range w.outlets {
		o.Flush()
		if i%flushesATurn == flushesATurn-1 && time.Since(turned) > turn {
			runtime.Gosched()
			turned = time.Now()
		}
	}
	w.writing = time.Since(began)
	clear(w.outlets)
	if w.outlets = w.outlets[:0]; cap(w.outlets) > keepOutlets {
		w.outlets = nil
	}
}

type join struct{ sub *Subscription }

func (e join) apply(w *worker) {
	s := e.sub
	s.counted = true
	if s.gate.state != gateNew { // Leave came first
		w.discount(s)
		return
	}
	if !s.room.Private {
		w.add(s)
		s.gate.state = gateOpen
		s.gate.rights = Rights{Broadcast: Right{true, true}, Presence: Right{true, true}}
		s.member.Admitted(s.gate.rights)
		return
	}
	if w.listen(); w.refusing {
		w.end(s, EndDeaf, Verdict{})
		return
	}
	w.add(s)
	s.gate.state = gateJoining
	if !w.deaf { // else it is asked about when the database is heard
		s.ask()
	}
}

type leave struct{ sub *Subscription }

func (e leave) apply(w *worker) { w.remove(e.sub) }

// apply gives a frame to a room. Backwards, because a member that overflows is taken out on the way.
func (p *Publication) apply(w *worker) {
	if p.Room.Private {
		w.listen()
	}
	members := w.rooms[p.Room]
	for i := len(members) - 1; i >= 0; i-- {
		if s := members[i]; s != p.Except {
			w.give(s, p.Frame, p.XID)
		}
	}
}

// gift is a frame for one subscription.
type gift struct {
	sub   *Subscription
	frame *protocol.Frame
}

func (e gift) apply(w *worker) {
	if e.sub.room.Private {
		w.listen()
	}
	w.give(e.sub, e.frame, 0)
}

func (w *worker) give(s *Subscription, f *protocol.Frame, xid snapshot.XID) {
	switch s.gate.frame(f, xid, w.catchUp && xid != 0) {
	case frameGive:
		w.deliver(s, f)
	case frameWait:
		w.hold(s, f)
	}
}

// deliver gives a frame that has passed the gate, behind the subscription's history.
func (w *worker) deliver(s *Subscription, f *protocol.Frame) {
	if !s.history.awaited {
		w.hand(s, f)
		return
	}
	s.history.wait(f)
	w.hold(s, f)
}

// hold counts a frame that waits, and ends a subscription whose frame is too much for its connection: all that waits for one
// may be let go at once, and has to fit into its queue. Alone, any legal frame may wait.
func (w *worker) hold(s *Subscription, f *protocol.Frame) {
	held, size := w.held[s.outlet], f.Size()
	if max := w.options.MaxHeldBytes; max > 0 && held > 0 && held+size > max {
		if s.gate.state == gateJoining {
			w.beginAnew(s)
		} else {
			w.end(s, EndHeldTooBig, Verdict{})
		}
		return
	}
	w.held[s.outlet] = held + size
	s.held += size
}

// recount takes off the count what does not wait any more.
func (w *worker) recount(s *Subscription) {
	still := s.gate.bytes + s.history.bytes
	if left := w.held[s.outlet] - (s.held - still); left > 0 {
		w.held[s.outlet] = left
	} else {
		delete(w.held, s.outlet)
	}
	s.held = still
}

// hand puts a frame into the queue of a member's connection.
func (w *worker) hand(s *Subscription, f *protocol.Frame) {
	w.delivered++
	if o := s.member.Deliver(f); o != nil {
		w.outlets = append(w.outlets, o)
	}
}
