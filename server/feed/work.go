package feed

import (
	"context"
	"time"

	"rowcast/server/snapshot"
)

// put appends a hint; called on the sources' read loops.
func (f *Feed) put(h hint) {
	f.mu.Lock()
	switch {
	case h.kind == hintConnected:
		f.overflow = false
		f.inbox = append(f.inbox, h)
	case f.overflow && h.kind < hintProven && h.stream == 0: // until there is a connection again, nothing that it says has a place
	case h.stream > 0 && h.stream != f.stream && h.kind < hintProven: // it was given up
	case f.bytes+h.size() > maxInbox && h.kind < hintProven && h.stream > 0:
		f.giveUpStreamLocked("overflow")
	case f.bytes+h.size() > maxInbox && h.kind < hintProven:
		f.overrun()
		f.inbox = append(f.inbox, hint{kind: hintLost})
	default:
		f.inbox = append(f.inbox, h)
		f.bytes += h.size()
	}
	f.mu.Unlock()
	f.nudge()
}

// nudge has the work loop look into the inbox.
func (f *Feed) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// work tells the sink, in order.
func (f *Feed) work(ctx context.Context) {
	for {
		var more <-chan time.Time
		switch {
		case f.backlog != nil:
			more = time.After(time.Until(f.backlog.due))
		case f.flow.tells(): // never both
			more = time.After(time.Until(f.flow.due))
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		case <-more:
		}
		f.mu.Lock()
		batch := f.inbox
		f.inbox, f.bytes = nil, 0
		f.mu.Unlock()
		f.apply(ctx, batch)
		f.tellBacklog(ctx)
		f.tellFlow(ctx)
	}
}

func (f *Feed) apply(ctx context.Context, batch []hint) {
	for len(batch) > 0 && ctx.Err() == nil {
		h := batch[0]
		if h.stream > 0 {
			f.flows(ctx, h)
			batch = batch[1:]
			continue
		}
		if f.behind && h.kind < hintProven {
			batch = batch[1:]
			continue
		}
		switch h.kind {
		case hintMessage:
			list := ahead(batch)
			f.hearMessages(ctx, list)
			batch = batch[len(list):]
			continue
		case hintDisconnect:
			list := ahead(batch)
			f.disconnects(ctx, f.news(list))
			batch = batch[len(list):]
			continue
		case hintMark:
			f.hearMark(ctx, h)
		case hintFence:
			f.hearFence(ctx, h.nonce)
		case hintProven:
			f.proven(ctx, h.proof)
		case hintLost:
			if !f.flow.leads {
				f.lose()
			}
		case hintAgain:
			if f.trying = false; f.behind && !f.flow.leads {
				f.again(ctx)
			}
		case hintConnected:
			f.place = h.found
			if !f.flow.leads { // else NOTIFY has nothing to say but alarms
				f.again(ctx)
			}
		}
		batch = batch[1:]
	}
}

// hearMessages tells what NOTIFY says, where the stream does not say it too.
func (f *Feed) hearMessages(ctx context.Context, list []wanted) {
	if f.flow.leads {
		f.options.Metrics.FeedIgnored.WithLabelValues("said_by_wal").Add(float64(len(list)))
		return
	}
	list, some := f.withoutStragglers(list)
	if f.backlog != nil {
		f.keepWaiting(list)
		return
	}
	f.messages(ctx, f.news(list))
	if some {
		f.tellStragglers(ctx)
	}
}

// hearMark tells a mark that NOTIFY says. While the stream leads, that will say it in its order. Until then nobody whom it
// concerns is given anything; but what lies between belongs before the mark, so that it is lenient.
func (f *Feed) hearMark(ctx context.Context, h hint) {
	m := h.mark
	switch {
	case f.flow.leads && f.seen.heard(h.token, m): // the stream was faster
	case f.flow.leads:
		m.Lenient = true
		f.options.Metrics.FeedAlarms.Inc()
		f.options.Sink.Mark(m)
	default:
		if !m.Lenient && len(f.stragglers) > 0 {
			seen, ok := f.overtaken(ctx)
			if !ok {
				return
			}
			m.Seen = seen
		}
		f.options.Sink.Mark(m)
		f.seen.hear(h.token, h.mark)
	}
}

// hearFence takes what NOTIFY says of a fence.
func (f *Feed) hearFence(ctx context.Context, nonce string) {
	if f.flow.leads {
		return
	}
	if f.backlog == nil && f.isOurs(nonce) && !f.tellStragglers(ctx) {
		return // the connection was lost
	}
	f.reached(nonce)
	if nonce == f.flow.cut {
		f.turn()
	}
}

// lose gives up what the connection may still say, unless all that was missed before it has been told.
func (f *Feed) lose() {
	f.deaf()
	f.behind = f.behind || f.backlog != nil
	f.backlog = nil
	f.mu.Lock()
	f.doubled = time.Time{}
	f.mu.Unlock()
	f.flow.both, f.flow.cut, f.flow.begun, f.flow.waiting, f.flow.bytes = snapshot.Snapshot{}, "", false, nil, 0
}

// keepWaiting puts messages behind the backlog.
func (f *Feed) keepWaiting(messages []wanted) {
	if len(f.backlog.late)+len(messages) <= maxLate {
		f.backlog.late = append(f.backlog.late, messages...)
		return
	}
	f.mu.Lock()
	f.overrun()
	f.mu.Unlock()
	f.lose()
}

// overrun gives the connection up because it says more than can be held; called under f.mu.
func (f *Feed) overrun() {
	f.overflow = true
	if !f.leads {
		f.epoch++
	}
	f.losses++
}
