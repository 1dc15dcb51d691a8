package feed

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// flow is the stream of the WAL as the work loop knows it. First NOTIFY leads: it says everything, and the stream is not told.
// When both say everything, a heartbeat is the cut: transactions that say something by both are in one order, since they take
// a lock for NOTIFY which they hold through their COMMIT. Up to the cut NOTIFY is told, and behind it the stream. From then
// on it leads, and what NOTIFY says is an alarm.
type flow struct {
	number  int               // of the stream that is read; 0: none
	both    snapshot.Snapshot // who does not say everything by both had ended then, or is among those before; zero: nobody need say it so
	before  []snapshot.XID    // they were running
	set     time.Time         // since when they are to
	leads   bool
	sure    bool              // and nothing was said by the WAL alone before it did
	cut     string            // the last heartbeat behind which it is to lead, or the one behind which it does
	begun   bool              // the stream has said that
	waiting []hint            // for their transactions to be visible
	bytes   int               // of these
	look    snapshot.Snapshot // the last
	pause   time.Duration     // until the next
	due     time.Time
	said    string // the last trouble
}

// The stream shows a commit before others see it: for less than a millisecond, or tens under load, or as long as a synchronous
// standby is away.
const firstLook, maxLook = 300 * time.Microsecond, 5 * time.Millisecond

// flows takes what a stream says.
func (f *Feed) flows(ctx context.Context, h hint) {
	s := &f.flow
	switch {
	case h.kind == hintStreamUp:
		*s, f.wasted = flow{number: h.stream}, time.Time{}
	case h.stream != s.number: // it was given up
	case h.kind == hintStreamLost:
		led := s.leads
		*s = flow{}
		if led {
			f.turnBack(ctx, h.reason)
		}
	case h.kind == hintFence && h.nonce == s.cut && !s.begun: // once: by now everybody knows it
		f.heartbeatHeard(h.nonce, &f.streamed)
		s.begun, s.waiting, s.bytes = true, nil, 0
	case s.begun:
		s.waiting = append(s.waiting, h)
		if s.bytes += h.size(); s.bytes > maxInbox {
			f.giveUpStream("overflow")
		}
	case h.kind == hintFence:
		f.heartbeatHeard(h.nonce, &f.streamed)
	}
}

// approach does the next thing for the stream to lead, when a heartbeat has come back.
func (f *Feed) approach(ctx context.Context, p *proof) {
	s := &f.flow
	switch {
	case !p.serves:
	case s.number == 0:
		f.spare(ctx, p)
	case s.leads && (p.source.way == wayBoth || !s.sure):
		if _, ok := f.changeWay(ctx, wayWAL); ok {
			s.sure = true
		}
	case s.leads, f.backlog != nil, len(f.stragglers) > 0, !f.Hearing():
	case s.both.IsZero(), p.source.notifies != f.source.notifies:
		s.both = snapshot.Snapshot{}
		if c, ok := f.changeWay(ctx, wayBoth); ok {
			s.both, s.before, s.set = c.snapshot, c.running, time.Now()
			f.mu.Lock()
			f.doubled = s.set
			f.mu.Unlock()
			go f.sendBeat(ctx, f.NewFence())
		}
	case !p.snapshot.SeesAll(s.before), p.snapshot.OlderThan(s.both): // somebody of before may say less
	case f.streamHeard().Before(s.set), f.oldestFence().Before(s.set):
	default:
		w := f.NewFence()
		s.cut, s.begun, s.waiting, s.bytes = w.nonce, false, nil, 0 // before anybody can say it
		go f.sendBeat(ctx, w)
	}
}

// spare has nobody pay for both ways any more where for a while nobody has heard the WAL. Another server that comes to needs less.
func (f *Feed) spare(ctx context.Context, p *proof) {
	switch {
	case p.source.way != wayBoth, p.others:
		f.wasted = time.Time{}
	case f.wasted.IsZero():
		f.wasted = time.Now()
	case time.Since(f.wasted) > f.options.warmUp:
		if _, ok := f.changeWay(ctx, wayNotify); ok {
			f.wasted = time.Time{}
		}
	}
}

// changeWay has this server hear by another way, if the database can be asked now.
func (f *Feed) changeWay(ctx context.Context, by way) (changed, bool) {
	c, err := f.hearBy(ctx, by)
	if err != nil {
		if f.flow.said != err.Error() && ctx.Err() == nil {
			f.flow.said = err.Error()
			f.options.Logger.Warn("the way of messages is not changed; trying again", "way", by, "err", err)
		}
		return c, false
	}
	missed := c.before.wals != f.source.wals
	if f.flow.leads {
		missed = missed && !f.flow.sure || c.now.notifies != f.source.notifies
	}
	if missed || !c.serves { // of what was not heard the next proof tells
		return c, false
	}
	f.source = c.now
	return c, true
}

// turn has the stream lead: NOTIFY has said the cut.
func (f *Feed) turn() {
	f.flow.leads = true
	f.mu.Lock()
	f.leads, f.led, f.streamed = true, true, time.Now()
	f.mu.Unlock()
	f.options.Metrics.FeedSource.WithLabelValues("notify").Set(0)
	f.options.Metrics.FeedSource.WithLabelValues("wal").Set(1)
	f.options.Metrics.FeedSwitches.WithLabelValues("stream_heard").Inc()
	f.options.Logger.Info("messages are heard by the WAL")
}

// turnBack has NOTIFY lead: what the stream has not told is caught up.
func (f *Feed) turnBack(ctx context.Context, reason string) {
	f.flow = flow{number: f.flow.number}
	f.mu.Lock()
	f.leads = false
	f.epoch++
	f.lease.end()
	if !f.since.IsZero() {
		f.since = time.Now()
	}
	f.mu.Unlock()
	f.options.Metrics.FeedSource.WithLabelValues("notify").Set(1)
	f.options.Metrics.FeedSource.WithLabelValues("wal").Set(0)
	f.options.Metrics.FeedSwitches.WithLabelValues(reason).Inc()
	f.options.Logger.Warn("messages are heard by NOTIFY", "reason", reason)
	f.again(ctx)
}

// tellFlow tells a piece of what the stream has said, if it leads: as far as its transactions are visible.
func (f *Feed) tellFlow(ctx context.Context) {
	s := &f.flow
	if !s.tells() || time.Now().Before(s.due) {
		return
	}
	n := s.visible()
	if n == 0 {
		seen, err := f.lookNow(ctx)
		if err != nil {
			s.wait(err, f, ctx)
			return
		}
		s.look, s.said = seen, ""
		n = s.visible()
	}
	if n == 0 {
		s.pause = min(max(2*s.pause, firstLook), maxLook)
		s.due = time.Now().Add(s.pause)
		return
	}
	s.pause, s.due = 0, time.Time{}
	piece := s.waiting[:n]
	s.waiting = s.waiting[n:]
	for _, h := range piece {
		s.bytes -= h.size()
	}
	for len(piece) > 0 && ctx.Err() == nil {
		switch h := piece[0]; h.kind {
		case hintMessage, hintDisconnect:
			list := ahead(piece)
			piece = piece[len(list):]
			if h.kind == hintMessage {
				f.messages(ctx, f.news(list))
			} else {
				f.disconnects(ctx, f.news(list))
			}
			continue
		case hintMark:
			f.options.Sink.Mark(h.mark)
			f.seen.hear(h.token, h.mark)
		case hintFence:
			f.heartbeatHeard(h.nonce, &f.streamed)
			f.reached(h.nonce)
		}
		piece = piece[1:]
	}
}

// wait puts the next look off because the database does not answer.
func (s *flow) wait(err error, f *Feed, ctx context.Context) {
	if s.said != err.Error() && ctx.Err() == nil {
		s.said = err.Error()
		f.options.Logger.Warn("not known what is committed; trying again", "err", err)
	}
	s.pause = min(max(2*s.pause, firstWait), maxWait)
	s.due = time.Now().Add(s.pause)
}

// tells tells whether something waits that is to be told.
func (s *flow) tells() bool { return s.leads && s.begun && len(s.waiting) > 0 }

// visible is how many of those that wait can be told. A fence says that what is before it was.
func (s *flow) visible() (n int) {
	for n < min(len(s.waiting), maxFetch) && (s.waiting[n].kind == hintFence || s.look.Sees(s.waiting[n].xid)) {
		n++
	}
	return n
}

// lookNow asks what is committed.
func (f *Feed) lookNow(ctx context.Context) (seen snapshot.Snapshot, err error) {
	texts, err := postgres.Ask(ctx, f.options.Pool, f.options.fetchLimits, pgx.RowTo[string], sql.Snapshot)
	if err != nil {
		return seen, err
	}
	if seen, err = snapshot.Parse(texts[0]); err == nil {
		f.know(seen)
	}
	return seen, err
}

// know keeps a snapshot by which short transaction ids are widened.
func (f *Feed) know(s snapshot.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.OlderThan(s) {
		f.known = s
	}
}

// streamHeard is when the last heartbeat was sent that came by the stream.
func (f *Feed) streamHeard() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.streamed
}

// oldestFence is when the oldest of those was sent that are on their way.
func (f *Feed) oldestFence() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := time.Now()
	for _, w := range f.fences {
		if w.sent.Before(oldest) {
			oldest = w.sent
		}
	}
	return oldest
}
