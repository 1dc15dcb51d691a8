package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/protocol"
	"rowcast/server/socket"
)

// member joins as u1.
func (s *stage) member(topic string, config map[string]any) (c *client, joinRef string) {
	s.t.Helper()
	return s.memberAs("u1", topic, config)
}

func (s *stage) memberAs(user, topic string, config map[string]any) (c *client, joinRef string) {
	s.t.Helper()
	c = s.dial(token(s.t, user, "authenticated", nil))
	joinRef, status, reason := c.join(topic, config)
	if status != "ok" {
		s.t.Fatalf("%s joins %s: %s", user, topic, reason)
	}
	return c, joinRef
}

// dismiss asks all clients to go, as a server does that loses its lease, and does something between the last word to
// one of them and the close of its socket.
func (s *stage) dismiss(between func()) {
	s.t.Helper()
	s.await("former clients to be gone", func() bool { return s.sockets.Count() == 1 })
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	err := s.sockets.Suspend(ctx, *refusedWaiting, func(c *socket.Conn) {
		lastWord(c)
		if between != nil {
			between()
		}
	}, 0)
	s.sockets.Resume()
	if err != nil {
		s.t.Fatal(err)
	}
}

// holdDecisions has all decisions wait, until what it returns is called: they are tried again for seconds.
func (s *stage) holdDecisions() (release func()) {
	s.t.Helper()
	return s.lock("members")
}

// lock keeps everybody else from a table, until what it returns is called.
func (r *running) lock(table string) (release func()) {
	r.t.Helper()
	lock, err := r.db.Admin.Begin(r.t.Context())
	if err == nil {
		_, err = lock.Exec(r.t.Context(), `lock table `+table)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return func() { _ = lock.Rollback(context.Background()) }
}

// neverDecided puts a member's rights in doubt when a policy takes longer than a decision may, and gives what the member is
// told: about what it sends meanwhile, and at the end.
func (s *stage) neverDecided() (reply, message string) {
	s.t.Helper()
	c, joinRef := s.member("a", private())
	s.exec(`create policy slow on realtime.messages as restrictive for select using (pg_sleep(10) is not null)`)
	defer s.exec(`drop policy slow on realtime.messages`)
	s.exec(`select realtime.invalidate('u1', null)`)
	for reply == "" { // the mark is on its way
		reply = c.refusal(c.broadcast(joinRef, "a"))
	}
	return reply, c.told("a")
}

// awaitDeafTo waits until what is the matter has come to a client's channels: a join is refused for it.
func (s *stage) awaitDeafTo(c *client) {
	s.t.Helper()
	s.await("a join to be refused for it", func() bool {
		_, _, reason := c.join("elsewhere", private())
		return strings.HasPrefix(reason, string(protocol.Deaf))
	})
}

// refusal waits for the answer to a push and gives the reason; empty if it is no refusal.
func (c *client) refusal(ref string) string {
	c.t.Helper()
	status, response := c.reply(ref)
	if status == "ok" {
		return ""
	}
	return reasonOf(response)
}

// broadcast sends one, and gives its ref.
func (c *client) broadcast(joinRef, topic string) (ref string) {
	return c.push(joinRef, "realtime:"+topic, "broadcast", map[string]any{"type": "broadcast", "event": "e", "payload": map[string]any{}})
}

// told waits for a system message on a topic.
func (c *client) told(topic string) string {
	c.t.Helper()
	return messageOf(c.wait("a system message", isEvent(topic, "system")))
}

// closedWith waits for the end of the socket and gives the code of the server's close frame.
func (c *client) closedWith() string {
	c.t.Helper()
	for deadline := time.After(patience); ; {
		c.mu.Lock()
		err, change := c.err, c.change
		c.mu.Unlock()
		if err != nil {
			return fmt.Sprint(int(websocket.CloseStatus(err)))
		}
		select {
		case <-change:
		case <-deadline:
			c.t.Fatal("the socket was not closed")
		}
	}
}
