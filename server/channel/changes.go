package channel

import (
	"rowcast/server/changes"
	"rowcast/server/protocol"
)

// subscribeChanges has the client told of the changes of rows that its join asked for, unless it is already. What becomes of it is
// told by system messages: a subscription that cannot be had does not end a channel whose join does not wait for it.
func (c *Channel) subscribeChanges(asked [][]byte) {
	if len(asked) == 0 {
		return
	}
	member := changesMember{c}
	entries, err := changes.ParseEntries(asked, protocol.ChangeIDs(asked))
	if err != nil {
		member.Notice(protocol.PostgresChangesRefused, err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock() // neither a new token nor the end of the channel comes between
	if c.ended {
		return
	}
	c.changes = c.session.Changes.Subscribe(changes.Subscriber{
		Topic: c.topic, Role: c.claims.Role, Claims: c.claims.Raw, Entries: entries, Member: member,
	})
}

// changesMember is a channel as the engine of Postgres Changes knows it. The channel's lock keeps everything of it in front of
// the channel's end: nothing follows phx_close, or reaches the channel that took the place.
type changesMember struct{ channel *Channel }

// Deliver queues a frame for the client. Rights to the topic do not matter here: who may see the row was decided.
func (m changesMember) Deliver(f *protocol.Frame) changes.Outlet {
	c := m.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.session.sender.Queue(f.Bytes(c.session.version), &c.void) {
		return c.session.sender
	}
	return nil
}

// Notice tells the client how its subscription fares, or answers the join that waits for it.
func (m changesMember) Notice(code protocol.Code, text string) {
	c := m.channel
	if code != "" {
		c.session.Metrics.ChangesTroubles.WithLabelValues(string(code)).Inc()
	}
	if c.awaited(code, text) {
		return
	}
	status := protocol.StatusOK
	if code != "" {
		status, text = protocol.StatusError, code.Because(text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended && c.admitted {
		c.system("postgres_changes", status, text)
	}
}

// Drained calls then when nothing waits for the client.
func (m changesMember) Drained(then func()) { m.channel.session.sender.WhenDrained(then) }
