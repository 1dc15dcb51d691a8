package feed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// nonceLength is that of crypto/rand's text, 128 bits: nobody can send our heartbeat before we do.
const nonceLength = 26

// Fence is a place in the feed: whoever has reached it has been told everything that was committed before it was sent.
// Heartbeats are fences that the feed sends itself.
type Fence struct {
	nonce string
	feed  *Feed
}

// fence is a Fence on its way.
type fence struct {
	sent    time.Time
	reached bool
	then    func(reached bool)
}

// NewFence prepares a fence. Send its Payload with sql.Heartbeat and call Then, or Drop it.
func (f *Feed) NewFence() *Fence {
	nonce := rand.Text()
	f.mu.Lock()
	f.fences[nonce] = &fence{sent: time.Now()}
	f.mu.Unlock()
	return &Fence{nonce, f}
}

// Payload is what sql.Heartbeat has to say.
func (w *Fence) Payload() string { return "h " + w.nonce }

// Then calls then once everything before the fence has been given to the sink, or with false if that will never be.
func (w *Fence) Then(then func(reached bool)) {
	f := w.feed
	f.mu.Lock()
	on, ok := f.fences[w.nonce]
	if ok && !on.reached {
		on.then = then
		f.mu.Unlock()
		return
	}
	delete(f.fences, w.nonce)
	f.mu.Unlock()
	if ok {
		f.options.Metrics.FeedRoundTrip.Observe(time.Since(on.sent).Seconds())
	}
	then(ok) // not there any more: the feed went deaf
}

// Drop forgets a fence that was not sent.
func (w *Fence) Drop() {
	w.feed.mu.Lock()
	delete(w.feed.fences, w.nonce)
	w.feed.mu.Unlock()
}

// reached is told of every nonce heard; those that are not ours mean nothing.
func (f *Feed) reached(nonce string) {
	f.mu.Lock()
	on, ok := f.fences[nonce]
	if ok && on.then == nil {
		on.reached = true // the answer of the database is still on its way; Then will find it
		f.mu.Unlock()
		return
	}
	delete(f.fences, nonce)
	f.mu.Unlock()
	if !ok {
		f.options.Metrics.FeedIgnored.WithLabelValues("foreign_heartbeat").Inc()
		return
	}
	f.options.Metrics.FeedRoundTrip.Observe(time.Since(on.sent).Seconds())
	on.then(true)
}

// beats sends heartbeats.
func (f *Feed) beats(ctx context.Context) {
	tick := time.NewTicker(f.options.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.sendBeat(ctx, f.NewFence())
		case <-f.hurry:
			f.sendBeat(ctx, f.NewFence())
		}
	}
}

// sendBeat sends a fence as a heartbeat, through the pool, so that it proves the whole way: pool, primary, LISTEN or the WAL.
func (f *Feed) sendBeat(ctx context.Context, w *Fence) {
	half := f.options.DeafAfter / 2 // one that hangs must leave time for another, on another connection
	ctx, cancel := context.WithTimeout(ctx, half)
	defer cancel()
	sent := time.Now()
	f.mu.Lock()
	epoch := f.epoch
	for nonce, then := range f.beaten {
		if sent.Sub(then) > 2*f.options.DeafAfter {
			delete(f.beaten, nonce)
		}
	}
	f.beaten[w.nonce] = sent
	f.mu.Unlock()
	p, awaited, err := f.say(ctx, postgres.Limits{Statement: half, Lock: half}, w.Payload())
	if err != nil {
		w.Drop()
		f.options.Logger.Debug("heartbeat not sent", "err", err)
		return
	}
	f.know(p.snapshot)
	if f.options.Beaten != nil {
		f.options.Beaten(p.xid, p.snapshot)
	}
	f.mu.Lock()
	f.serving = p.serves
	deaf := f.leads && p.source.way == wayNotify // no heartbeat comes by the stream
	f.mu.Unlock()
	if awaited && f.options.Awaited != nil {
		f.options.Awaited()
	}
	p.epoch, p.sent = epoch, sent
	if deaf {
		f.put(hint{kind: hintProven, proof: &p})
	}
	w.Then(func(reached bool) {
		if reached {
			f.put(hint{kind: hintProven, proof: &p})
		}
	})
}

// say says something by both ways, and returns what the database had committed by then, by which way messages are said, and
// whether this server may be awaited in realtime.sync(): asked in the same round trip, that costs nothing of its own.
func (f *Feed) say(ctx context.Context, l postgres.Limits, payload string) (p proof, awaited bool, err error) {
	err = postgres.ShortFresh(ctx, f.options.Pool, l, func(b *pgx.Batch) {
		b.Queue(sql.Heartbeat, payload)
		b.Queue(sql.Source, f.options.Node)
		b.Queue(sql.SyncAwaited, f.options.Node)
	}, func(results pgx.BatchResults) error {
		var text, xid string
		if err := results.QueryRow().Scan(nil, &text, nil, &xid); err != nil {
			return err
		}
		if p.xid, err = snapshot.ParseXID(xid); err != nil {
			return err
		}
		if p.snapshot, err = snapshot.Parse(text); err != nil {
			return err
		}
		if err = p.scanSource(results.QueryRow()); err != nil {
			return err
		}
		tag, err := results.Exec()
		awaited = tag.RowsAffected() > 0 // there is a row; which, is asked when it is answered
		return err
	})
	return p, awaited, err
}

// isOurs tells whether a fence is on its way that has this nonce.
func (f *Feed) isOurs(nonce string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ours := f.fences[nonce]
	return ours
}

// Reach sends a fence, and returns when the sink has been told everything that was committed before the call, except what
// comes late (see Sink.CatchingUp).
func (f *Feed) Reach(ctx context.Context) error {
	if !f.Hearing() {
		return errDeaf
	}
	w := f.NewFence()
	if _, _, err := f.say(ctx, reachLimits, w.Payload()); err != nil {
		w.Drop()
		return fmt.Errorf("send a fence: %w", err)
	}
	told := make(chan bool, 1)
	w.Then(func(reached bool) { told <- reached })
	select {
	case reached := <-told:
		if !reached {
			return errDeaf
		}
		return nil
	case <-ctx.Done():
		w.Drop()
		return fmt.Errorf("wait for a fence: %w", context.Cause(ctx))
	}
}

// reachLimits are those of a fence. A commit that notifies waits for all others that do.
var reachLimits = postgres.Limits{Statement: 2 * time.Second, Lock: 2 * time.Second}

var errDeaf = errors.New("the database is not heard")
