package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/server/wal"
	"rowcast/sql"
)

const (
	// A stream that was lost is tried again after firstRetry; one that was behind, or never led, after twice as long each
	// time, up to maxRetry, until one has lasted for so long.
	firstRetry, maxRetry = 5 * time.Second, 5 * time.Minute
	// A slot is made when every transaction has ended that has an id by then. slotNotice is when it is said that this is waited
	// for, and slotPatience when it is given up, until the next try.
	slotNotice, slotPatience = 5 * time.Second, time.Minute
	// warmUp is how long a stream that does not lead may be behind, and how long everybody says everything by both for its sake.
	warmUp = time.Minute
)

// givenUp is a stream that the feed ended itself.
type givenUp struct{ reason string }

func (e givenUp) Error() string { return "the stream of the WAL was given up: " + e.reason }

// hearer is what a stream tells.
type hearer struct {
	feed   *Feed
	stream int
	xid    snapshot.XID
}

// Begin widens the transaction's id.
func (h *hearer) Begin(b wal.Begin) {
	h.feed.mu.Lock()
	defer h.feed.mu.Unlock()
	h.xid = snapshot.Widen(b.XID, h.feed.known)
}

// Message hears a hint. Anyone can say one, but only what its own transaction did.
func (h *hearer) Message(m wal.Message) {
	if !m.Transactional { // it may be rolled back, and has no place
		h.feed.options.Metrics.FeedIgnored.WithLabelValues("not_transactional").Inc()
		return
	}
	said, err := h.feed.read(string(m.Content), "wal")
	if err != nil {
		return
	}
	if x := said.transaction(); said.kind != hintFence && x != h.xid { // it would be waited for
		h.feed.options.Metrics.FeedIgnored.WithLabelValues("foreign_transaction").Inc()
		return
	}
	said.stream, said.xid = h.stream, h.xid
	h.feed.put(said)
}

// transaction is the one that a hint names.
func (h hint) transaction() snapshot.XID {
	if h.kind == hintMark {
		return h.mark.XID
	}
	return h.entry.xid
}

// Change and the others say nothing: the publication has no tables.
func (h *hearer) Change(wal.Change)     {}
func (h *hearer) Truncate(wal.Truncate) {}
func (h *hearer) Commit()               {}
func (h *hearer) Reached(wal.LSN)       {}

// streams reads one stream after the other, while this server serves.
func (f *Feed) streams(ctx context.Context) {
	said := ""
	for wait := f.options.StreamRetry; f.awaitServing(ctx); {
		began := time.Now()
		err := f.readStream(ctx)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		f.streamTrouble = err
		led := f.led
		f.mu.Unlock()
		if led && err != error(givenUp{"behind"}) || time.Since(began) > maxRetry {
			wait = f.options.StreamRetry
		}
		level := slog.LevelWarn
		if errors.Is(err, wal.ErrNotLogical) || errors.Is(err, wal.ErrNoReplication) { // it may be meant so
			level, wait = slog.LevelInfo, maxRetry
		}
		if said != err.Error() { // the same trouble once
			said = err.Error()
			f.options.Logger.Log(ctx, level, "the WAL is not heard; messages go by NOTIFY", "err", err)
		}
		if !waitFor(ctx, wait) {
			return
		}
		wait = min(2*wait, maxRetry)
	}
}

// awaitServing waits until this server serves and hears; false: ctx ended.
func (f *Feed) awaitServing(ctx context.Context) bool {
	for {
		f.mu.Lock()
		ready := f.serving && f.hearing
		f.mu.Unlock()
		if ready || !waitFor(ctx, f.options.Heartbeat) {
			return ready
		}
	}
}

// readStream reads a stream until it is lost, or given up.
func (f *Feed) readStream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	f.mu.Lock()
	f.stream++
	number := f.stream
	f.endStream, f.streamed, f.streaming, f.doubled, f.led = cancel, time.Time{}, time.Time{}, time.Time{}, false
	f.mu.Unlock()
	watching.Go(func() { f.watchStream(ctx) })
	err := f.options.Stream(ctx, &hearer{feed: f, stream: number}, func() {
		f.mu.Lock()
		f.streaming, f.streamTrouble = time.Now(), nil
		f.mu.Unlock()
		f.put(hint{kind: hintStreamUp, stream: number})
	})
	f.put(hint{kind: hintStreamLost, stream: number, reason: "stream_lost"})
	var ours givenUp
	if errors.As(context.Cause(ctx), &ours) {
		return ours
	}
	return err
}

// giveUpStream ends the stream. Nothing that it says is heard from here on.
func (f *Feed) giveUpStream(reason string) {
	f.mu.Lock()
	f.giveUpStreamLocked(reason)
	f.mu.Unlock()
	f.nudge()
}

func (f *Feed) giveUpStreamLocked(reason string) {
	f.endStream(givenUp{reason})
	f.inbox = append(f.inbox, hint{kind: hintStreamLost, stream: f.stream, reason: reason})
	f.stream++
}

// watchStream gives a stream up that says nothing, or is far behind: everything that is written is decoded in order, and a bulk
// load may take it seconds. NOTIFY, whose heartbeats come back meanwhile, takes over.
func (f *Feed) watchStream(ctx context.Context) {
	began, noticed := time.Now(), false
	tick := time.NewTicker(min(f.options.Heartbeat, f.options.DeafAfter/8))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		f.mu.Lock()
		leads, up, doubled, heard, alarmed := f.leads, f.streaming, f.doubled, f.streamed, f.alarmed
		f.mu.Unlock()
		switch late := time.Since(heard); {
		case up.IsZero() && time.Since(began) > slotPatience:
			f.giveUpStream("slot_waits")
		case up.IsZero() && !noticed && time.Since(began) > slotNotice:
			noticed = true
			f.noticeWaiting(ctx)
		case up.IsZero():
		case !leads && !doubled.IsZero() && time.Since(doubled) > f.options.warmUp: // somebody of before does not end, and everybody pays for both
			f.giveUpStream("others_wait")
		case !leads && time.Since(latest(up, heard)) < f.options.warmUp:
		case !leads:
			f.giveUpStream("silent")
		case late > f.options.DeafAfter:
			f.giveUpStream("silent")
		case late > f.options.DeafAfter/2 && alarmed.After(heard):
			f.giveUpStream("behind")
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// noticeWaiting says what the slot waits for.
func (f *Feed) noticeWaiting(ctx context.Context) {
	pids, err := postgres.Ask(ctx, f.options.Pool, f.options.fetchLimits, pgx.RowTo[string], sql.StreamWaits)
	if err != nil || len(pids) == 0 {
		return
	}
	waiting := fmt.Errorf("the replication slot is made when transactions have ended that were there before: of backends %s", strings.Join(pids, ", "))
	f.mu.Lock()
	f.streamTrouble = waiting
	f.mu.Unlock()
	f.options.Logger.Warn("the WAL is not heard yet", "err", waiting)
}

// heartbeatHeard notes when the last of our own heartbeats was sent that has come by NOTIFY, or by the stream: of one that leads,
// that has been told.
func (f *Feed) heartbeatHeard(nonce string, last *time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sent, ours := f.beaten[nonce]; ours {
		*last = latest(*last, sent)
	}
}

// ByWAL tells whether messages are heard by the WAL, or why they are not.
func (f *Feed) ByWAL() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.leads:
		return nil
	case f.streamTrouble != nil:
		return f.streamTrouble
	}
	return errNotYet
}

var errNotYet = errors.New("the WAL is not heard yet")
