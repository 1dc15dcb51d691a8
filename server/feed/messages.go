package feed

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/sql"
)

// maxFetch is how many messages one query reads: enough to spread its cost, few enough that large payloads do not pile
// up in the database's sort.
const maxFetch = 200

// fetchLimits bound one read of messages, unless the options say otherwise.
var fetchLimits = postgres.Limits{Statement: 5 * time.Second, Lock: 2 * time.Second}

// ahead are the hints at the head of a batch that are of one kind, and can be read together.
func ahead(batch []hint) (list []wanted) {
	for i, h := range batch {
		if h.kind != batch[0].kind || h.stream != batch[0].stream || i == maxFetch {
			break
		}
		list = append(list, wanted{h.entry, h.token})
	}
	return list
}

// wanted is a message, or a disconnect, to be read. Somebody else's guess of the token is another one.
type wanted struct {
	entry
	token token
}

const (
	// firstWait and maxWait are between attempts to read.
	firstWait, maxWait = 50 * time.Millisecond, time.Second
	// maxTries is how often a single message is tried that takes Postgres too long.
	maxTries = 3
)

// messages reads what is wanted and tells the sink, in this order. It does not give up while the database can come
// back: what follows in the feed must not overtake. A message that Postgres cannot print is dropped, and said so.
func (f *Feed) messages(ctx context.Context, list []wanted) {
	size, tries, wait, said := maxFetch, 0, firstWait, ""
	for len(list) > 0 {
		n := min(size, len(list))
		done, err := f.fetch(ctx, list[:n])
		list, n = list[done:], n-done
		switch {
		case err == nil:
			size, tries, wait = min(2*size, maxFetch), 0, firstWait
			continue
		case ctx.Err() != nil:
			return
		case postgres.IsUnprintable(err) && n > 1, postgres.IsSlow(err) && n > 1:
			size = n / 2
			continue
		case postgres.IsSlow(err) && postgres.Answers(ctx, f.options.Pool, f.options.fetchLimits): // so it is the message that takes too long, and not the database that stands still
			tries++
		}
		if postgres.IsUnprintable(err) || tries == maxTries {
			f.drop("unreadable", f.room(ctx, list[0]), "err", err, "xid", list[0].xid, "seq", list[0].seq)
			f.seen.add(list[0])
			list, tries = list[1:], 0
			continue
		}
		if said != err.Error() { // the same trouble once
			said = err.Error()
			f.options.Logger.Warn("messages not read; trying again", "err", err, "messages", len(list))
		}
		if !waitFor(ctx, wait) {
			return
		}
		wait = min(2*wait, maxWait)
	}
}

// waitFor waits a while; false: ctx ended.
func waitFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// news is what was not delivered before, each once.
func (f *Feed) news(heard []wanted) []wanted {
	list := make([]wanted, 0, len(heard))
	listed := make(map[wanted]bool, len(heard))
	for _, w := range heard {
		if f.seen.has(w) || listed[w] {
			f.options.Metrics.FeedIgnored.WithLabelValues("repeated").Inc()
			continue
		}
		listed[w] = true
		list = append(list, w)
	}
	return list
}

// fetch reads messages and tells the sink as they come; done counts those dealt with, also if it fails half-way.
func (f *Feed) fetch(ctx context.Context, list []wanted) (done int, err error) {
	xids, seqs, tokens := make([]string, len(list)), make([]int64, len(list)), make([]string, len(list))
	for i, w := range list {
		xids[i], seqs[i], tokens[i] = strconv.FormatUint(uint64(w.xid), 10), w.seq, w.token.String()
	}
	args := []any{xids, seqs, tokens, int64(f.options.MaxPayload)}
	err = postgres.Read(ctx, f.options.Pool, f.options.fetchLimits, sql.Messages, args, func(rows pgx.Rows) error {
		var place int
		var m Message
		var event, payload *string
		var tooLarge bool
		if err := rows.Scan(&place, &m.ID, &m.Topic, &event, &m.Private, &tooLarge, &payload, &m.Binary); err != nil {
			return err
		}
		f.unknown(list[done : place-1])
		done = place
		f.seen.add(list[place-1])
		m.XID = list[place-1].xid
		if event != nil {
			m.Event = *event
		}
		if payload != nil {
			m.Payload = []byte(*payload)
		}
		f.message(m, tooLarge)
		return nil
	})
	if err == nil {
		f.unknown(list[done:])
		done = len(list)
	}
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
		f.drop(reason, m)
		return
	}
	f.options.Sink.Message(m)
}

// room is where a message goes whose content cannot be read; its topic is empty where that cannot be found out either.
func (f *Feed) room(ctx context.Context, w wanted) Message {
	rooms, err := postgres.Ask(ctx, f.options.Pool, f.options.fetchLimits, func(row pgx.CollectableRow) (m Message, err error) {
		return m, row.Scan(&m.Topic, &m.Private)
	}, sql.MessageRoom, strconv.FormatUint(uint64(w.xid), 10), w.seq, w.token.String())
	if err != nil || len(rooms) == 0 {
		f.options.Logger.Debug("room of a message not found", "err", err)
		return Message{}
	}
	return rooms[0]
}

// drop counts a message that nobody will receive, and says so.
func (f *Feed) drop(reason string, m Message, more ...any) {
	f.options.Metrics.MessagesDropped.WithLabelValues(reason).Inc()
	f.options.Logger.Warn("message not delivered", append([]any{"reason", reason, "message_id", m.ID, "topic", m.Topic}, more...)...)
	m.Payload, m.Binary = nil, nil
	f.options.Sink.Dropped(m)
}

// unknown counts notifications that name nothing: forged, or of a row deleted since.
func (f *Feed) unknown(entries []wanted) {
	f.options.Metrics.FeedIgnored.WithLabelValues("unknown_message").Add(float64(len(entries)))
}
