package changes

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"rowcast/server/protocol"
)

// Rows that are there come first, for those who ask for them: a snapshot, and then what it does not see.

const (
	// maxReading is how many snapshots are given at a time.
	maxReading = 2
	// heldBytes is how much may wait for a snapshot to be complete.
	heldBytes = 4 << 20
	// maxAnew is how often a snapshot begins anew because more came meanwhile than that.
	maxAnew = 3
)

// reads are the snapshots under way.
type reads struct {
	busy    int
	running sync.WaitGroup
}

// reading is a snapshot that is being given.
type reading struct {
	cancel func()
	held   []held // what was committed meanwhile
	bytes  int
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

// read begins a snapshot: what this view sees comes first. false: not yet, as others are being given theirs.
func (l *loop) read(s *Subscription, view *epoch) bool {
	if l.reads.busy >= maxReading {
		return false
	}
	name, err := view.session.Export(l.ctx)
	if err != nil {
		l.views.drop(view)
		l.retry(l.tries.failed(l, "export a snapshot", err))
		return false
	}
	ctx, cancel := context.WithCancel(l.ctx)
	r := &reading{cancel: cancel}
	s.reading, s.active, s.since = r, true, view.snapshot
	l.reads.busy++
	view.holds++
	job := &readJob{
		Options: l.Options, exported: name, topic: s.Topic, role: s.Role, claims: string(s.Claims), entries: s.Entries,
		imported: sync.OnceFunc(func() { l.mail.post(func() { view.holds-- }) }),
		give:     func(frames []*protocol.Frame) bool { return l.givePage(ctx, s, r, frames) },
	}
	l.reads.running.Go(func() {
		result := job.run(ctx)
		cancel()
		job.imported()
		l.mail.post(func() {
			l.reads.busy--
			l.finishReading(s, r, result)
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
	case result.err != nil:
		l.Logger.Warn("a snapshot could not be given", "err", result.err)
		s.active = false
		l.complain(s, result.why)
		l.later(minRecheck, func() {
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
	s.complete = true
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
