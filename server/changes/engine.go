package changes

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/repeats"
)

// Options of an Engine.
type Options struct {
	Pool            *postgres.Pool
	URL             string   // of direct connections: the stream's, and those of views
	Publication     string   // whose tables are served
	Slot            string   // of a durable slot; "": a temporary one
	MaxRow          int      // bytes of a row, beyond which its long values are left out
	MaxSnapshotRows int      // of the rows that an entry asks for first; 0: no bound
	BypassRoles     []string // who may bypass row level security
	Logger          *slog.Logger
	Metrics         *metrics.Metrics

	repeats   *repeats.Log         // made by New
	turn      time.Duration        // how long a snapshot may take while others wait; 0: a minute
	lingerFor time.Duration        // how long the stream is kept for nobody; 0: a minute
	judged    func(*trial, *batch) // told of every batch that was delivered, for tests
}

// say logs what clients can cause again and again: about the same key once in a while.
func (o *Options) say(level slog.Level, key, msg string, args ...any) {
	o.repeats.Say(o.Logger, level, key, msg, args...)
}

// Outlet is a subscriber's connection, in which frames collect until they are flushed.
type Outlet interface{ Flush() }

// Member is who subscribed. Its methods are called one at a time; they must not block.
type Member interface {
	// Deliver gives one frame. It may leave later: what is returned is flushed at the end of the batch; nil if that was
	// promised before.
	Deliver(*protocol.Frame) Outlet
	// Notice is a system message of postgres_changes. The code says what is the matter; "": all is well.
	Notice(code protocol.Code, text string)
	// Drained calls then once, as soon as nothing waits for the client: at once if so. It must not block.
	Drained(then func())
}

// Subscriber is a channel that asks for changes.
type Subscriber struct {
	Topic   string // as on the wire
	Role    string
	Claims  []byte // of the token, a JSON object
	Entries []Entry
	Member  Member
}

// Engine gives subscribers the changes that they asked for and may see. Nothing is asked of the database while there is
// none.
type Engine struct {
	options Options
	mail    mailbox
	loop    loop
}

// New makes an engine. It does nothing before Run.
func New(o Options) *Engine {
	o.repeats = &repeats.Log{}
	e := &Engine{options: o}
	e.mail.init()
	e.loop.init(&e.options, &e.mail)
	return e
}

// Run serves until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	defer e.mail.close()
	return e.loop.run(ctx)
}

// Publications tells that the publication may publish other tables or columns than before.
func (e *Engine) Publications() { e.mail.post(e.loop.publicationChanged) }

// Subscribe begins a subscription. How it goes its Member is told by notices.
func (e *Engine) Subscribe(s Subscriber) *Subscription {
	sub := newSubscription(e, s)
	e.mail.post(func() { e.loop.register(sub) })
	return sub
}

// Rebind has a subscription go on under another token: what is judged from now on is judged under it. It is checked again,
// and its Member told so.
func (s *Subscription) Rebind(role string, claims []byte) {
	s.engine.mail.post(func() { s.engine.loop.rebind(s, role, claims) })
}

// End ends a subscription. No call of its Member begins after it; one that has begun may still be under way.
func (s *Subscription) End() {
	if !s.ended.Swap(true) {
		s.engine.mail.post(func() { s.engine.loop.forget(s) })
	}
}

// mailbox is what others want of the loop, in their order. Who posts bounds how much: a channel has one subscription.
type mailbox struct {
	some chan struct{} // holds one while there are letters

	mu      sync.Mutex // guards those below
	letters []func()
	closed  bool
}

func (m *mailbox) init() { m.some = make(chan struct{}, 1) }

func (m *mailbox) post(letter func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.letters = append(m.letters, letter)
	signal(m.some)
}

func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	letters := m.letters
	m.letters = nil
	return letters
}

// close has what is posted from now on forgotten.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.letters = true, nil
}

// signal leaves word in a channel of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
