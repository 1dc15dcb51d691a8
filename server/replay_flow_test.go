package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

// long sends so many messages of so many bytes to room a, and waits until that is past.
func (r *running) long(t *testing.T, messages, bytes int) {
	t.Helper()
	before := counter(t, r, "realtime_broadcasts_total")
	r.exec(`select realtime.send(jsonb_build_object('n', n, 'text', repeat('x', $2::int)), 'e', 'a') from generate_series(1, $1::int) as n`, messages, bytes)
	r.await("the messages to be told", func() bool { return counter(t, r, "realtime_broadcasts_total") == before+float64(messages) })
}

func upTo(n int) (all []int) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

// A replay of far more than may wait for a socket does not make a slow reader of somebody who reads; what is sent meanwhile
// comes behind it.
func TestLongReplay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ messages, bytes int }{{4, 2_900_000}, {400, 10_000}} {
		t.Run(fmt.Sprint(test.messages), func(t *testing.T) {
			t.Parallel()
			r := startReplay(t, nil)
			r.long(t, test.messages, test.bytes)
			c := r.dial(token(t, "u", "authenticated", nil))
			if _, status, reason := c.join("a", replaying(map[string]any{"since": 0, "limit": 1000})); status != "ok" {
				t.Fatal(reason)
			}
			r.exec(`select realtime.send(jsonb_build_object('n', $1::int), 'e', 'a')`, test.messages+1)
			r.await("all", func() bool { return count(c, isEvent("a", "broadcast")) > test.messages })
			if got := numbers(c, "a", "e"); !slices.Equal(got, upTo(test.messages+1)) {
				t.Errorf("received %v", got)
			}
		})
	}
}

// Channels of one socket that come back together share its queue.
func TestReplayOnManyChannelsOfASocket(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	const rooms, messages = 20, 40
	before := counter(t, r, "realtime_broadcasts_total")
	r.exec(`insert into members (user_id, room) select 'u', 'many' || i from generate_series(1, 20) as i`)
	r.exec(`select realtime.send(jsonb_build_object('n', n, 'text', repeat('x', 10000)), 'e', 'many' || i) from generate_series(1, 20) as i, generate_series(1, 40) as n`)
	r.await("the messages to be told", func() bool { return counter(t, r, "realtime_broadcasts_total") == before+rooms*messages })
	c := r.dial(token(t, "u", "authenticated", nil))
	for i := range rooms {
		c.push("", fmt.Sprint("realtime:many", i+1), "phx_join", map[string]any{"config": replaying(map[string]any{"since": 0, "limit": 1000})})
	}
	for i := range rooms {
		room := fmt.Sprint("many", i+1)
		r.await("all of "+room, func() bool { return count(c, isEvent(room, "broadcast")) >= messages })
		if got := numbers(c, room, "e"); !slices.Equal(got, upTo(messages)) {
			t.Errorf("%s: received %v", room, got)
		}
	}
}

// midway is a client whose replay has begun and cannot go on until it reads.
func (r *running) midway(t *testing.T) halting {
	t.Helper()
	r.long(t, 40, 90_000)
	c := r.dialHalting(t, token(t, "u", "authenticated", nil))
	c.write(`["1","1","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0,"limit":1000}}}}]`)
	if f := c.next(); f.Event != "phx_reply" || !strings.Contains(string(f.Payload), `"ok"`) {
		t.Fatalf("%+v", f)
	}
	return c
}

// until reads on and gives the messages before a frame, and that frame.
func (h halting) until(what func(frame) bool) (got []int, f frame) {
	h.t.Helper()
	for {
		f := h.next()
		var p struct{ Payload struct{ N int } }
		switch {
		case what(f):
			return got, f
		case f.Event == "broadcast" && json.Unmarshal(f.Payload, &p) == nil:
			got = append(got, p.Payload.N)
		}
	}
}

func TestRevokedDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	r.exec(`delete from members where room = 'a'`)
	r.await("the cut", func() bool { return counter(t, r, "realtime_channels_closed_total") == 1 })
	got, f := c.until(isEvent("a", "system"))
	if len(got) == 40 || !slices.Equal(got, upTo(len(got))) || messageOf(f) != protocol.NoLongerRead("realtime:a") {
		t.Errorf("received %v, then %s", got, f.Payload)
	}
	if more, _ := c.until(isEvent("a", "phx_close")); more != nil {
		t.Errorf("received %v after the cut", more)
	}
}

// A right that is in doubt, and stays: the replay waits for the answer, and goes on.
func TestDoubtDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	for range 5 {
		r.exec(`select realtime.invalidate('u')`)
	}
	r.exec(`select realtime.send('{"n": 41}', 'e', 'a')`)
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	if got, _ := c.until(broadcastOf("a", "end")); !slices.Equal(got, upTo(41)) {
		t.Errorf("received %v", got)
	}
}

func TestLeaveDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	c.write(`["1","2","realtime:a","phx_leave",{}]`)
	r.await("the end of the channel", func() bool { return counter(t, r, "realtime_channels") == 0 })
	if got, _ := c.until(isEvent("a", "phx_close")); len(got) == 40 {
		t.Errorf("received %v", got)
	}
	c.write(`["3","3","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0,"limit":1000}}}}]`)
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	if got, _ := c.until(broadcastOf("a", "end")); !slices.Equal(got, upTo(40)) {
		t.Errorf("joined again: received %v", got)
	}
}

func TestJoinAgainDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	c.write(`["2","2","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0,"limit":1000}}}}]`)
	before, reply := c.until(isEvent("a", "phx_reply"))
	if len(before) == 40 || !strings.Contains(string(reply.Payload), `"ok"`) {
		t.Errorf("received %v, then %s", before, reply.Payload)
	}
	r.exec(`select realtime.send('{}', 'end', 'a')`)
	if got, _ := c.until(broadcastOf("a", "end")); !slices.Equal(got, upTo(40)) {
		t.Errorf("received %v", got)
	}
}

// Who goes in the middle of a replay leaves nothing behind that others would have to wait for.
func TestSocketsThatEndDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	r.midway(t).conn.CloseNow()
	for range 5 {
		c := r.dialHalting(t, token(t, "u", "authenticated", nil))
		c.write(`["1","1","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0,"limit":1000}}}}]`)
		c.next()
		c.conn.CloseNow()
	}
	r.await("the end of the sockets", func() bool { return r.sockets.Count() == 0 })
	if got := numbers(r.back("a", map[string]any{"since": 0, "limit": 1000}), "a", "e"); !slices.Equal(got, upTo(40)) {
		t.Errorf("received %v", got)
	}
}

func TestStopDuringReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	r.stop()
	for {
		if _, _, err := c.conn.Read(context.Background()); err != nil {
			if code := websocket.CloseStatus(err); code != websocket.StatusServiceRestart {
				t.Errorf("closed with %d: %v", code, err)
			}
			return
		}
	}
}

// What waits behind a replay has a bound, as everything: beyond it the channel ends, and its client joins again.
func TestTooMuchBehindAReplay(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.midway(t)
	quick := r.dial(token(t, "u", "authenticated", nil))
	if _, status, reason := quick.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	r.long(t, 10, 90_000)
	quick.wait("the messages", broadcastOf("a", "e"))
	r.await("the end of the channel", func() bool { return counter(t, r, "realtime_channels_closed_total") == 1 })
	_, f := c.until(isEvent("a", "system"))
	if messageOf(f) != protocol.MessagesWithheld.Because(protocol.TextTooManyHeld) {
		t.Errorf("told %s", f.Payload)
	}
	c.until(isEvent("a", "phx_error"))
}

// Whoever may send may give his message the id of another's. That keeps nothing from those who go on after the other.
func TestResumeAfterAnIdThatWasUsedAgain(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.back("a", nil)
	r.send("a", 1)
	r.send("a", 2)
	r.await("both", func() bool { return len(numbers(c, "a", "e")) == 2 })
	last := broadcasts(c, "a", "e")[0].Meta.ID
	r.exec(`insert into realtime.messages (topic, extension, event, payload, private, id) values ('a', 'broadcast', 'forged', '{}', true, $1)`, last)
	c.wait("the forged one", broadcastOf("a", "forged"))
	back := r.back("a", map[string]any{"after": last})
	if got := numbers(back, "a", "e"); !slices.Equal(got, []int{2}) || len(broadcasts(back, "a", "forged")) > 0 {
		t.Errorf("received %v, and %d of what is in the list", got, len(broadcasts(back, "a", "forged")))
	}
}

// A join whose past cannot be read is refused, and nothing is left of it.
func TestReplayThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	lock, err := r.db.Admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `lock table realtime._journal in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	c := r.dial(token(t, "u", "authenticated", nil))
	if _, status, reason := c.join("a", replaying(map[string]any{"since": 0})); status != "error" || !strings.HasPrefix(reason, "UnableToReplayMessages: ") {
		t.Errorf("%s: %s", status, reason)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("the channel to be gone", func() bool {
		return metricstest.Value(t, r.metrics, "realtime_channels", "private") == 0
	})
}
