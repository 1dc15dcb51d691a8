package changes

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rowcast/server/postgres"
	"rowcast/server/protocol"
)

// Rows that are there come first, for those who ask for them: a snapshot, and then what it does not see.

const (
	// maxReading is how many snapshots are given at a time: each takes a connection. Of these, maxAsking ask the database at a time,
	// and maxReadingEach are one person's.
	maxReading, maxAsking, maxReadingEach = 8, 2, 2
	// maxQueued is how many subscriptions wait for theirs.
	maxQueued = 1000
	// turn is how long one may take while others wait.
	turn = time.Minute
	// heldBytes is how much may wait for a snapshot to be complete.
	heldBytes = 4 << 20
	// maxAnew is how often a snapshot begins anew because more came meanwhile than that.
	maxAnew = 3
)

// reads are the snapshots under way, and who waits for one.
type reads struct {
	under   map[*reading]struct{}
	queue   []*Subscription
	asking  chan struct{} // holds one for each who is asking the database
	timer   *time.Timer   // until it is looked at whose turn is over; nil: nobody waits
	running sync.WaitGroup
}

func (r *reads) init() {
	r.under, r.asking = map[*reading]struct{}{}, make(chan struct{}, maxAsking)
}

// reading is a snapshot that is being given.
type reading struct {
	cancel  func()
	began   time.Time
	person  string
	overdue bool
	held    []held // what was committed meanwhile
	bytes   int
}

// person is who asks for a snapshot, as far as a token tells.
func (s *Subscription) person() string { return s.Role + "\x00" + string(s.Claims) }

// admits tells whether there is a place for somebody's snapshot.
func (r *reads) admits(s *Subscription) bool {
	theirs, person := 0, s.person()
	for other := range r.under {
		if other.person == person {
			theirs++
		}
	}
	return len(r.under) < maxReading && theirs < maxReadingEach
}

// queue has somebody wait for a place. Where no more may wait, somebody gives way of those who have most waiting, and be it he.
func (l *loop) queue(s *Subscription) {
	r := &l.reads
	if len(r.queue) >= maxQueued {
		r.queue = slices.DeleteFunc(r.queue, func(s *Subscription) bool { return s.ended.Load() })
	}
	s.waits = true
	r.queue = append(r.queue, s)
	if len(r.queue) > maxQueued {
		last := r.lastOfMost()
		out := r.queue[last]
		r.queue = slices.Delete(r.queue, last, last+1)
		out.waits = false
		l.lower(out)
		l.complain(out, notice{protocol.PostgresChangesSnapshot, protocol.TextSnapshotBusy})
	}
	l.watchTurns()
}

// lastOfMost is the place of the last who waits of the person of whom most do.
func (r *reads) lastOfMost() (place int) {
	waiting, most := map[string]int{}, 0
	for i, s := range r.queue {
		waiting[s.person()]++
		if n := waiting[s.person()]; n >= most {
			place, most = i, n
		}
	}
	return place
}

// admitQueued has those begin for whom there is a place, in their order.
func (l *loop) admitQueued() {
	r := &l.reads
	free := maxReading - len(r.under)
	kept := r.queue[:0]
	for _, s := range r.queue {
		switch {
		case s.ended.Load():
		case free > 0 && r.admits(s): // should that be one too many of his, he is queued again
			free--
			l.ready = append(l.ready, s)
		default:
			kept = append(kept, s)
		}
	}
	clear(r.queue[len(kept):])
	r.queue = kept
}

// watchTurns ends snapshots that take longer than they may while others wait: the oldest of those in anybody's way.
func (l *loop) watchTurns() {
	r := &l.reads
	if r.timer != nil {
		return
	}
	waiting := map[string]bool{}
	for _, s := range r.queue {
		if !s.ended.Load() {
			waiting[s.person()] = true
		}
	}
	var oldest *reading
	full := len(r.under) >= maxReading && len(waiting) > 0
	for other := range r.under {
		if !other.overdue && (full || waiting[other.person]) && (oldest == nil || other.began.Before(oldest.began)) {
			oldest = other
		}
	}
	if oldest == nil {
		return
	}
	left := l.turn - time.Since(oldest.began)
	if left <= 0 {
		oldest.overdue = true
		oldest.cancel() // and the next is looked at when it has ended
		return
	}
	r.timer = l.later(left, func() {
		r.timer = nil
		l.watchTurns()
	})
}

// held is a change, or a word, that waits until a snapshot is complete.
type held struct {
	frame *protocol.Frame // nil: a word
	word  notice
}

// hold keeps something until the snapshot is complete. If that is too much, all begins again.
func (r *reading) hold(l *loop, s *Subscription, h held, size int) {
	if r.bytes += size; r.bytes <= heldBytes {
		r.held = append(r.held, h)
		return
	}
	if r.held == nil {
		return
	}
	r.held = nil
	l.mail.post(func() { l.beginAnew(s, r) }) // behind the batch
}

// beginAnew has a snapshot given again, because more came meanwhile than may wait.
func (l *loop) beginAnew(s *Subscription, r *reading) {
	if s.reading != r || s.ended.Load() {
		return
	}
	l.stopReading(s)
	l.gap(s, gapExcess)
	s.announce = true
	if s.anew++; s.anew < maxAnew {
		l.wait(s)
		return
	}
	l.lower(s)
	l.complain(s, notice{protocol.PostgresChangesSnapshot, protocol.TextSnapshotOvertaken})
}

// wantsSnapshot tells whether rows that are there are to be given first.
func (s *Subscription) wantsSnapshot() bool {
	return !s.complete && slices.ContainsFunc(s.Entries, func(e Entry) bool { return e.Snapshot })
}

// read begins a snapshot: what this view sees comes first. false: it could not, and is tried again.
func (l *loop) read(s *Subscription, view *epoch) bool {
	name, err := view.session.Export(l.ctx)
	if err != nil {
		l.views.drop(view)
		l.retry(l.tries.failed(l, "export a snapshot", err))
		return false
	}
	if s.partial { // else the rows that he has would be doubled in silence
		l.gap(s, gapAgain)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	r := &reading{cancel: cancel, began: time.Now(), person: s.person()}
	s.reading, s.active, s.since = r, true, view.snapshot
	l.reads.under[r] = struct{}{}
	l.watchTurns()
	view.holds++
	job := &readJob{
		Options: l.Options, exported: name, topic: s.Topic, role: s.Role, claims: string(s.Claims), entries: s.Entries, asking: l.reads.asking,
		imported: sync.OnceFunc(func() { l.mail.post(func() { view.holds-- }) }),
		give:     func(frames []*protocol.Frame) bool { return l.givePage(ctx, s, r, frames) },
	}
	l.reads.running.Go(func() {
		result := job.run(ctx)
		cancel()
		job.imported()
		l.mail.post(func() {
			delete(l.reads.under, r)
			l.finishReading(s, r, result)
			l.admitQueued()
			l.watchTurns()
		})
	})
	return true
}

// givePage has the loop give rows, and waits until the client has read them. false: it is over.
func (l *loop) givePage(ctx context.Context, s *Subscription, r *reading, frames []*protocol.Frame) bool {
	drained := make(chan struct{})
	l.mail.post(func() {
		if s.reading != r || s.ended.Load() {
			r.cancel()
			return
		}
		s.partial = true
		d := newDelivery(l)
		for _, f := range frames {
			if outlet := s.Member.Deliver(f); outlet != nil {
				d.outlets = append(d.outlets, outlet)
			}
		}
		d.flush()
		s.Member.Drained(func() { close(drained) })
	})
	select {
	case <-drained:
		return true
	case <-ctx.Done():
		return false
	}
}

// stopReading gives a snapshot up: it is to begin again.
func (l *loop) stopReading(s *Subscription) {
	s.reading.cancel()
	s.reading, s.active = nil, false
}

// finishReading lets go of what waited for a snapshot, or says why there is none.
func (l *loop) finishReading(s *Subscription, r *reading, result readResult) {
	if s.reading != r || s.ended.Load() {
		return
	}
	s.reading = nil
	switch {
	case r.overdue:
		l.lower(s)
		l.complain(s, notice{protocol.PostgresChangesSnapshot, fmt.Sprintf(protocol.TextSnapshotSlow, l.turn)})
		return
	case result.err != nil:
		l.say(slog.LevelWarn, postgres.SQLState(result.err), "a snapshot could not be given", "err", result.err)
		s.active = false
		l.complain(s, result.why)
		s.unread++
		l.later(backOff(minRecheck, maxRecheck, s.unread-1), func() {
			if s.good && !s.active {
				l.wait(s)
			}
		})
		return
	case result.why != notice{}:
		s.active = false
		l.lower(s)
		l.complain(s, result.why)
		return
	}
	s.complete, s.partial, s.unread = true, false, 0
	if result.gap {
		l.gap(s, gapUndecided)
	}
	s.Member.Notice("", fmt.Sprintf(protocol.TextSnapshotComplete, result.rows))
	d := newDelivery(l)
	for _, h := range r.held {
		if h.frame == nil {
			s.Member.Notice(h.word.code, h.word.text)
			continue
		}
		d.hand(s, h.frame)
		d.relieve()
	}
	d.end()
}
