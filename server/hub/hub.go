// Package hub knows who is on which channel of this node, gives them frames, and keeps the order that revocation rests on.
//
// Everything that happens to delivery goes through one ordered log: frames, joins, leaves, marks (a right may have
// changed) and verdicts (it was asked again). It is dealt out to one worker per core; all subscriptions of a connection
// belong to one of them. Whoever appends a mark before a frame can rely on it: no marked subscription is given that frame
// until Postgres has said yes again.
//
// The hub does not decide: it asks a subscription's Member to have it decided, and is told. It knows neither tokens nor
// sockets nor SQL.
package hub

import (
	"cmp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// Room names what frames are published to. A public and a private room of one name are different rooms.
type Room struct {
	Name    string // without the wire's prefix "realtime:"
	Private bool
}

// Right is what one extension allows on a topic.
type Right struct{ Receive, Send bool }

// Rights are the answers of Postgres for one subscription.
type Rights struct{ Broadcast, Presence Right }

// Any tells whether there is anything to receive; a join without is refused.
func (r Rights) Any() bool { return r.Broadcast.Receive || r.Presence.Receive }

// of are those that a frame needs.
func (r Rights) of(f *protocol.Frame) Right {
	if f.Extension() == protocol.ExtensionPresence {
		return r.Presence
	}
	return r.Broadcast
}

// lost tells whether a right to receive is gone. Losing only a right to send closes nothing: the next send is refused.
func (r Rights) lost(now Rights) bool {
	return r.Broadcast.Receive && !now.Broadcast.Receive || r.Presence.Receive && !now.Presence.Receive
}

// Verdict is one decision about one subscription.
type Verdict struct {
	Round    uint64 // as given to Member.Ask
	Rights   Rights
	Snapshot snapshot.Snapshot // what the decision saw at least
	Until    time.Time         // when it has to be made again, though nothing changes; zero: never
	Code     string            // SQLSTATE, where it was not a policy's plain no
	Reason   string            // why not, in Postgres' words; for the operator's log, never for the client
	Err      error             // not decided at all: Postgres could not be asked
}

// End says why the hub took a subscription out.
type End string

const (
	EndRefused    End = "refused"     // the first verdict was no
	EndRevoked    End = "revoked"     // a later verdict was no
	EndUndecided  End = "undecided"   // Postgres could not be asked in time
	EndDeaf       End = "deaf"        // a join while the database is not heard
	EndHeldTooBig End = "held_excess" // more waited for a verdict than the bound allows
)

// Loss says how messages were lost.
type Loss string

const (
	LossUnheard Loss = "unheard" // while the database was not heard; nobody knows whether there were any
	LossDropped Loss = "dropped" // one that cannot be delivered
)

// Member is the owner of a subscription. Its methods are called on the worker, in log order; they must not block. Of the
// hub they may call what does not wait: everything but Publish and Mark.
type Member interface {
	// Ask has the subscription decided; the answer goes to Hub.Answer with the same round. For every ask but a
	// subscription's first, the answer may be given only when all that its snapshot sees has been appended to the hub, unless
	// it takes all away.
	Ask(sub *Subscription, round uint64, first bool)
	// Admitted tells that frames follow from here on.
	Admitted(Rights)
	// Held tells that the rights are in doubt: what the member sends has to wait for Decided.
	Held()
	// Paused tells that the rights are in doubt because the database is not heard, and not only for a moment.
	Paused()
	// StillHeld tells what an answer said that Held outlasts. What it takes away of the rights to send is gone; what it
	// gives has to wait for Decided.
	StillHeld(Rights)
	// Decided ends Held.
	Decided(Rights)
	// Withheld tells that frames were not given because the right was lost and regained around them.
	Withheld(frames int)
	// Outdated tells that presence frames were not given, for the same reason. No more of them are given until there is
	// another presence_state: it is to be asked for.
	Outdated()
	// Missed tells that messages of the database were lost for good.
	Missed(Loss)
	// Deliver gives one frame. It may leave later: what is returned is flushed at the end of the worker's round; nil if
	// that was promised before.
	Deliver(*protocol.Frame) Outlet
	// Ended tells that nothing follows. Not called after Leave.
	Ended(End, Verdict)
}

// Outlet is a member's connection, in which frames collect until they are flushed: one write for all of a round.
type Outlet interface{ Flush() }

// Mark says that rights may have changed. Empty means every subject, every topic.
type Mark struct {
	XID     snapshot.XID // the transaction that changed them; 0 if unknown
	Subject string
	Topic   string
	Lenient bool // too common to withhold frames around it (see gate.allow)
	// Seen is for what nobody said in the order of commits: the database's messages that this snapshot sees may come after the
	// mark, and were sent before it was known.
	Seen snapshot.Snapshot
}

// aim is the metric label of a mark.
func (m Mark) aim() string {
	switch {
	case m.Subject != "" && m.Topic != "":
		return "both"
	case m.Subject != "":
		return "subject"
	case m.Topic != "":
		return "topic"
	}
	return "all"
}

// Publication is one frame for a room.
type Publication struct {
	Room   Room
	Frame  *protocol.Frame
	Except *Subscription // the sender, unless it wants its own
	XID    snapshot.XID  // the transaction of a database message; 0 for what clients send
}

// Options of a Hub.
type Options struct {
	Workers      int           // 0: GOMAXPROCS
	MaxHeldBytes int           // what may wait for verdicts, of all subscriptions of a connection; 0: no bound
	MaxLogBytes  int           // frames appended and not yet worked off, beyond which publishers wait; 0: 64 MiB
	MaxDeaf      time.Duration // private subscriptions end after so long without hearing the database; 0: 30 s, negative: never
	Hears        func() bool   // whether the database is heard at this moment, which may be over before Deaf is said; nil: until Deaf
	Metrics      *metrics.Metrics
}

const (
	defaultMaxLogBytes = 64 << 20
	// defaultMaxDeaf is longer than a restart of Postgres takes, and shorter than people wait in front of a channel that
	// looks alive.
	defaultMaxDeaf = 30 * time.Second
)

// Hub is the rooms of one node. Make it with New, end it with Close.
type Hub struct {
	options   Options
	log       *log
	workers   sync.WaitGroup
	unsettled atomic.Int64 // subscriptions not decided since Hearing, and workers that have not come to it
	rechecks  atomic.Int64 // subscriptions asked about by Recheck and not answered, and workers that have not come to it
}

// New starts a hub. It is deaf until it is told Hearing.
func New(o Options) *Hub {
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.MaxLogBytes = cmp.Or(o.MaxLogBytes, defaultMaxLogBytes)
	o.MaxDeaf = cmp.Or(o.MaxDeaf, defaultMaxDeaf)
	h := &Hub{options: o, log: newLog(o.Workers, o.MaxLogBytes)}
	for i := range o.Workers {
		w := newWorker(o, i)
		w.log, w.unsettled, w.rechecks = h.log, &h.unsettled, &h.rechecks
		w.later = func(d time.Duration, e entry) *time.Timer { return time.AfterFunc(d, func() { h.log.appendTo(i, e) }) }
		w.later(joinPause, stillDeaf{0, refuseJoins}) // in the silence before it hears for the first time
		h.workers.Go(w.run)
	}
	return h
}

// Close ends the workers. What is appended afterwards is dropped.
func (h *Hub) Close() {
	h.log.close()
	h.workers.Wait()
}

// Subscription is one channel on one socket. Its fields belong to its worker.
type Subscription struct {
	room    Room
	outlet  uint32
	subject string
	member  Member
	gate    gate
	history history
	place   int  // among the members of its room
	counted bool // by the log, as one of its room
	held    int  // bytes of it that its worker has counted as waiting
	expiry  *expiry

	unsettled bool // not decided since Hearing, and counted so
	turn      uint // says in which part of a Recheck it is
	rechecked bool // asked about by one, and counted so
}

// NewSubscription prepares a subscription; subject is the user id (empty for none). outlet numbers the connection: those
// with the same number share a worker.
func NewSubscription(room Room, outlet uint32, subject string, member Member) *Subscription {
	return &Subscription{room: room, outlet: outlet, subject: CanonicalSubject(subject), member: member}
}

// CanonicalSubject spells a subject in one way: policies compare uuids as such, tokens and rows may write them differently.
func CanonicalSubject(subject string) string {
	hex := make([]byte, 0, 32)
	for i := range len(subject) {
		switch c := subject[i]; {
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
			hex = append(hex, c)
		case 'A' <= c && c <= 'F':
			hex = append(hex, c-'A'+'a')
		case c != '-' && c != '{' && c != '}':
			return subject
		}
		if len(hex) > 32 {
			return subject
		}
	}
	if len(hex) != 32 {
		return subject
	}
	return string(hex)
}

// Room is where the subscription belongs; fixed for its life.
func (s *Subscription) Room() Room { return s.room }

// Join puts a subscription into its room: at once when the room is public, else when the first verdict allows it.
// Frames and marks count from here on, so nothing falls between the decision and the first delivery.
func (h *Hub) Join(s *Subscription) { h.log.join(h.workerOf(s), s.room, join{s}) }

// Leave takes a subscription out; nothing is delivered to it or said about it afterwards.
func (h *Hub) Leave(s *Subscription) { h.log.appendTo(h.workerOf(s), leave{s}) }

// Rebind gives a subscription another subject (a refreshed token) and has it decided again.
func (h *Hub) Rebind(s *Subscription, subject string) {
	h.log.appendTo(h.workerOf(s), rebind{s, subject})
}

// Publish appends a frame; it waits while the log is full. Not to be called by a Member's methods.
func (h *Hub) Publish(p Publication) { h.log.publish(&p, p.Frame.Size(), true) }

// TryPublish appends a frame without waiting, beyond the bound if it must: for the workers' own calls, whose number the
// Member bounds.
func (h *Hub) TryPublish(p Publication) { h.log.publish(&p, p.Frame.Size(), false) }

// Give appends a frame for one subscription, in its place among those of its room. It never waits; the caller bounds how
// often it is called. A presence_state begins presence for a subscription, which is given no presence_diff before one.
func (h *Hub) Give(s *Subscription, f *protocol.Frame) {
	h.log.appendTo(h.workerOf(s), gift{s, f})
}

// Mark has everyone it concerns decided again; they are given nothing private until then.
func (h *Hub) Mark(m Mark) {
	h.options.Metrics.Marks.WithLabelValues(m.aim()).Inc()
	m.Subject = CanonicalSubject(m.Subject)
	h.log.mark(marking{mark: m, heard: time.Now()})
}

// Answer gives the verdict that Member.Ask asked for.
func (h *Hub) Answer(s *Subscription, v Verdict) { h.log.appendTo(h.workerOf(s), answer{s, v}) }

// Deaf stops private delivery: the database may have taken rights away and we would not know. What it says meanwhile is to
// be told afterwards; where that cannot be, Missed.
func (h *Hub) Deaf() {
	h.options.Metrics.FeedHearing.Set(0)
	h.log.appendToAll(deaf{})
}

// Hearing ends Deaf. All private subscriptions are decided again, whatever was remembered.
func (h *Hub) Hearing() {
	h.options.Metrics.FeedHearing.Set(1)
	h.unsettled.Add(int64(h.options.Workers))
	h.log.appendToAll(hearing{time.Now()})
}

// Settled tells whether everyone has been decided again since the last Hearing: what is published now waits for nobody.
func (h *Hub) Settled() bool { return h.unsettled.Load() == 0 }

// Barrier returns a channel that is closed once all that has been appended so far is done: who is in doubt has been decided,
// or is gone, nothing comes late any more, and everybody's frames have left for the socket's queue. Behind a replay they may
// still wait. Only one is waited for: a later call takes the place of one under way, whose channel is then never closed.
func (h *Hub) Barrier() (passed <-chan struct{}) {
	all := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(h.options.Workers))
	h.log.appendToAll(barrierHere{func() {
		if left.Add(-1) == 0 {
			close(all)
		}
	}})
	return all
}

// CatchingUp tells, while deaf, that database messages may come late up to CaughtUp: behind the marks of changes that were
// committed after them. Those of changes that were committed meanwhile come first.
func (h *Hub) CatchingUp() { h.log.appendToAll(catchingUp{}) }

// Rewound tells, before CatchingUp, that the database may not know of transactions any more that the snapshot does not see.
func (h *Hub) Rewound(to snapshot.Snapshot) { h.log.appendToAll(rewound{to}) }

// Missed tells that marks and messages were lost for good.
func (h *Hub) Missed() { h.log.appendToAll(missed{}) }

// Dropped tells that a message for a room will not come.
func (h *Hub) Dropped(r Room) { h.log.toRoom(r, dropped{r}) }

// CaughtUp ends CatchingUp.
func (h *Hub) CaughtUp() { h.log.appendToAll(caughtUp{}) }

func (h *Hub) workerOf(s *Subscription) int { return int(s.outlet % uint32(h.options.Workers)) }
