package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

const (
	// largeRows are written in one transaction, and largeRow is a row's megabytes.
	largeRows, largeRow = 1_000_000, 100
	// largeQuiet is how long the server is watched while nothing of that happens.
	largeQuiet = 5 * time.Second
	// largePatience bounds the wait for all to be told.
	largePatience = 4 * time.Minute
	// largeMost is how many megabytes the server's RSS may grow by.
	largeMost = 100
)

// largeConfig is of a channel that is told of all that happens in a table.
const largeConfig = `{"private":false,"postgres_changes":[{"event":"*","schema":"public","table":"told_all"}]}`

// large has the server tell somebody of a very large transaction, and of a very large row, and looks at what others notice of
// it, and at its memory: once where send() is heard by the WAL, once by NOTIFY. Nothing is pinned; Postgres has fsync on.
func (b *bench) large() (section, error) {
	finish, err := b.onDisk()
	if err != nil {
		return section{}, err
	}
	defer finish()
	if b.options.quick {
		return b.largeHere(20_000, 5, largeQuiet/5)
	}
	return b.largeHere(largeRows, largeRow, largeQuiet)
}

func (b *bench) largeHere(rows, megabytes int, quiet time.Duration) (s section, err error) {
	s = section{
		title: fmt.Sprintf("A transaction of %d rows, and a row of %d MB, told to one subscriber: what others wait for meanwhile (p50 / p99 / most, ms), and the server's memory (MB); fsync on", rows, megabytes),
		rows:  [][]string{{"how send() is heard, and what happens", "s", "send() of " + figure(float64(time.Second/sendEvery)) + "/s", "broadcasts of " + figure(float64(time.Second/sendEvery)) + "/s", "revocations of " + figure(float64(time.Second/largeRevokeEvery)) + "/s", "heap, most", "RSS, most"}},
	}
	if err := errors.Join(b.sample(), b.ask("watch"), b.ask("changes")); err != nil {
		return s, err
	}
	for _, source := range []string{"wal", "notify"} {
		if err := b.largeBy(&s, source, rows, megabytes, quiet); err != nil {
			return s, fmt.Errorf("FEED_SOURCE=%s: %w", source, err)
		}
	}
	return s, b.ask("changes_end")
}

// largeBy has a server do it that hears of send() in one of the two ways.
func (b *bench) largeBy(s *section, source string, rows, megabytes int, quiet time.Duration) error {
	b.say("large: FEED_SOURCE=%s", source)
	if err := b.ask("fill_again"); err != nil {
		return err
	}
	server, err := b.rowcast(anyCore, "PUBLICATION="+toldPublication, "FEED_SOURCE="+source)
	if err != nil {
		return err
	}
	defer server.stop()
	told, err := b.hearChanges(server)
	if err != nil {
		return err
	}
	defer told.leave()
	o, err := b.observe(server)
	if err != nil {
		return err
	}
	phases, err := b.burden(o, told, rows, megabytes, quiet)
	if err := errors.Join(err, o.end()); err != nil {
		return err
	}
	for _, p := range phases {
		s.rows = append(s.rows, append([]string{source + ": " + p.name}, p.cells(o)...))
	}
	return told.judge(s, source, phases, rows)
}

// onDisk gives the run another Postgres, which waits for its disk as a real one does.
func (b *bench) onDisk() (finish func(), err error) {
	b.say("starting a Postgres with fsync")
	other, err := b.startPostgres(pgtest.Options{Settings: map[string]string{"fsync": "on", "full_page_writes": "on"}})
	if err != nil {
		return nil, err
	}
	usual, sampled := b.database, b.sampled
	b.database, b.sampled = other, false
	return func() {
		b.close()
		b.database, b.sampled = usual, sampled
	}, nil
}

// changeHearer counts what it is told of changes.
type changeHearer struct {
	*visitor
	subscribed           chan struct{}
	waiting, told, large atomic.Int64
	came                 chan struct{}
	odd                  atomic.Pointer[string] // the first that is neither
}

func (b *bench) hearChanges(server *target) (*changeHearer, error) {
	h := &changeHearer{subscribed: make(chan struct{}, 1), came: make(chan struct{}, 1)}
	token, err := mint("authenticated", personID(people-1))
	if err != nil {
		return nil, err
	}
	if h.visitor, err = b.enter(server, session{Topic: "realtime:large", Token: token}, largeConfig, h.hear); err != nil {
		return nil, err
	}
	select {
	case <-h.subscribed:
		return h, nil
	case <-h.gone:
		return nil, errors.New("the connection was lost while the subscription was waited for")
	case <-time.After(toldPatience):
		return nil, errors.New("no subscription: " + h.oddity())
	}
}

func (h *changeHearer) hear(payload []byte, _ time.Time) {
	switch event := eventOf(payload); {
	case string(event) == protocol.EventPostgresChanges:
		if h.told.Add(1); bytes.Contains(payload, []byte("Error 413: Payload Too Large")) {
			h.large.Add(1)
		}
		if h.waiting.Add(-1) == 0 {
			h.came <- struct{}{}
		}
	case string(event) == "system" && bytes.Contains(payload, []byte(protocol.TextSubscribed)):
		h.subscribed <- struct{}{}
	default:
		text := string(payload)
		h.odd.CompareAndSwap(nil, &text)
	}
}

func (h *changeHearer) oddity() string {
	if text := h.odd.Load(); text != nil {
		return fmt.Sprintf("told %.300q", *text)
	}
	return "told nothing else"
}

// await waits until so many changes were told that were written after expect.
func (h *changeHearer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, largePatience)
	defer cancel()
	select {
	case <-h.came:
		return nil
	case <-h.gone:
		return fmt.Errorf("the subscriber was cut while %d changes were waited for: %s", h.waiting.Load(), h.oddity())
	case <-ctx.Done():
		return fmt.Errorf("%d changes were not told after %s: %s", h.waiting.Load(), largePatience, h.oddity())
	}
}

// judge says what the subscriber was told, and sets a bar for the memory.
func (h *changeHearer) judge(s *section, source string, phases []phase, rows int) error {
	if told, large := h.told.Load(), h.large.Load(); told != int64(rows)+1 || large != 1 || h.odd.Load() != nil {
		return fmt.Errorf("told of %d changes, %d of them too large, after %d rows and a large one; %s", told, large, rows, h.oddity())
	}
	most := 0.0
	for _, p := range phases[1:] {
		most = max(most, p.rss)
	}
	s.notes = append(s.notes, fmt.Sprintf("%s: the subscriber was told of each of the %d rows, %s a second, and of the large one without its long value (Error 413: Payload Too Large); of no gap.",
		source, rows, figure(float64(rows)/phases[2].end.Sub(phases[2].begin).Seconds())))
	s.bars = append(s.bars, bar{what: source + ": MB that the server's RSS grows by", figure: most - phases[0].rss, limit: largeMost, atMost: true})
	return nil
}

// burden does what is large, phase by phase.
func (b *bench) burden(o *observation, told *changeHearer, rows, megabytes int, quiet time.Duration) (phases []phase, err error) {
	conns, done, err := dial(b.ctx, b.database.admin, 1)
	if err != nil {
		return nil, err
	}
	defer done()
	wait := func(d time.Duration) func() error {
		return func() error {
			select {
			case <-time.After(d): // what is measured is that nothing happens
				return nil
			case <-o.failed:
				return nil
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"nothing of that", wait(quiet)},
		{"the rows are written", func() error {
			told.waiting.Store(int64(rows))
			_, err := conns[0].Exec(b.ctx, question("tell_many"), rows)
			return err
		}},
		{"they are told", func() error { return told.await(b.ctx) }},
		{"the large row", func() error {
			told.waiting.Store(1)
			if _, err := conns[0].Exec(b.ctx, question("tell_large"), megabytes); err != nil {
				return err
			}
			return told.await(b.ctx)
		}},
		{"afterwards", wait(quiet / 2)},
	} {
		b.say("large: %s", step.name)
		p := phase{name: step.name}
		if err := o.begin(&p); err != nil {
			return nil, err
		}
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		if err := o.finish(&p); err != nil {
			return nil, err
		}
		phases = append(phases, p)
	}
	return phases, nil
}

// phase is a time, and the most memory in it.
type phase struct {
	name       string
	begin, end time.Time
	heap, rss  float64 // MB
}

func (p phase) cells(o *observation) []string {
	cell := func(all *latencies) string {
		w := all.within(p.begin, p.end)
		return fmt.Sprintf("%s / %s / %s", milliseconds(w.at(0.5)), milliseconds(w.at(0.99)), milliseconds(w.at(1)))
	}
	return []string{figure(p.end.Sub(p.begin).Seconds()), cell(&o.sends), cell(&o.broadcasts), cell(&o.revocations), figure(p.heap), figure(p.rss)}
}
