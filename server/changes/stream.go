package changes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"crypto/rand"

	"github.com/jackc/pgx/v5"

	"rowcast/server/protocol"
	"rowcast/server/wal"
	"rowcast/sql"
)

const (
	// streamName is that of the stream in metrics and the log.
	streamName = "changes"
	// lingerFor is how long the stream outlives the last subscription: a page that is loaded anew subscribes again.
	lingerFor = time.Minute
	// slotPatience is how long a slot may take to be made until it is looked at why, and between looks.
	slotPatience = 2 * time.Second
	// minRestart and maxRestart are between attempts to read the WAL.
	minRestart, maxRestart = 250 * time.Millisecond, 5 * time.Second
	// rareRestart is between attempts to do what somebody has to make possible first.
	rareRestart = time.Minute
)

// streaming is the stream's life, as the loop sees it. While nobody wants it there is none.
type streaming struct {
	cancel   context.CancelFunc // of the goroutine that reads it; nil: none does
	done     chan struct{}      // closed when it has returned
	up       bool               // what is committed from now on is told
	read     bool               // it was up before, and nothing has been missed since
	failures int                // in a row
	trouble  notice             // why there is none, for those who come meanwhile
	told     place
	linger   *time.Timer
	restart  *time.Timer
}

// interest is what anybody wants, as the stream's goroutine sees it. It is never changed: another takes its place.
type interest struct {
	anything bool
	known    map[*wal.Relation]bool // whether somebody wants a relation; the loop finds out about the others
}

type interests struct{ now atomic.Pointer[interest] }

func (i *interests) wants(r *wal.Relation) bool {
	now := i.now.Load()
	if now == nil || !now.anything {
		return false
	}
	wanted, known := now.known[r]
	return wanted || !known
}

// publishInterest tells the stream's goroutine what is wanted.
func (l *loop) publishInterest() {
	if !l.dirty {
		return
	}
	l.dirty = false
	now := &interest{anything: len(l.seated) > 0, known: make(map[*wal.Relation]bool, len(l.sources))}
	for r, s := range l.sources {
		now.known[r] = s.wanted()
	}
	l.interests.now.Store(now)
}

// startStream has the WAL read, unless it is.
func (l *loop) startStream() {
	s := &l.stream
	if s.linger != nil {
		s.linger.Stop()
		s.linger = nil
	}
	if s.cancel != nil || s.restart != nil {
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	s.cancel, s.done = cancel, make(chan struct{})
	o := wal.Options{
		Name: streamName, URL: l.URL, Slot: l.Slot, Durable: l.Slot != "", Again: s.read, After: s.told.done,
		Publication: l.Publication, MaxRow: l.MaxRow, Logger: l.Logger, Metrics: l.Metrics,
	}
	if !o.Durable {
		o.Slot = "rowcast_changes_" + strings.ToLower(rand.Text()[:12])
	}
	in := &intake{ctx: ctx, inbox: &l.inbox, wanted: l.interests.wants, told: s.told, heard: l.heard}
	done := s.done
	go func() {
		defer close(done)
		err := l.publication(ctx)
		if err == nil {
			err = wal.Stream(ctx, o, in, func(wal.LSN) { l.mail.post(l.streamUp) })
		}
		l.inbox.end(&ending{err, in.told})
	}()
	l.later(slotPatience, func() { l.lookForWaiting(done) })
}

// lookForWaiting finds out whether a slot is not made yet because of transactions that were there before, and says so. Who made them
// wait is for the log.
func (l *loop) lookForWaiting(stream chan struct{}) {
	s := &l.stream
	if s.cancel == nil || s.up || s.done != stream || l.ctx.Err() != nil {
		return
	}
	l.checks.running.Go(func() {
		var pids []string
		err := onPool(l.Pool).read(l.ctx, sql.StreamWaits, nil, func(rows pgx.Rows) error {
			var pid string
			err := rows.Scan(&pid)
			pids = append(pids, pid)
			return err
		})
		l.mail.post(func() {
			if s.cancel == nil || s.up || s.done != stream {
				return
			}
			if err != nil || len(pids) == 0 {
				l.later(slotPatience, func() { l.lookForWaiting(stream) })
				return
			}
			l.Logger.Warn("the replication slot is made when transactions have ended that were there before", "backends", strings.Join(pids, ", "))
			s.trouble = slotWaits
			l.tellAway(slotWaits)
		})
	})
}

// publication makes it if it is missing: without one nothing can be read.
func (l *loop) publication(ctx context.Context) error {
	there, err := readPublication(ctx, onPool(l.Pool), l.Publication)
	if err != nil || there != nil {
		return err
	}
	if err := makePublication(ctx, l.Pool, l.Publication); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrNoPublication, err)
	}
	return nil
}

// ending is the last that is heard of a stream: why it ended, and what it had told.
type ending struct {
	err  error
	told place
}

func (l *loop) streamUp() {
	if l.stream.cancel == nil {
		return
	}
	l.stream.up, l.stream.read, l.stream.trouble = true, true, notice{}
	if l.stream.failures > 0 {
		l.stream.failures = 0
		l.Logger.Info("the WAL is read again")
	}
	l.wake()
}

// streamEnded is told when all that the stream had said is worked off.
func (l *loop) streamEnded(e *ending) {
	s := &l.stream
	s.cancel()
	<-s.done
	s.cancel, s.up, s.told = nil, false, e.told
	if l.ctx.Err() != nil || len(l.subs) == 0 {
		return
	}
	if errors.Is(e.err, wal.ErrSlotLost) || l.Slot == "" {
		s.read = false
		l.gapForAll(gapStream)
	}
	delay := backOff(minRestart, maxRestart, s.failures)
	why := away
	if mend, rare := l.mendOf(e.err); rare {
		delay, why = rareRestart, mend
	}
	if s.failures == 0 {
		l.Logger.Warn("the WAL is not read any more", "err", e.err, "again_in", delay)
	}
	s.failures++
	if s.failures > 1 || delay == rareRestart { // the first time it is at once back, as a rule
		s.trouble = why
		l.tellAway(why)
	}
	s.restart = l.later(delay, func() {
		s.restart = nil
		if len(l.subs) > 0 {
			l.startStream()
		}
	})
}

// mendOf is what clients are told of an error that lasts until somebody mends it.
func (l *loop) mendOf(err error) (why notice, rare bool) {
	for _, known := range []error{wal.ErrNotLogical, wal.ErrNoReplication, wal.ErrNoSlot, wal.ErrNoPublication, wal.ErrSynchronous} {
		if errors.Is(err, known) {
			return notice{protocol.PostgresChangesUnavailable, fmt.Sprintf(protocol.TextChangesUnreadable, err)}, true
		}
	}
	return notice{}, false
}

// lingerOn gives the stream up if nobody comes for a while.
func (l *loop) lingerOn() {
	s := &l.stream
	if s.linger != nil {
		return
	}
	s.linger = l.later(l.lingerFor, func() {
		s.linger = nil
		if len(l.subs) == 0 {
			l.stopStream()
		}
	})
}

// stopStream ends the stream and all that is open in the database.
func (l *loop) stopStream() {
	s := &l.stream
	for _, timer := range []*time.Timer{s.linger, s.restart} {
		if timer != nil {
			timer.Stop()
		}
	}
	s.linger, s.restart, s.read = nil, nil, false
	if s.cancel != nil {
		s.cancel()
		<-s.done
		s.cancel, s.up = nil, false
	}
	l.inbox.clear()
	l.views.closeAll()
	l.batch = nil
	clear(l.sources)
	if l.Slot == "" {
		s.told = place{}
	}
}
