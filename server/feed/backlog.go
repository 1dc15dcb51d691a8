package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// backlog is what was committed while nobody listened. It is told when the new connection is proven to hear, a piece at a
// time between its notifications: these are told at once, except messages, which would overtake; they are told when the
// backlog has been.
//
// It is told in the order of sending, so that what a sender could see comes before what he sent. An outage in the middle of
// it makes it two: to the end of the first, in which it goes on where it was, and from there.
type backlog struct {
	parts   []part
	history history
	missed  []wanted // of the page read last: to be told
	late    []wanted // heard meanwhile
	told    int

	wait    time.Duration // after an attempt that failed; 0: it did not
	due     time.Time     // when the next is made
	patient time.Time     // until when the sink is waited for

	dropped bool // not all of it is there any more, and that was said
}

// part is what one snapshot sees and another does not.
type part struct {
	from, to snapshot.Snapshot
	after    int64 // the next page begins behind this place in the journal
	last     int64 // the last place
	ranged   bool  // last is known
}

// partsSince is what was missed since a moment.
func partsSince(from moment, to snapshot.Snapshot) []part {
	if from.to.IsZero() {
		return []part{{from: from.snapshot, to: to}}
	}
	return []part{{from: from.snapshot, to: from.to, after: from.place}, {from: from.to, to: to}}
}

// cursor is a place among marks, which are sorted by transaction and aim.
type cursor struct {
	xid   snapshot.XID
	place string
}

const (
	// pageSize is how many entries are looked at in one go; few of them may have been missed.
	pageSize = 2000
	// rangeTime is for finding out where the entries lie that were missed, once in an outage: millions take seconds.
	rangeTime = 30 * time.Second
	// maxMissedMarks is how many different marks are told. Beyond, one that means everyone says it all.
	maxMissedMarks = 10_000
)

const (
	// settleTime is how long the backlog waits for those who are decided again, and settleEvery how often that is looked
	// at. Who is not decided by then is given as much as may wait for him.
	settleTime, settleEvery = 5 * time.Second, 5 * time.Millisecond
)

var errElsewhere = errors.New("LISTEN_DATABASE_URL and DATABASE_URL lead to different servers")

// catchUp finds out what was missed before a connection was made, and tells at once what rights may have changed. false:
// the connection was lost again meanwhile.
func (f *Feed) catchUp(ctx context.Context, at *found) bool {
	if len(f.seen.moments) == 0 {
		f.seen.begin(at.position, time.Now())
		return true
	}
	from, same, err := f.seen.resume(at.position)
	if !same {
		f.options.Sink.Rewound(from.snapshot)
	}
	f.options.Sink.CatchingUp()
	if err != nil {
		f.missed(err.Error())
		f.seen.begin(at.position, time.Now())
		f.options.Sink.CaughtUp()
		return true
	}
	b := &backlog{parts: partsSince(from, at.snapshot), history: at.history}
	var marks missedMarks
	for next, more := (cursor{xid: from.snapshot.Oldest()}), true; more && !marks.everyone; {
		if !f.insist(ctx, at.losses, func() (err error) {
			next, more, err = f.missedMarks(ctx, b, part{from: from.snapshot, to: at.snapshot}, next, &marks)
			return err
		}) {
			return false
		}
	}
	marks.tell(f.options.Sink)
	f.options.Metrics.FeedCaughtUp.WithLabelValues(hintMark.String()).Add(float64(len(marks.set)))
	for after, more := (wanted{entry: entry{xid: from.snapshot.Oldest()}}), true; more; {
		if !f.insist(ctx, at.losses, func() (err error) {
			after, more, err = f.missedDisconnects(ctx, b, part{from: from.snapshot, to: at.snapshot}, after)
			return err
		}) {
			return false
		}
	}
	f.backlog = b
	return true
}

// aim is whom a mark of an outage means.
type aim struct {
	xid            snapshot.XID
	subject, topic string
}

// missedMarks are different ones, in few words: beyond a bound without their transactions, and at last without their aim.
type missedMarks struct {
	set       map[aim]struct{}
	anonymous bool
	everyone  bool
}

func (s *missedMarks) add(m aim) {
	if s.everyone {
		return
	}
	if s.anonymous {
		m.xid = 0
	}
	if s.set == nil {
		s.set = map[aim]struct{}{}
	}
	s.set[m] = struct{}{}
	if len(s.set) <= maxMissedMarks {
		return
	}
	if s.anonymous {
		*s = missedMarks{set: map[aim]struct{}{{}: {}}, everyone: true}
		return
	}
	named := s.set
	*s = missedMarks{anonymous: true}
	for m := range named {
		s.add(m)
	}
}

func (s *missedMarks) tell(sink Sink) {
	for m := range s.set {
		sink.Mark(Mark{XID: m.xid, Subject: m.subject, Topic: m.topic})
	}
}

// insist tries until it succeeds, or until the connection is lost for whose sake it is tried.
func (f *Feed) insist(ctx context.Context, losses uint64, try func() error) bool {
	said := ""
	for wait := firstWait; !f.lostSince(losses); wait = min(2*wait, maxWait) {
		err := try()
		if err == nil {
			return f.excuse(losses)
		}
		if said != err.Error() && ctx.Err() == nil { // the same trouble once
			said = err.Error()
			f.options.Logger.Warn("what was missed is not known yet; trying again", "err", err)
		}
		if !waitFor(ctx, wait) {
			return false
		}
	}
	return false
}

func (f *Feed) lostSince(losses uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.losses != losses
}

// excuse gives the connection in use more time: what it said, and that may be heartbeats, is not looked at before the marks
// have been read. false: it is lost.
func (f *Feed) excuse(losses uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.losses != losses {
		return false
	}
	if !f.since.IsZero() {
		f.since = time.Now()
	}
	return true
}

// missed says that something was said which nobody can find out any more.
func (f *Feed) missed(reason string) {
	f.options.Metrics.FeedMissed.WithLabelValues(reason).Inc()
	f.options.Logger.Error("what was committed while the database was not heard cannot be caught up; members are told", "reason", reason)
	f.options.Sink.Missed()
}

// tellBacklog tells a piece of the backlog, if there is one and it is time.
func (f *Feed) tellBacklog(ctx context.Context) {
	b, now := f.backlog, time.Now()
	if b == nil || now.Before(b.due) {
		return
	}
	if b.patient.IsZero() && f.Hearing() {
		b.patient = now.Add(settleTime)
	}
	switch {
	case b.patient.IsZero(), now.Before(b.patient) && !f.options.Sink.Settled():
		b.due = now.Add(settleEvery)
	case len(b.missed) > 0:
		n := min(len(b.missed), maxFetch)
		f.messages(ctx, b.missed[:n])
		b.missed = b.missed[n:]
		b.told += n
		f.options.Metrics.FeedCaughtUp.WithLabelValues(hintMessage.String()).Add(float64(n))
	case len(b.parts) > 0:
		f.readOn(ctx, b)
	case len(b.late) > 0:
		n := min(len(b.late), maxFetch)
		f.messages(ctx, f.news(b.late[:n]))
		b.late = b.late[n:]
	case !f.tellStragglers(ctx): // the connection was lost, and whoever says so is on the way
		b.due = now.Add(firstWait)
	default:
		f.backlog = nil
		f.options.Logger.Info("caught up with what was not heard", "messages", b.told)
		f.options.Sink.CaughtUp()
	}
}

// readOn reads the next page. All before it has been told.
func (f *Feed) readOn(ctx context.Context, b *backlog) {
	p := &b.parts[0]
	var missed []wanted
	last, err := p.after, error(nil)
	if !p.ranged {
		err = f.findRange(ctx, b, p)
	} else if p.after < p.last {
		missed, last, err = f.missedMessages(ctx, b, p)
	}
	if err != nil {
		if b.wait == 0 && ctx.Err() == nil {
			f.options.Logger.Warn("what was missed cannot be read; trying again", "err", err)
		}
		b.wait = min(max(2*b.wait, firstWait), maxWait)
		b.due = time.Now().Add(b.wait)
		return
	}
	b.wait = 0
	switch {
	case !p.ranged:
		p.ranged = true
	case last == p.after: // nothing follows
		f.seen.advance(p.to, time.Now())
		b.parts = b.parts[1:]
	default:
		f.seen.reach(moment{snapshot: p.from, to: p.to, place: p.after, at: time.Now()})
		b.missed, p.after = missed, last
	}
}

// findRange finds the places between which all lies that is missing: transactions that last have entries far back.
func (f *Feed) findRange(ctx context.Context, b *backlog, p *part) error {
	limits := f.options.fetchLimits
	limits.Statement = max(limits.Statement, rangeTime)
	return f.ask(ctx, b.history, limits, func(batch *pgx.Batch) {
		batch.Queue(sql.MissedRange, p.from.String(), p.to.String())
	}, func(results pgx.BatchResults) error {
		var first, last *int64
		if err := results.QueryRow().Scan(&first, &last); err != nil || last == nil {
			return err
		}
		p.after, p.last = max(p.after, *first-1), *last
		return nil
	})
}

// missedMarks adds a page of the marks that were missed, and returns the last one looked at. Those that are known to have
// been heard are no news.
func (f *Feed) missedMarks(ctx context.Context, b *backlog, p part, after cursor, marks *missedMarks) (last cursor, more bool, err error) {
	last = after
	err = f.page(ctx, b, p, sql.MissedMarks, []any{strconv.FormatUint(uint64(after.xid), 10), after.place, pageSize}, func(rows pgx.Rows) error {
		var m Mark
		var xid, place, text string
		var missed bool
		_, err := pgx.ForEachRow(rows, []any{&xid, &place, &missed, &m.Subject, &m.Topic, &text}, func() (err error) {
			if m.XID, err = snapshot.ParseXID(xid); err != nil {
				return err
			}
			last = cursor{m.XID, place}
			t, err := parseToken(text)
			if missed && err == nil && !f.seen.heard(t, m) {
				marks.add(aim{m.XID, m.Subject, m.Topic})
			}
			return err
		})
		return err
	})
	return last, last != after, err
}

// missedMessages is the next page of the journal: what was missed, and the last place looked at.
func (f *Feed) missedMessages(ctx context.Context, b *backlog, p *part) (list []wanted, last int64, err error) {
	last = p.after
	err = f.page(ctx, b, *p, sql.MissedMessages, []any{p.after, p.last, pageSize}, func(rows pgx.Rows) error {
		var xid, text string
		var missed bool
		_, err := pgx.ForEachRow(rows, []any{&xid, &last, &missed, &text}, func() error {
			x, err := snapshot.ParseXID(xid)
			if err != nil {
				return err
			}
			t, err := parseToken(text)
			if w := (wanted{entry{x, last}, t}); missed && err == nil && !f.seen.has(w) {
				list = append(list, w)
			}
			return err
		})
		return err
	})
	return list, last, err
}

// page asks for what follows a place, and whether something that does was dropped.
func (f *Feed) page(ctx context.Context, b *backlog, p part, query string, args []any, each func(pgx.Rows) error) error {
	var dropped bool
	err := f.ask(ctx, b.history, f.options.fetchLimits, func(batch *pgx.Batch) {
		batch.Queue(sql.Dropped, p.from.String())
		batch.Queue(query, append([]any{p.from.String(), p.to.String()}, args...)...)
	}, func(results pgx.BatchResults) error {
		if err := results.QueryRow().Scan(&dropped); err != nil {
			return err
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		return each(rows)
	})
	if err == nil && dropped && !b.dropped {
		b.dropped = true
		f.missed("dropped")
	}
	return err
}

// ask puts questions to the server that is listened to, and to no other.
func (f *Feed) ask(ctx context.Context, h history, l postgres.Limits, fill func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	return postgres.Short(ctx, f.options.Pool, l, false,
		func(batch *pgx.Batch) {
			batch.Queue(sql.Horizon)
			fill(batch)
		},
		func(results pgx.BatchResults) error {
			at, err := scanPosition(results.QueryRow())
			if err != nil {
				return err
			}
			if at.history != h {
				return errElsewhere
			}
			return read(results)
		})
}

// scanPosition reads the answer to sql.Horizon.
func scanPosition(row pgx.Row) (at position, err error) {
	var seen string
	if err = row.Scan(&seen, &at.history.database, &at.history.timeline, &at.history.started, &at.processes); err != nil {
		return at, fmt.Errorf("ask for the horizon: %w", err)
	}
	at.snapshot, err = snapshot.Parse(seen)
	return at, err
}
