package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pilotChanges have tables looked up, and show about how fast it is.
	pilotChanges = 40
	// leastChanges, a batch, and mostChanges bound what is told in a window.
	leastChanges, mostChanges = 200, 40_000
	// pacedEvery is between paced changes.
	pacedEvery = 10 * time.Millisecond
)

// flow is what came of a number of changes that were written as fast as one connection can, each in its own transaction.
type flow struct {
	changes    int
	deliveries int64
	took       time.Duration // from the first INSERT to the last delivery
	writing    time.Duration // of that, until the last COMMIT
	cpu        float64       // seconds of this process
	batches    float64
	questions  float64 // by the engine's count
	statements int     // that Postgres logged
}

func (f flow) rate() float64 { return float64(f.changes) / f.took.Seconds() }

// flood writes changes and waits until all have been told.
func (b *bench) flood(t *teller, n int) (f flow, err error) {
	conns, done, err := dial(b.ctx, b.database.admin, 1)
	if err != nil {
		return f, err
	}
	defer done()
	f = flow{changes: n, deliveries: t.of.told(n)}
	expected := f.deliveries
	if t.of.subscribers == 0 {
		expected = int64(n) // the stream counts for itself
	}
	before, err := b.tally(t)
	if err != nil {
		return f, err
	}
	t.expect(expected)
	begin := time.Now()
	written := make(chan error, 1)
	go func() {
		_, err := conns[0].Exec(b.ctx, question("tell"), t.of.table, 0, n, t.of.owners())
		f.writing = time.Since(begin)
		written <- err
	}()
	err = t.await(b.ctx)
	f.took = time.Since(begin)
	after, counted := b.tally(t)
	f.cpu, f.batches, f.questions, f.statements = after.cpu-before.cpu, after.batches-before.batches, after.questions-before.questions, after.statements-before.statements
	return f, errors.Join(err, <-written, counted)
}

// measureFlow floods for about as long as a window.
func (b *bench) measureFlow(t *teller, name string) (f flow, err error) {
	if f, err = b.flood(t, pilotChanges); err != nil {
		return f, err
	}
	window := b.pick(2*time.Second, 200*time.Millisecond).Seconds()
	fits := func(least int, part float64) int { return max(least, min(int(f.rate()*window*part), mostChanges)) }
	if f, err = b.flood(t, fits(pilotChanges, 0.3)); err != nil {
		return f, err
	}
	n := fits(leastChanges, 1)
	b.awaitQuiet()
	stop, err := b.profileSelf("changes-" + name)
	if err != nil {
		return f, err
	}
	f, err = b.flood(t, n)
	return f, errors.Join(err, stop())
}

// profileSelf keeps a CPU profile of this process, if profiles are wanted.
func (b *bench) profileSelf(name string) (stop func() error, err error) {
	if b.options.profile == "" {
		return func() error { return nil }, nil
	}
	path := filepath.Join(b.options.profile, strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' {
			return -1
		}
		return r
	}, name)+".pprof")
	if err := os.MkdirAll(b.options.profile, 0o755); err != nil {
		return nil, fmt.Errorf("keep profile: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("keep profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		b.say("profile in %s", path)
		return file.Close()
	}, nil
}

// tallies are what is counted all the time.
type tallies struct {
	cpu, batches, questions float64
	statements              int
}

func (b *bench) tally(t *teller) (now tallies, err error) {
	now.cpu = processSeconds(os.Getpid())
	if now.statements, err = b.database.statements(); err != nil {
		return now, err
	}
	families, err := t.metrics.Registry.Gather()
	if err != nil {
		return now, fmt.Errorf("read own metrics: %w", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "realtime_changes_batch_size":
				now.batches += float64(m.GetHistogram().GetSampleCount())
			case "realtime_changes_questions_total":
				now.questions += m.GetCounter().GetValue()
			}
		}
	}
	return now, nil
}

// statements counts what the server's role has had Postgres execute, by Postgres' own log: BEGIN and settings, too.
func (d *database) statements() (int, error) {
	if d.log == nil {
		return 0, nil
	}
	log, err := d.log()
	if err != nil {
		return 0, fmt.Errorf("count statements: %w", err)
	}
	return strings.Count(log, "LOG:  execute ") + strings.Count(log, "LOG:  statement: "), nil
}

// paced are changes at a steady rate, and bare notifications between them, from when each COMMIT was answered.
type paced struct{ told, noticed waits }

func (b *bench) pace(t *teller, count int) (p paced, err error) {
	conns, done, err := dial(b.ctx, b.database.admin, 3)
	if err != nil {
		return p, err
	}
	defer done()
	writer, sender, listener := conns[0], conns[1], conns[2]
	if _, err := listener.Exec(b.ctx, question("listen")); err != nil {
		return p, fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, effectPatience+time.Duration(count)*10*pacedEvery)
	defer cancel()
	heard := make([]time.Time, count)
	var group sync.WaitGroup
	var hearing error
	group.Go(func() { hearing = hearAll(ctx, listener, heard) })
	t.at = make([]atomic.Int64, count)
	t.expect(t.of.told(count))
	r, err := keepPace(ctx, writer, sender, t.of, count)
	if err != nil {
		cancel()
	}
	group.Wait()
	if err := errors.Join(err, hearing); err != nil {
		return p, err
	}
	if err := t.await(ctx); err != nil {
		return p, err
	}
	at := t.at
	t.at = nil // nothing comes any more
	p.told = newWaits(r.cut, func(i int) time.Time { return time.Unix(0, at[i].Load()) })
	p.noticed = newWaits(r.said, func(i int) time.Time { return heard[i] })
	return p, nil
}

// keepPace writes and notifies in turns. Both have their statements prepared before the first that counts is sent.
func keepPace(ctx context.Context, writer, sender *pgx.Conn, a audience, count int) (r revoked, err error) {
	tick := time.NewTicker(pacedEvery / 2)
	defer tick.Stop()
	for n := range count {
		<-tick.C
		if _, err := writer.Exec(ctx, question("tell"), a.table, n, n+1, a.owners()); err != nil {
			return r, fmt.Errorf("write a change: %w", err)
		}
		r.cut = append(r.cut, time.Now())
		<-tick.C
		if _, err := sender.Exec(ctx, question("notify"), strconv.Itoa(n)); err != nil {
			return r, fmt.Errorf("notify: %w", err)
		}
		r.said = append(r.said, time.Now())
	}
	return r, nil
}
