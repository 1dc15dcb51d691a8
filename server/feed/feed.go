// Package feed is the one ordered stream of what the database says: rights that may have changed, and messages sent from
// SQL, in the order in which their transactions were committed and, within one, were said.
//
// Hints come from a source in the database; today it is LISTEN/NOTIFY. Anyone can NOTIFY, so a hint never carries
// content: a message is read from the table it names, a mark only has the policies asked again. The feed proves that it
// hears, by heartbeats that take the same way, and says when it does not.
//
// It does not know who is concerned by what it says: that is its Sink's.
package feed

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

// Mark says that rights may have changed; an empty subject or topic means all of them.
type Mark struct {
	XID     snapshot.XID
	Subject string
	Topic   string
	Lenient bool // so common that no message around it need be withheld
}

// Message is a row of realtime.messages to be delivered.
type Message struct {
	XID     snapshot.XID
	ID      string
	Topic   string
	Event   string
	Private bool
	Payload []byte // JSON, nil if Binary is set
	Binary  []byte
}

// Sink is told everything in order, one thing at a time.
type Sink interface {
	Mark(Mark)
	Message(Message)
	// Disconnect has returned when nothing reaches the user's sessions any more.
	Disconnect(Disconnect)
	// Deaf tells that the database may be saying things that are not heard. The feed starts deaf. This alone may
	// come out of turn: while a message cannot be read, what follows waits, but not this.
	Deaf()
	// Hearing ends Deaf.
	Hearing()

	// Rewound tells, before CatchingUp, that Postgres may have lost transactions that this snapshot does not see. The ids
	// of those may come again and mean others.
	Rewound(to snapshot.Snapshot)
	// CatchingUp comes while deaf. Up to CaughtUp messages come late: those that were committed meanwhile, in the order of
	// their transactions, then those since. Marks come before them, whichever was first: before Hearing those of all
	// rights that may have changed meanwhile, then others as they are heard.
	CatchingUp()
	// Settled tells, between Hearing and CaughtUp, whether the late messages may come. They wait for it a few seconds.
	Settled() bool
	// Dropped tells of a message that will not be told: it is too large, incomplete, or cannot be read. Its topic may be
	// unknown, and its content is left out.
	Dropped(Message)
	// Missed tells, before CaughtUp, that marks and messages were lost for good.
	Missed()
	CaughtUp()
}

// Options of a Feed.
type Options struct {
	Pool       *postgres.Pool
	ListenURL  string
	Sink       Sink
	MaxPayload int           // bytes; longer messages are dropped and counted
	Heartbeat  time.Duration // between heartbeats; 0: a second
	DeafAfter  time.Duration // without hearing one's own heartbeat; 0: five seconds
	Node       string        // this server's id in realtime._nodes
	Awaited    func()        // a heartbeat found that somebody may wait in realtime.sync() for this server; must not block; nil: nobody cares
	Logger     *slog.Logger
	Metrics    *metrics.Metrics

	fetchLimits postgres.Limits // tests have less time; 0: fetchLimits
}

const (
	// maxInbox bounds the hints not yet worked off, in bytes: about a million messages. Beyond it the feed gives up its
	// place, goes deaf and begins anew: nothing is dropped in silence.
	maxInbox = 128 << 20
	// maxLate bounds the messages that wait behind a backlog (32 bytes each), with the same end.
	maxLate = 1 << 20
)

// Feed runs from Run's start to its end.
type Feed struct {
	options Options

	// The work loop's own:
	seen    seen
	backlog *backlog // nil: there is none
	behind  bool     // the connection was lost before all was told that had been missed: nothing may overtake that

	turning sync.Mutex // held while the sink is told Deaf or Hearing, so that the last word is the true one

	mu       sync.Mutex // guards all below
	inbox    []hint
	bytes    int // of the inbox
	overflow bool
	fences   map[string]*fence // on their way, by nonce
	epoch    uint64            // counts connections made and lost: a proof holds within one
	losses   uint64            // those lost
	hearing  bool
	heard    bool      // ever
	trouble  string    // the last, since the feed last heard
	since    time.Time // since when the connection in use could have been heard; zero while there is none
	waiting  map[int]func()
	nextWait int

	lease lease
	wake  chan struct{} // the inbox has something
}

// New prepares a feed.
func New(o Options) *Feed {
	if o.Heartbeat == 0 {
		o.Heartbeat = time.Second
	}
	if o.DeafAfter == 0 {
		o.DeafAfter = 5 * time.Second
	}
	if o.fetchLimits == (postgres.Limits{}) {
		o.fetchLimits = fetchLimits
	}
	return &Feed{
		options: o, seen: newSeen(), wake: make(chan struct{}, 1), fences: map[string]*fence{}, waiting: map[int]func(){},
		lease: lease{began: time.Now()},
	}
}

// Run hears until ctx ends. It returns an error only if it can never work.
func (f *Feed) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	defer f.lease.end()
	group.Go(func() { f.work(ctx) })
	group.Go(func() { f.beats(ctx) })
	for ctx.Err() == nil {
		if err := f.listen(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Hearing tells whether the feed is proven to hear, at this very moment. It is cheap, and may say no before the sink is
// told: after this process was stopped for a while, whoever wakes up first must know.
func (f *Feed) Hearing() bool { return f.lease.holds(time.Now()) }

// WhenHearing calls then once the feed hears, at once if it does. The returned function takes the wish back.
func (f *Feed) WhenHearing(then func()) (cancel func()) {
	f.mu.Lock()
	if f.hearing {
		f.mu.Unlock()
		then()
		return func() {}
	}
	f.nextWait++
	id := f.nextWait
	f.waiting[id] = then
	f.mu.Unlock()
	return func() {
		f.mu.Lock()
		delete(f.waiting, id)
		f.mu.Unlock()
	}
}

// put appends a hint; called on the source's read loop.
func (f *Feed) put(h hint) {
	f.mu.Lock()
	switch {
	case h.kind == hintConnected:
		f.overflow = false
		f.inbox = append(f.inbox, h)
	case f.overflow && h.kind < hintProven: // until there is a connection again, nothing that it says has a place
	case f.bytes+h.size() > maxInbox && h.kind < hintProven:
		f.overrun()
		f.inbox = append(f.inbox, hint{kind: hintLost})
	default:
		f.inbox = append(f.inbox, h)
		f.bytes += h.size()
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// work tells the sink, in order.
func (f *Feed) work(ctx context.Context) {
	for {
		var more <-chan time.Time
		if f.backlog != nil {
			more = time.After(time.Until(f.backlog.due))
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-more:
		}
		f.mu.Lock()
		batch := f.inbox
		f.inbox, f.bytes = nil, 0
		f.mu.Unlock()
		f.apply(ctx, batch)
		f.tellBacklog(ctx)
	}
}

func (f *Feed) apply(ctx context.Context, batch []hint) {
	for len(batch) > 0 && ctx.Err() == nil {
		h := batch[0]
		if f.behind && h.kind < hintProven {
			batch = batch[1:]
			continue
		}
		switch h.kind {
		case hintMessage:
			list := ahead(batch)
			if f.backlog == nil {
				f.messages(ctx, f.news(list))
			} else {
				f.keepWaiting(list)
			}
			batch = batch[len(list):]
			continue
		case hintDisconnect:
			list := ahead(batch)
			f.disconnects(ctx, f.news(list))
			batch = batch[len(list):]
			continue
		case hintMark:
			f.options.Sink.Mark(h.mark)
			f.seen.hear(h.token, h.mark)
		case hintFence:
			f.reached(h.nonce)
		case hintProven:
			f.prove(h.proof)
		case hintLost:
			f.lose()
		case hintConnected:
			f.lose() // what was said before this LISTEN was not heard
			f.behind = !f.catchUp(ctx, h.found)
			go f.sendBeat(ctx)
		}
		batch = batch[1:]
	}
}

// lose gives up what the connection may still say, unless all that was missed before it has been told.
func (f *Feed) lose() {
	f.deaf()
	f.behind = f.behind || f.backlog != nil
	f.backlog = nil
}

// keepWaiting puts messages behind the backlog.
func (f *Feed) keepWaiting(messages []wanted) {
	if len(f.backlog.late)+len(messages) <= maxLate {
		f.backlog.late = append(f.backlog.late, messages...)
		return
	}
	f.mu.Lock()
	f.overrun()
	f.mu.Unlock()
	f.lose()
}

// overrun gives the connection up because it says more than can be held; called under f.mu.
func (f *Feed) overrun() {
	f.overflow = true
	f.epoch++
	f.losses++
}

// deaf tells the sink, once; fences on their way will never be reached.
func (f *Feed) deaf() {
	f.turning.Lock()
	defer f.turning.Unlock()
	f.mu.Lock()
	was := f.hearing
	f.hearing = false
	f.lease.end()
	fences := f.fences
	f.fences = map[string]*fence{}
	f.mu.Unlock()
	if was {
		f.options.Sink.Deaf()
	}
	for _, w := range fences {
		if w.then != nil {
			w.then(false)
		}
	}
}

// prove ends deafness: a heartbeat of this very connection was heard. It proves what was committed before it was sent,
// so one that took too long proves nothing.
func (f *Feed) prove(p *proof) {
	f.turning.Lock()
	defer f.turning.Unlock()
	f.mu.Lock()
	if p.epoch != f.epoch || f.since.IsZero() || time.Since(p.sent) > f.options.DeafAfter {
		f.mu.Unlock()
		return
	}
	was := f.hearing
	lapsed := f.lease.renew(p.sent, f.options.DeafAfter) && was
	f.hearing, f.heard, f.trouble = true, true, ""
	var waiting []func()
	if !was || lapsed {
		for _, then := range f.waiting {
			waiting = append(waiting, then)
		}
		clear(f.waiting)
	}
	f.mu.Unlock()
	if f.backlog == nil {
		f.seen.advance(p.snapshot, time.Now())
	}
	if lapsed { // and somebody may have asked meanwhile, and acted upon it
		f.options.Sink.Deaf()
	} else if was {
		return
	}
	f.options.Logger.Info("the database is heard")
	f.options.Sink.Hearing()
	for _, then := range waiting {
		then()
	}
}
