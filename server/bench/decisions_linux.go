package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/auth"
	"rowcast/server/feed"
	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/rights"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

const (
	// deciderPool is about a server's.
	deciderPool = 8
	// asksAtOnce keeps the decider's batches full.
	asksAtOnce = 400
	// baseConns ask for nothing, or for one decision in a transaction of its own.
	baseConns = 4
	// decisionsLeast is the part of `select 1`s that decisions must come to, batchedLeast how many times those that are made
	// one by one.
	decisionsLeast, batchedLeast = 0.3, 5
	// joinSockets join public rooms and private ones, to see what the decisions add.
	joinSockets = 2000
	// hearPatience bounds a feed's start.
	hearPatience = 30 * time.Second
)

// decisions has the server's own decider answer whether people may receive and send in their rooms, beside connections that
// ask for nothing, and beside the same statement with one question in each transaction. Nobody is pinned: Postgres needs the
// cores too.
func (b *bench) decisions() (section, error) {
	s := section{
		title: fmt.Sprintf("Decisions a second: receive and send, %d members of %d rooms, all cores, beside `select 1` on %d connections", people, peopleRooms, baseConns),
		rows:  [][]string{{"", "ratio", "from", "to", "own/s", "baseline/s"}},
	}
	if err := b.sample(); err != nil {
		return s, err
	}
	row := func(name string, ratios, own, base []float64) {
		s.rows = append(s.rows, []string{
			name, figure(median(ratios)), figure(slices.Min(ratios)), figure(slices.Max(ratios)), figure(median(own)), figure(median(base)),
		})
	}
	for _, policies := range []struct {
		name   string
		within func(func() error) error // has something done while they are in force
		least  float64                  // of `select 1`
	}{
		{"one lookup", b.withLookup, decisionsLeast},
		{"the sample's policies", func(do func() error) error { return do() }, 0},
	} {
		err := policies.within(func() error {
			rates, err := b.decisionRates()
			if err != nil {
				return err
			}
			row(policies.name+": joins", rates.joinRatios, rates.joins, rates.base)
			row(policies.name+": asked again after a change", rates.againRatios, rates.again, rates.base)
			row(policies.name+": one in each transaction", rates.singleRatios, rates.singles, rates.base)
			if policies.least > 0 {
				s.bars = append(s.bars, bar{what: policies.name + ": decisions beside `select 1`", figure: median(rates.joinRatios), limit: policies.least})
			}
			s.bars = append(s.bars, bar{what: policies.name + ": decisions beside those in a transaction each", figure: median(rates.joins) / median(rates.singles), limit: batchedLeast})
			return nil
		})
		if err != nil {
			return s, err
		}
	}

	public, private, err := b.joinRates(joinSockets)
	if err != nil {
		return s, err
	}
	row("over the wire: private joins, beside public", []float64{private / public}, []float64{private}, []float64{public})
	return s, nil
}

// decider is the server's, with all it needs to know which verdicts count.
type decider struct {
	*auth.Decider
	stop func()
}

// nobody hears what the feed says.
type nobody struct{}

func (nobody) Mark(feed.Mark)             {}
func (nobody) Message(feed.Message)       {}
func (nobody) Disconnect(feed.Disconnect) {}
func (nobody) Deaf()                      {}
func (nobody) Hearing()                   {}
func (nobody) Rewound(snapshot.Snapshot)  {}
func (nobody) CatchingUp()                {}
func (nobody) Settled() bool              { return true }
func (nobody) Dropped(feed.Message)       {}
func (nobody) Missed()                    {}
func (nobody) CaughtUp()                  {}

func (b *bench) startDecider() (*decider, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	pool, err := postgres.Open(ctx, b.database.url, deciderPool)
	if err != nil {
		cancel()
		return nil, err
	}
	m, logger := metrics.New(), slog.New(slog.DiscardHandler)
	f := feed.New(feed.Options{Pool: pool, ListenURL: b.database.url, Sink: nobody{}, Logger: logger, Metrics: m})
	w := rights.New(rights.Options{
		Pool: pool, Install: true, PollEvery: time.Second, RecheckEvery: 5 * time.Second, Active: func() bool { return true },
		Published: func() {}, Changed: func(snapshot.Snapshot) {}, Recheck: func(int, int) bool { return true }, Logger: logger, Metrics: m,
	})
	d := auth.NewDecider(auth.DeciderOptions{Pool: pool, Feed: f, Rights: w, BypassRoles: []string{"service_role"}, Logger: logger, Metrics: m})
	var group sync.WaitGroup
	group.Go(func() { _ = f.Run(ctx) }) // a feed that cannot work is never heard
	group.Go(func() { w.Run(ctx) })
	group.Go(func() { d.Run(ctx) })
	stop := func() { cancel(); group.Wait(); pool.Close() }
	hearing := make(chan struct{})
	f.WhenHearing(func() { close(hearing) })
	select {
	case <-hearing:
		return &decider{d, stop}, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(hearPatience):
		err = errors.New("the feed does not hear the database")
	}
	stop()
	return nil, err
}

// decisionRates are a second, with the baseline before and after each.
type decisionRates struct {
	base, joins, again, singles           []float64
	joinRatios, againRatios, singleRatios []float64
}

// withLookup has something done under policies that cost least, instead of the sample's.
func (b *bench) withLookup(do func() error) error {
	if err := b.ask("lookup"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		err = b.ask("lookup_end")
	}
	if err == nil {
		err = b.samplePolicies()
	}
	return err
}

func (b *bench) decisionRates() (r decisionRates, err error) {
	d, err := b.startDecider()
	if err != nil {
		return r, err
	}
	defer d.stop()
	conns, done, err := dial(b.ctx, b.database.url, baseConns)
	if err != nil {
		return r, err
	}
	defer done()
	window, rounds := b.pick(1500*time.Millisecond, 300*time.Millisecond), 3
	if b.options.quick {
		rounds = 1
	}
	base := func() error {
		rate, err := asksPerSecond(b.ctx, conns, window)
		r.base = append(r.base, rate)
		return err
	}
	pool, err := postgres.Open(b.ctx, b.database.url, baseConns)
	if err != nil {
		return r, err
	}
	defer pool.Close()
	kinds := []struct {
		name         string
		rates, ratio *[]float64
		measure      func() (float64, error)
	}{
		{"batched", &r.joins, &r.joinRatios, func() (float64, error) { return d.perSecond(b.ctx, false, window) }},
		{"asked again", &r.again, &r.againRatios, func() (float64, error) { return d.perSecond(b.ctx, true, window) }},
		{"one by one", &r.singles, &r.singleRatios, func() (float64, error) { return singlesPerSecond(b.ctx, pool, window) }},
	}
	b.awaitQuiet()
	if err := base(); err != nil {
		return r, err
	}
	for range rounds {
		for _, k := range kinds {
			b.say("decisions, %s", k.name)
			rate, err := k.measure()
			if err == nil {
				err = base()
			}
			if err != nil {
				return r, err
			}
			n := len(r.base)
			*k.rates, *k.ratio = append(*k.rates, rate), append(*k.ratio, rate/((r.base[n-1]+r.base[n-2])/2))
		}
	}
	return r, nil
}

// asksPerSecond has each connection ask for nothing, over and over.
func asksPerSecond(ctx context.Context, conns []*pgx.Conn, window time.Duration) (float64, error) {
	var asked atomic.Int64
	failed := make(chan error, len(conns))
	begin := time.Now()
	text := question("nothing")
	for _, conn := range conns {
		go func() {
			var one int
			var err error
			for err == nil && time.Since(begin) < window {
				err = conn.QueryRow(ctx, text).Scan(&one)
				asked.Add(1)
			}
			failed <- err
		}()
	}
	var err error
	for range conns {
		err = errors.Join(err, <-failed)
	}
	return float64(asked.Load()) / time.Since(begin).Seconds(), err
}

// singlesPerSecond has each connection decide about one person in a transaction, over and over.
func singlesPerSecond(ctx context.Context, pool *postgres.Pool, window time.Duration) (float64, error) {
	var asked atomic.Int64
	failed := make(chan error, baseConns)
	begin := time.Now()
	for i := range baseConns {
		go func() {
			var err error
			for n := i; err == nil && time.Since(begin) < window; n += baseConns {
				err = single(ctx, pool, n)
				asked.Add(1)
			}
			failed <- err
		}()
	}
	var err error
	for range baseConns {
		err = errors.Join(err, <-failed)
	}
	return float64(asked.Load()) / time.Since(begin).Seconds(), err
}

func single(ctx context.Context, pool *postgres.Pool, n int) error {
	person := n % people
	claims := fmt.Sprintf(`{"sub":"%s","role":"authenticated"}`, personID(person))
	return postgres.Short(ctx, pool, postgres.Limits{Statement: 2 * time.Second, Lock: time.Second}, false,
		func(batch *pgx.Batch) {
			batch.Queue(sql.Decide, []string{roomOf(person)}, []string{"broadcast"}, []string{"authenticated"}, []string{claims}, []string{"{}"}, []string{"service_role"})
		},
		func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err != nil {
				return err
			}
			allowed, err := pgx.CollectOneRow(rows, func(row pgx.CollectableRow) (bool, error) {
				values, err := row.Values()
				return err == nil && values[1] == true && values[2] == true, err
			})
			if err == nil && !allowed {
				err = errors.New("a member was refused")
			}
			return err
		})
}

// perSecond keeps many questions on their way, each about somebody else; all must be allowed.
func (d *decider) perSecond(ctx context.Context, fenced bool, window time.Duration) (float64, error) {
	answers := make(chan auth.Answer, asksAtOnce)
	next := 0
	ask := func() {
		sub := personID(next % people)
		d.Ask(auth.Request{
			Topic: roomOf(next), Headers: "{}", Fenced: fenced,
			Claims: auth.Claims{Subject: sub, Role: "authenticated", Raw: fmt.Appendf(nil, `{"sub":"%s","role":"authenticated"}`, sub)},
		}, func(a auth.Answer) { answers <- a })
		next++
	}
	begin := time.Now()
	for range asksAtOnce {
		ask()
	}
	allowed, rate := 0, 0.0
	for answered := 0; answered < next; answered++ {
		var a auth.Answer
		select {
		case a = <-answers:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if a.Err != nil || !a.Broadcast.Receive || !a.Broadcast.Send {
			return 0, fmt.Errorf("a member was refused: %+v", a)
		}
		allowed++
		if since := time.Since(begin); since < window {
			ask()
		} else if rate == 0 {
			rate = float64(allowed) / since.Seconds()
		}
	}
	return rate, nil
}

// joinRates are sockets that connect and join in a second.
func (b *bench) joinRates(sockets int) (public, private float64, err error) {
	server, err := b.rowcast(anyCore)
	if err != nil {
		return 0, 0, err
	}
	defer server.stop()
	sessions, _, err := members(sockets, peopleRooms)
	if err != nil {
		return 0, 0, err
	}
	rate := func(private bool) (float64, error) {
		b.say("%d joins, private: %t", sockets, private)
		b.awaitQuiet()
		g, err := b.generator(server, plan{Sessions: sessions, Private: private}, anyCore)
		if err != nil {
			return 0, err
		}
		defer g.stop()
		ready, err := g.expect(reportReady)
		if err == nil {
			_, err = g.release()
		}
		return float64(sockets) / ready.Seconds, err
	}
	if public, err = rate(false); err != nil {
		return 0, 0, err
	}
	private, err = rate(true)
	return public, private, err
}
