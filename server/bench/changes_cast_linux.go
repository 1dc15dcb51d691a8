package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rowcast/server/changes"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/protocol"
	"rowcast/server/wal"
)

const (
	// toldPublication is that of sql/bench/changes.sql.
	toldPublication = "bench_changes"
	// toldPatience bounds the wait for subscriptions, and for changes that were written.
	toldPatience = time.Minute
)

// audience is who is told of the changes of a table, and how many ways to see it there are among them: of change n is told who
// has a number that is n modulo groups.
type audience struct {
	name        string
	table       string
	subscribers int
	groups      int
	filtered    bool // by the owner, instead of by policies
}

// hearers is how many are told of a change.
func (a audience) hearers() int { return a.subscribers / a.groups }

// owners is how many own the rows, in turns.
func (a audience) owners() int { return max(a.subscribers, a.groups) }

// told is how many deliveries there are of changes 0 to n - 1.
func (a audience) told(n int) (all int64) {
	for i := range a.subscribers {
		if first := i % a.groups; first < n {
			all += int64((n-1-first)/a.groups + 1)
		}
	}
	return all
}

// listeners are the audience in this process: without sockets, so that what is measured is what comes before them.
type listeners struct {
	of      audience
	members []*listener
	waiting atomic.Int64 // subscriptions, or deliveries
	done    chan struct{}
	fault   atomic.Pointer[string]
	frame   atomic.Pointer[protocol.Frame] // the first
	at      []atomic.Int64                 // of each change, when the last had it; nil: that is of no interest
}

func newListeners(a audience) *listeners {
	all := &listeners{of: a, done: make(chan struct{}, 1)}
	for i := range a.subscribers {
		all.members = append(all.members, &listener{all: all, first: i % a.groups})
	}
	return all
}

// listener is a changes.Member and its outlet.
type listener struct {
	all      *listeners
	first    int // of the changes that it is told of
	heard    int
	promised bool // to be flushed
}

// Deliver encodes the frame, as the first of a wire version does.
func (m *listener) Deliver(f *protocol.Frame) changes.Outlet {
	f.Bytes(protocol.V2)
	if m.all.waiting.Load() <= 0 {
		m.all.fail("more than was written")
		return nil
	}
	if m.all.at != nil {
		m.all.at[m.first+m.heard*m.all.of.groups].Store(time.Now().UnixNano())
	}
	if m.heard++; m.all.frame.Load() == nil {
		m.all.frame.Store(f)
	}
	m.all.came()
	if m.promised {
		return nil
	}
	m.promised = true
	return m
}

func (m *listener) Flush() { m.promised = false }

func (m *listener) Notice(code protocol.Code, text string) {
	if code != "" || text != protocol.TextSubscribed {
		m.all.fail(text)
	}
	m.all.came()
}

func (l *listeners) fail(text string) { l.fault.CompareAndSwap(nil, &text) }

func (m *listener) Drained(then func()) { then() }

func (l *listeners) came() {
	if l.waiting.Add(-1) == 0 {
		l.done <- struct{}{}
	}
}

// expect is called before what comes.
func (l *listeners) expect(n int64) {
	for _, m := range l.members {
		m.heard = 0
	}
	l.waiting.Store(n)
}

// await waits for what was expected, and no more.
func (l *listeners) await(ctx context.Context) error {
	select {
	case <-l.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(toldPatience):
	}
	if fault := l.fault.Load(); fault != nil {
		return fmt.Errorf("told %q", *fault)
	}
	if left := l.waiting.Load(); left != 0 {
		return fmt.Errorf("%d are still waited for after %s", left, toldPatience)
	}
	return nil
}

// teller tells an audience.
type teller struct {
	*listeners
	metrics    *metrics.Metrics
	subscribed time.Duration // what it took to subscribe all
	stop       func()
}

// engine has the server's own engine tell them.
func (b *bench) engine(a audience) (*teller, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	pool, err := postgres.Open(ctx, b.database.url, deciderPool)
	if err != nil {
		cancel()
		return nil, err
	}
	t := &teller{listeners: newListeners(a), metrics: metrics.New()}
	e := changes.New(changes.Options{
		Pool: pool, URL: b.database.url, Publication: toldPublication, MaxRow: 1 << 20, BypassRoles: []string{"service_role"},
		Logger: slog.New(slog.DiscardHandler), Metrics: t.metrics,
	})
	var group sync.WaitGroup
	group.Go(func() { _ = e.Run(ctx) }) // what it cannot do its members are told
	t.stop = func() { cancel(); group.Wait(); pool.Close() }
	begin := time.Now()
	t.expect(int64(a.subscribers))
	for i, m := range t.members {
		s, err := a.subscriber(i)
		if err != nil {
			t.stop()
			return nil, err
		}
		s.Member = m
		e.Subscribe(s)
	}
	if err := t.await(ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("subscribe %d: %w", a.subscribers, err)
	}
	t.subscribed = time.Since(begin)
	return t, nil
}

func (a audience) subscriber(i int) (changes.Subscriber, error) {
	filter := ""
	if a.filtered {
		filter = `,"filter":"owner=eq.` + personID(i) + `"`
	}
	entry := fmt.Appendf(nil, `{"event":"*","schema":"public","table":"%s"%s}`, a.table, filter)
	entries, err := changes.ParseEntries([][]byte{entry}, []int{1})
	return changes.Subscriber{
		Topic: "realtime:bench", Role: "authenticated", Entries: entries,
		Claims: fmt.Appendf(nil, `{"sub":"%s","org":%d,"role":"authenticated"}`, personID(i), i%20),
	}, err
}

// fanOut has a bare stream tell those whom it concerns, whoever they are: the least that it can cost. Each is given the frame
// that the engine made.
func (b *bench) fanOut(a audience, frame []byte) (*teller, error) {
	_, payload, ok := bytes.Cut(frame, []byte(strconv.Quote(protocol.EventPostgresChanges)+","))
	if !ok && a.subscribers > 0 {
		return nil, fmt.Errorf("no payload in %.300q", frame)
	}
	t := &teller{listeners: newListeners(a), metrics: metrics.New()}
	h := &bareHandler{t: t, table: a.table, payload: bytes.TrimSuffix(payload, []byte("]"))}
	ctx, cancel := context.WithCancel(b.ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- wal.Stream(ctx, wal.Options{
			Name: "bench", URL: b.database.url, Slot: "rowcast_bench_" + strings.ToLower(rand.Text()[:12]), Publication: toldPublication, MaxRow: 1 << 20,
			Logger: slog.New(slog.DiscardHandler), Metrics: t.metrics,
		}, h, func(wal.LSN) { close(ready) })
	}()
	t.stop = func() { cancel(); <-ended }
	select {
	case <-ready:
		return t, nil
	case err := <-ended:
		cancel()
		return nil, errors.Join(errors.New("read the WAL"), err)
	}
}

// bareHandler gives each change of a table to everybody.
type bareHandler struct {
	t       *teller
	table   string
	payload []byte
}

func (h *bareHandler) Change(c wal.Change) {
	if c.Relation.Name != h.table {
		return
	}
	if len(h.t.members) == 0 {
		h.t.came()
		return
	}
	f := protocol.TextEvent("realtime:bench", protocol.EventPostgresChanges, bytes.Clone(h.payload))
	for _, m := range h.t.members {
		m.Deliver(f)
		m.Flush()
	}
}

func (*bareHandler) Begin(wal.Begin)       {}
func (*bareHandler) Truncate(wal.Truncate) {}
func (*bareHandler) Message(wal.Message)   {}
func (*bareHandler) Commit()               {}
func (*bareHandler) Reached(wal.LSN)       {}
