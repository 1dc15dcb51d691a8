// Package feed is the one ordered stream of what the database says: rights that may have changed, and messages sent from
// SQL, in the order in which their transactions were committed and, within one, were said.
//
// Hints come from one of two sources in the database, LISTEN/NOTIFY and the WAL. Anyone can say something in either, so a hint
// never carries content: a message is read from the table it names, a mark only has the policies asked again. The feed proves
// that it hears, by heartbeats that take the same way, and says when it does not.
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
	"rowcast/server/wal"
)

// Mark says that rights may have changed; an empty subject or topic means all of them.
type Mark struct {
	XID     snapshot.XID
	Subject string
	Topic   string
	Lenient bool // so common that no message around it need be withheld

	// Seen is set where what it sees may be told after the mark, though it was committed before.
	Seen snapshot.Snapshot
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
	// rights that may have changed meanwhile, then others as they are heard. For what was found late it may come at any time,
	// with CaughtUp behind it; of marks that this was committed before, Seen has seen it.
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
	Pool        *postgres.Pool
	ListenURL   string
	Stream      Stream        // nil: messages are heard by NOTIFY alone
	StreamRetry time.Duration // how soon a stream that was lost is tried again; 0: five seconds
	Sink        Sink
	MaxPayload  int           // bytes; longer messages are dropped and counted
	Heartbeat   time.Duration // between heartbeats; 0: a second
	DeafAfter   time.Duration // without hearing one's own heartbeat; 0: five seconds
	Node        string        // this server's id in realtime._nodes
	Awaited     func()        // a heartbeat found that somebody may wait in realtime.sync() for this server; must not block; nil: nobody cares
	Logger      *slog.Logger
	Metrics     *metrics.Metrics

	Beaten func(x snapshot.XID, saw snapshot.Snapshot) // told of each heartbeat: its transaction, and what it saw; must not block; nil: nobody cares

	fetchLimits postgres.Limits // tests have less time; 0: fetchLimits
	warmUp      time.Duration   // the same; 0: warmUp
}

// Stream tells what is committed in the order of the WAL, after it has called ready, until ctx ends or the connection is lost.
type Stream func(ctx context.Context, to wal.Handler, ready func()) error

const (
	// maxInbox bounds the hints not yet worked off, in bytes: some 600 000 messages. Beyond it the feed gives up its
	// place, goes deaf and begins anew: nothing is dropped in silence.
	maxInbox = 128 << 20
	// maxLate bounds the messages that wait behind a backlog (32 bytes each), with the same end.
	maxLate = 1 << 20
)

// Feed runs from Run's start to its end.
type Feed struct {
	options Options

	// The work loop's own:
	seen       seen
	backlog    *backlog                  // nil: there is none
	behind     bool                      // the connection was lost before all was told that had been missed: nothing may overtake that
	wasted     time.Time                 // since when all is said by the WAL too, and nobody is known to hear it
	trying     bool                      // to begin anew is put off
	place      *found                    // of the listener's connection
	source     source                    // as of the last position
	served     bool                      // this server had a place among those that serve
	flow       flow                      // the stream of the WAL
	stragglers map[snapshot.XID]struct{} // see straggle

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

	leads         bool                    // the stream does
	led           bool                    // the last has, for a while
	known         snapshot.Snapshot       // the last of which we know
	serving       bool                    // this server has a place among those that serve
	beaten        map[string]time.Time    // heartbeats sent of late, by nonce
	alarmed       time.Time               // when the last was sent that came back by NOTIFY
	streamed      time.Time               // and by the stream in use
	stream        int                     // number of the last
	endStream     context.CancelCauseFunc // of the same
	streaming     time.Time               // since when it is read; zero: its slot is being made
	doubled       time.Time               // since when everybody says everything by both for its sake; zero: they do not
	streamTrouble error                   // why there is none

	lease lease
	wake  chan struct{} // the inbox has something
	hurry chan struct{} // a heartbeat is wanted
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
	if o.warmUp == 0 {
		o.warmUp = warmUp
	}
	if o.StreamRetry == 0 {
		o.StreamRetry = firstRetry
	}
	o.Metrics.FeedSource.WithLabelValues("notify").Set(1)
	o.Metrics.FeedSource.WithLabelValues("wal").Set(0)
	return &Feed{
		options: o, seen: newSeen(), wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), fences: map[string]*fence{}, beaten: map[string]time.Time{}, waiting: map[int]func(){},
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
	if f.options.Stream != nil {
		group.Go(func() { f.streams(ctx) })
	}
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

// Hurry has a heartbeat sent now: this server has a place among those that serve, and finds out what that changes.
func (f *Feed) Hurry() {
	select {
	case f.hurry <- struct{}{}:
	default:
	}
}

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
	if p.epoch != f.epoch || f.since.IsZero() && !f.leads || time.Since(p.sent) > f.options.DeafAfter {
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
