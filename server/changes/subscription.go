package changes

import (
	"log/slog"
	"sync/atomic"

	"rowcast/server/protocol"
	"rowcast/server/snapshot"
	"rowcast/server/wal"
)

// Subscription is one channel's. Its fields belong to the loop, but for what guards itself.
type Subscription struct {
	Subscriber
	engine *Engine
	ended  atomic.Bool
	slow   atomic.Bool // it has not read what it was given, and is not waited for

	round       int  // of the check that counts
	good        bool // the entries are: it has its seats
	waits       bool // it is among those that are ready
	seats       []*seat
	rows        bool // it wants to be told of rows as they were before, of a table with row level security
	partitioned bool // it wants changes of a partitioned table
	active      bool // it is told of what since does not see
	since       snapshot.Snapshot
	announce    bool // "Subscribed to PostgreSQL" is to be said once all is well

	reading  *reading // its snapshot is being given
	partial  bool     // rows of it were given, and it is neither complete nor is it known that it begins again
	complete bool     // that was done
	anew     int      // how often it began anew
	unread   int      // how often it could not be read, in a row
	trouble  notice   // what it was told last of why it is told of nothing
	failures int      // of its check, in a row
	warnings map[warningOf]string
	given    int // bytes since it was last waited for
}

func newSubscription(e *Engine, s Subscriber) *Subscription {
	return &Subscription{engine: e, Subscriber: s, announce: true, warnings: map[warningOf]string{}}
}

// hears tells whether the subscription is to be told of what a transaction did.
func (s *Subscription) hears(x snapshot.XID) bool {
	return s.active && !s.ended.Load() && !s.since.Sees(x)
}

// warn tells something once.
func (s *Subscription) warn(w warningOf, text string) (told bool) {
	if s.warnings[w] == text {
		return false
	}
	s.warnings[w] = text
	s.Member.Notice(protocol.PostgresChangesWithheld, text)
	return true
}

// wantsRows tells whether an entry wants to be told of rows as they were before.
func (e Entry) wantsRows() bool { return e.Events&(Update|Delete) != 0 }

func (l *loop) register(s *Subscription) {
	if s.ended.Load() {
		return
	}
	l.subs[s] = struct{}{}
	l.Metrics.ChangesSubscriptions.Set(float64(len(l.subs)))
	l.startStream()
	l.check(s)
}

// rebind has a subscription judged under other claims at once, and checked.
func (l *loop) rebind(s *Subscription, role string, claims []byte) {
	if s.ended.Load() {
		return
	}
	s.Role, s.Claims, s.announce = role, claims, true
	if s.good {
		s.unseat()
		for _, source := range l.sources {
			l.seatIn(source, s)
		}
		l.dirty = true
	}
	if s.reading != nil { // what it was given so far it was given under another token
		l.stopReading(s)
	}
	l.check(s)
}

func (l *loop) forget(s *Subscription) {
	if _, known := l.subs[s]; !known {
		return
	}
	delete(l.subs, s)
	l.Metrics.ChangesSubscriptions.Set(float64(len(l.subs)))
	l.lower(s)
	if len(l.subs) == 0 {
		l.lingerOn()
	}
}

// raise seats a subscription whose entries are good.
func (l *loop) raise(s *Subscription) {
	s.good = true
	l.seated[s] = struct{}{}
	for _, source := range l.sources {
		l.seatIn(source, s)
	}
	l.dirty = true
}

// lower takes a subscription out of everything.
func (l *loop) lower(s *Subscription) {
	if s.reading != nil {
		l.stopReading(s)
	}
	s.unseat()
	s.good, s.active = false, false
	l.setRows(s, false)
	delete(l.seated, s)
	l.dirty = true
	if !l.keepsViews() && l.batch == nil {
		l.views.settle(0, false)
	}
}

// seatIn seats a subscription where it wants something of a relation.
func (l *loop) seatIn(source *source, s *Subscription) {
	if err := source.add(s); err != nil { // it was checked: the table has changed since
		table := named(Name{source.relation.Schema, source.relation.Name})
		l.say(slog.LevelWarn, table, "a filter does not fit its table any more", "table", table, "err", err)
		l.check(s)
	}
}

// forgetSource forgets a relation: another description takes its place, when there is a change of it.
func (l *loop) forgetSource(r *wal.Relation) {
	source := l.sources[r]
	if source == nil {
		return
	}
	delete(l.sources, r)
	for _, t := range source.tables {
		for _, a := range t.audiences {
			for _, seat := range a.seats {
				seat.sub.leave(t)
			}
		}
	}
	l.dirty = true
}

// leave gives up the subscription's seats at a table that is forgotten.
func (s *Subscription) leave(t *table) {
	kept := s.seats[:0]
	for _, seat := range s.seats {
		if seat.table != t {
			kept = append(kept, seat)
		}
	}
	clear(s.seats[len(kept):])
	s.seats = kept
}

// keepsViews tells whether anybody wants rows as they were before, of a table whose policies decide who saw them.
func (l *loop) keepsViews() bool { return l.rows > 0 }

// setRows counts those who do.
func (l *loop) setRows(s *Subscription, wants bool) {
	if s.rows == wants {
		return
	}
	if s.rows = wants; wants {
		l.rows++
	} else {
		l.rows--
	}
}

// begin has those who are ready told of everything that is committed from now on.
func (l *loop) begin() {
	if !l.stream.up || len(l.ready) == 0 {
		return
	}
	if _, idle := l.inbox.position(); len(l.views.open) >= maxViews-1 && !(idle && l.batch == nil) {
		return // until they are given up: what is still to be judged needs those that there are, and one more
	}
	l.unseen = append(l.unseen, l.inbox.takeRecent()...)
	l.unseen = l.unseen[max(0, len(l.unseen)-recentXIDs):]
	view, err := l.views.add(l.ctx)
	if err != nil {
		l.tellAway(away)
		l.retry(l.tries.failed(l, "open a view", err))
		return
	}
	if !view.seesAll(l.unseen) { // what is not visible yet may not have been wanted when it was read
		l.views.drop(view)
		l.retry(l.tries.invisible(l))
		return
	}
	l.tries.worked(l)
	l.tries.seen()
	l.unseen = nil
	ready := l.ready
	l.ready = nil
	for _, s := range ready {
		s.waits = false
		switch {
		case s.ended.Load() || !s.good || s.active:
		case s.wantsSnapshot() && !l.reads.admits(s):
			l.queue(s)
		case s.wantsSnapshot() && !l.read(s, view):
			l.wait(s)
		default:
			s.active, s.since, s.trouble = true, view.snapshot, notice{}
			l.welcome(s)
		}
	}
	if at, idle := l.inbox.position(); idle && l.batch == nil {
		l.views.settle(at, l.keepsViews())
	} else if !l.keepsViews() && l.batch == nil {
		l.views.settle(0, false)
	}
}

// welcome says that all is well, once.
func (l *loop) welcome(s *Subscription) {
	if s.announce {
		s.announce = false
		s.Member.Notice("", protocol.TextSubscribed)
	}
}

// tellAway tells those who wait why they do, once.
func (l *loop) tellAway(why notice) {
	for s := range l.subs {
		if !s.active {
			l.complain(s, why)
		}
	}
}

// complain tells why somebody is told of nothing, once as long as that is why.
func (l *loop) complain(s *Subscription, why notice) {
	s.announce = true
	if s.trouble != why && !s.ended.Load() {
		s.trouble = why
		s.Member.Notice(why.code, why.text)
	}
}

// wait has a subscription begin as soon as it can.
func (l *loop) wait(s *Subscription) {
	if !s.waits {
		s.waits = true
		l.ready = append(l.ready, s)
	}
}
