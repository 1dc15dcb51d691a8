package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/sql"
)

// maxFetch is how many messages one query reads: enough to spread its cost, few enough that large payloads do not pile
// up in the database's sort.
const maxFetch = 200

// fetchLimits bound one read of messages.
var fetchLimits = postgres.Limits{Statement: 5 * time.Second, Lock: 2 * time.Second}

// messagesAhead counts the messages at the head of a batch that can be read together.
func messagesAhead(batch []hint) int {
	for i, h := range batch {
		if h.kind != hintMessage || i == maxFetch {
			return i
		}
	}
	return len(batch)
}

// messages reads what the hints name and tells the sink, in their order. It does not give up while the database can come
// back: what follows in the feed must not overtake.
func (f *Feed) messages(ctx context.Context, hints []hint) {
	var xids []string
	var seqs []int64
	var entries []entry
	asked := map[entry]bool{}
	for _, h := range hints {
		if f.seen.has(h.entry) || asked[h.entry] {
			f.options.Metrics.FeedIgnored.WithLabelValues("repeated").Inc()
			continue
		}
		asked[h.entry] = true
		entries = append(entries, h.entry)
		xids = append(xids, fmt.Sprint(h.entry.xid))
		seqs = append(seqs, h.entry.seq)
	}
	for wait := 50 * time.Millisecond; len(entries) > 0; wait = min(2*wait, time.Second) {
		done, err := f.fetch(ctx, entries, xids, seqs)
		entries, xids, seqs = entries[done:], xids[done:], seqs[done:]
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		f.options.Logger.Warn("messages not read; trying again", "err", err, "messages", len(entries))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// fetch reads the entries and tells the sink as they come; done counts those dealt with, also if it fails half-way.
func (f *Feed) fetch(ctx context.Context, entries []entry, xids []string, seqs []int64) (done int, err error) {
	err = postgres.Short(ctx, f.options.Pool, fetchLimits, false,
		func(b *pgx.Batch) { b.Queue(sql.Messages, xids, seqs, f.options.MaxPayload) },
		func(results pgx.BatchResults) error {
			rows, err := results.Query()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var place int
				var m Message
				var event, payload *string
				var tooLarge *bool
				if err := rows.Scan(&place, &m.ID, &m.Topic, &event, &m.Private, &tooLarge, &payload, &m.Binary); err != nil {
					return err
				}
				f.unknown(entries[done : place-1])
				done = place
				e := entries[place-1]
				f.seen.add(e)
				m.XID = e.xid
				if event != nil {
					m.Event = *event
				}
				if payload != nil {
					m.Payload = []byte(*payload)
				}
				f.message(m, tooLarge != nil && *tooLarge)
			}
			if err := rows.Err(); err != nil {
				return err
			}
			f.unknown(entries[done:])
			done = len(entries)
			return nil
		})
	return done, err
}

func (f *Feed) message(m Message, tooLarge bool) {
	reason := ""
	switch {
	case tooLarge:
		reason = "too_large"
	case m.Event == "" || m.Topic == "" || m.Payload == nil && m.Binary == nil:
		reason = "incomplete"
	}
	if reason != "" {
		f.options.Metrics.MessagesDropped.WithLabelValues(reason).Inc()
		f.options.Logger.Warn("message not delivered", "reason", reason, "message_id", m.ID, "topic", m.Topic)
		return
	}
	f.options.Sink.Message(m)
}

// unknown counts notifications that name nothing: forged, or of a row deleted since.
func (f *Feed) unknown(entries []entry) {
	f.options.Metrics.FeedIgnored.WithLabelValues("unknown_message").Add(float64(len(entries)))
}

// seen remembers what was delivered, so that nobody can have it delivered again. Only the feed's own goroutine uses it.
type seen struct {
	floor     snapshot.Snapshot // all that it sees was heard before
	delivered map[entry]struct{}
}

func newSeen() seen { return seen{delivered: map[entry]struct{}{}} }

func (s *seen) has(e entry) bool {
	_, delivered := s.delivered[e]
	return delivered || s.floor.Sees(e.xid)
}

func (s *seen) add(e entry) { s.delivered[e] = struct{}{} }

// begin sets the floor where the first connection starts to hear; later ones keep what was proven before them.
func (s *seen) begin(at snapshot.Snapshot) {
	if s.floor.IsZero() {
		s.floor = at
	}
}

// advance raises the floor to a heartbeat's snapshot. What it sees was committed, and so heard, before the heartbeat.
func (s *seen) advance(to snapshot.Snapshot) {
	s.floor = to
	for e := range s.delivered {
		if to.Sees(e.xid) {
			delete(s.delivered, e)
		}
	}
}
