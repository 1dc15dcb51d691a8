package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// replaying is the config of a private channel that wants the past.
func replaying(replay any) map[string]any {
	return map[string]any{"private": true, "broadcast": map[string]any{"replay": replay}}
}

// startReplay runs a server with a room that user u may read.
func startReplay(t *testing.T, change func(*Config)) *running {
	t.Helper()
	r := start(t, pgtest.New(t), change)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u', 'a'), ('u', 'b'), ('u', 'end')`)
	return r
}

// back is a new socket of u that joins the room with a replay, and has been given all of it.
func (r *running) back(room string, replay any) *client {
	r.t.Helper()
	c := r.dial(token(r.t, "u", "authenticated", nil))
	if _, status, reason := c.join(room, replaying(replay)); status != "ok" {
		r.t.Fatal(reason)
	}
	r.settle(c, room)
	return c
}

// settle sends a message, waits for it, and removes all trace of it: what came before it has come.
func (r *running) settle(c *client, room string) {
	r.t.Helper()
	last := "last " + rand.Text()
	r.exec(`select realtime.send('{}', $1, $2)`, last, room)
	c.wait("a live message", broadcastOf(room, last))
	r.exec(`with gone as (delete from realtime.messages where event = $1 returning id)
		delete from realtime._journal using gone where message_id = gone.id`, last)
}

// received is a broadcast as a test looks at it.
type received struct {
	Event   string
	Payload json.RawMessage
	Meta    struct {
		ID       string
		Replayed bool
	}
	frame frame
}

// broadcasts are those of an event, in the order of their arrival.
func broadcasts(c *client, room, event string) (all []received) {
	for _, f := range c.all() {
		b := received{frame: f}
		if broadcastOf(room, event)(f) && json.Unmarshal(f.Payload, &b) == nil {
			all = append(all, b)
		}
	}
	return all
}

func ids(list []received) (all []string) {
	for _, b := range list {
		all = append(all, b.Meta.ID)
	}
	return all
}

// send sends {"n": …} to a room in one transaction.
func (r *running) send(room string, numbers ...int) {
	r.t.Helper()
	r.exec(`select realtime.send(jsonb_build_object('n', n), 'e', $1) from unnest($2::int[]) as n`, room, numbers)
}

// gaps are what a client was told of what is missing.
func gaps(c *client) (texts []string) {
	for _, f := range c.all() {
		var p struct{ Extension, Status, Message string }
		if f.Event == "system" && json.Unmarshal(f.Payload, &p) == nil && strings.HasPrefix(p.Message, "ReplayGap: ") {
			texts = append(texts, p.Extension+" "+p.Status+" "+p.Message)
		}
	}
	return texts
}

func milliseconds(t time.Time) int64 { return t.UnixMilli() }

// The newest of a window, oldest first, of this room and private alone.
func TestReplaySince(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	now := time.Now()
	r.exec(`insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
		select 'a', case when n = 7 then 'presence' else 'broadcast' end, 'e', jsonb_build_object('n', n), n <> 6, timezone('utc', now()) - n * interval '1 minute'
		  from generate_series(9, 1, -1) as n order by n % 3`)
	r.exec(`select realtime.send('{"n": 100}', 'e', 'b')`)
	r.exec(`insert into realtime.messages (topic, extension, event, payload, private, inserted_at)
		values ('a', 'broadcast', 'e', '{"n": 101}', true, timezone('utc', now()) + interval '2 minutes')`)
	at := func(ago time.Duration) int64 { return milliseconds(now.Add(-ago)) }
	for _, test := range []struct {
		replay map[string]any
		want   []int
	}{
		{map[string]any{"since": at(time.Hour)}, []int{9, 8, 5, 4, 3, 2, 1}},
		{map[string]any{"since": at(time.Hour), "limit": 3}, []int{3, 2, 1}},
		{map[string]any{"since": at(150 * time.Second)}, []int{2, 1}},
		{map[string]any{"since": at(time.Hour), "limit": 0}, []int{1}},
		{map[string]any{"since": at(time.Hour), "limit": -5}, []int{1}},
		{map[string]any{"since": at(-time.Minute)}, nil},
		{map[string]any{"since": -62167219200000, "limit": 1 << 40}, []int{9, 8, 5, 4, 3, 2, 1}},
		{map[string]any{"since": 253402300799999}, nil},
		{map[string]any{"after": []string{}}, nil},
		{map[string]any{"after": []string{}, "since": at(time.Hour), "limit": 2}, nil}, // below: in the order of sending
	} {
		c := r.back("a", test.replay)
		got := broadcasts(c, "a", "e")
		if _, cursor := test.replay["after"]; cursor {
			if _, since := test.replay["since"]; since != (len(got) == 2) {
				t.Errorf("%v: %d messages", test.replay, len(got))
			}
			continue
		}
		if n := numbers(c, "a", "e"); !slices.Equal(n, test.want) {
			t.Errorf("%v: received %v, want %v", test.replay, n, test.want)
		}
		for _, b := range got {
			if !b.Meta.Replayed || len(b.Meta.ID) != 36 || b.frame.Ref != nil || b.frame.JoinRef == nil {
				t.Errorf("%v: %s", test.replay, b.frame.Payload)
			}
		}
	}
	c := r.back("a", map[string]any{"since": at(time.Hour)})
	r.exec(`select realtime.send('{}', 'live', 'a')`)
	c.wait("a live message", broadcastOf("a", "live"))
	if live := broadcasts(c, "a", "live")[0]; live.Meta.Replayed || live.frame.JoinRef != nil {
		t.Errorf("live: %s", live.frame.Payload)
	}
}

func TestReplayLimitIsTheServersAtMost(t *testing.T) {
	t.Parallel()
	r := startReplay(t, func(c *Config) { c.MaxReplayMessages = 40 })
	var all []int
	for n := range 100 {
		all = append(all, n+1)
	}
	r.send("a", all...)
	for _, test := range []struct {
		replay map[string]any
		want   int
	}{{map[string]any{"since": 0}, 25}, {map[string]any{"since": 0, "limit": 1000}, 40}} {
		if got := numbers(r.back("a", test.replay), "a", "e"); !slices.Equal(got, all[100-test.want:]) {
			t.Errorf("%v: received %v", test.replay, got)
		}
	}
}

func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	r.exec(`create policy presence on realtime.messages for select to authenticated
		using (extension = 'presence' and topic = 'only presence' and realtime.topic() = topic)`)
	c := r.dial(token(t, "u", "authenticated", nil))
	const params = "UnableToReplayMessages: Replay params are not valid"
	presence := replaying(map[string]any{"since": 0})
	presence["presence"] = map[string]any{"enabled": true}
	for _, test := range []struct {
		room   string
		config map[string]any
		want   string
	}{
		{"a", replaying(map[string]any{}), params},
		{"a", replaying(map[string]any{"since": "1"}), params},
		{"a", replaying(map[string]any{"since": 1, "limit": "1"}), params},
		{"a", replaying(map[string]any{"after": 1}), params},
		{"a", replaying(map[string]any{"after": []any{nil}}), params},
		{"a", replaying(nil), ""},
		{"a", map[string]any{"broadcast": map[string]any{"replay": nil}}, "UnableToReplayMessages: Replay is not allowed for public channels"},
		{"a", map[string]any{"broadcast": map[string]any{"replay": map[string]any{"since": 1}}}, "UnableToReplayMessages: Replay is not allowed for public channels"},
		{"foreign", replaying(map[string]any{"since": 0}), protocol.Unauthorized.Because(protocol.DenialRead("foreign"))},
		{"only presence", presence, protocol.Unauthorized.Because(protocol.DenialRead("only presence"))},
	} {
		if _, status, reason := c.join(test.room, test.config); reason != test.want || (status == "ok") != (test.want == "") {
			t.Errorf("%s %v: %s %q, want %q", test.room, test.config, status, reason, test.want)
		}
	}
}

// JSON comes as text and bytes in the binary form, in their order.
func TestReplayOfBytes(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	r.exec(`select realtime.send('{"n": 1}', 'e', 'a'), realtime.send_binary('\x00ff', 'e', 'a'), realtime.send('[3]', 'e', 'a')`)
	got := broadcasts(r.back("a", map[string]any{"since": 0}), "a", "e")
	if len(got) != 3 || string(got[1].Payload) != `"AP8="` || string(got[2].Payload) != "[3]" {
		t.Fatalf("received %v", got)
	}
	for i, b := range got {
		if binary := b.frame.JoinRef == nil; binary != (i == 1) || !b.Meta.Replayed || b.Meta.ID == "" {
			t.Errorf("%d: %+v", i, b)
		}
	}
	c := r.dialVersion("1.0.0", token(t, "u", "authenticated", nil))
	if _, status, reason := c.join("a", replaying(map[string]any{"since": 0})); status != "ok" {
		t.Fatal(reason)
	}
	r.settle(c, "a")
	if got := broadcasts(c, "a", "e"); len(got) != 2 || string(got[1].Payload) != "[3]" || !got[1].Meta.Replayed {
		t.Errorf("version 1.0.0 received %v", got)
	}
	if n := counter(t, r, "realtime_withheld_total"); n != 1 {
		t.Errorf("%v withheld, want the one that version 1.0.0 cannot carry", n)
	}
}

// A cursor gives what was sent after it, once: not what the transaction sent before it, and all the rest of it.
func TestResumeInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.back("a", nil)
	other, err := r.db.Admin.Begin(context.Background()) // something commits while the five are sent
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(context.Background(), `select realtime.send('{"n": 0}', 'e', 'b')`); err != nil {
		t.Fatal(err)
	}
	tx, err := r.db.Admin.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		if _, err := tx.Exec(context.Background(), `select realtime.send(jsonb_build_object('n', $1::int), 'e', 'a')`, n+1); err != nil {
			t.Fatal(err)
		}
		r.exec(`select realtime.send('{}', 'e', 'b')`) // a younger transaction, which has ended when the next is sent
	}
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.send("a", 6, 7)
	r.await("all seven", func() bool { return len(numbers(c, "a", "e")) == 7 })
	all := broadcasts(c, "a", "e")
	for i, b := range all {
		for _, after := range []any{b.Meta.ID, ids(all[:i+1])} {
			c := r.back("a", map[string]any{"after": after})
			if got := ids(broadcasts(c, "a", "e")); !slices.Equal(got, ids(all[i+1:])) {
				t.Errorf("after %v: received %v of %v", after, got, ids(all))
			}
			if told := gaps(c); len(told) > 0 {
				t.Errorf("after %v: %v", after, told)
			}
		}
	}
	if got := numbers(r.back("a", map[string]any{"after": ids(all)[1], "limit": 5}), "a", "e"); !slices.Equal(got, []int{3, 4, 5, 6, 7}) {
		t.Errorf("as many as the limit: %v", got)
	}
}

// A transaction that lasts commits after others that were sent after it: whoever had those lacks it.
func TestResumeAcrossALongTransaction(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	first := r.back("a", nil)
	long, err := r.db.Admin.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sendLong := func(n int) {
		t.Helper()
		if _, err := long.Exec(context.Background(), `select realtime.send(jsonb_build_object('n', $1::int), 'e', 'a')`, n); err != nil {
			t.Fatal(err)
		}
	}
	r.send("a", 1)
	sendLong(10)
	r.send("a", 2)
	sendLong(11)
	r.send("a", 3)
	r.settle(first, "a")
	before := ids(broadcasts(first, "a", "e"))
	if got := numbers(r.back("a", map[string]any{"after": before}), "a", "e"); got != nil {
		t.Errorf("what has not been committed: %v", got)
	}
	if err := long.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.send("a", 4)
	for _, test := range []struct {
		after any
		want  []int
	}{
		{before, []int{10, 11, 4}},
		{before[2], []int{10, 11, 4}},
		{before[1:], []int{10, 11, 4}},
		{before[0], []int{10, 2, 11, 3, 4}},
	} {
		if got := numbers(r.back("a", map[string]any{"after": test.after}), "a", "e"); !slices.Equal(got, test.want) {
			t.Errorf("after %v: received %v, want %v", test.after, got, test.want)
		}
	}
	// What was committed while the last one was under way may have come before it: the list says what did.
	r.await("all", func() bool { return len(numbers(first, "a", "e")) == 6 })
	all := broadcasts(first, "a", "e")
	if got := numbers(r.back("a", map[string]any{"after": ids(all[:5])}), "a", "e"); !slices.Equal(got, []int{4}) {
		t.Errorf("after the long one: received %v", got)
	}
}

// What is missing is said, before what follows, and counted.
func TestReplayGaps(t *testing.T) {
	t.Parallel()
	r := startReplay(t, func(c *Config) { c.MaxReplayMessages = 3 })
	c, inB := r.back("a", nil), r.back("b", nil)
	r.send("a", 1, 2, 3, 4, 5)
	r.send("b", 1)
	r.await("all", func() bool { return len(numbers(c, "a", "e")) == 5 && len(numbers(inB, "b", "e")) == 1 })
	own, foreign := ids(broadcasts(c, "a", "e")), ids(broadcasts(inB, "b", "e"))[0]
	const unknown, limit = "ReplayGap: Nothing is known here of the messages to go on after, the newest %d messages follow", "ReplayGap: More was sent meanwhile than is replayed, the newest %d messages follow"
	for _, test := range []struct {
		after any
		want  []int
		gap   string
	}{
		{own[0], []int{3, 4, 5}, fmt.Sprintf(limit, 3)},
		{own[1], []int{3, 4, 5}, ""},
		{foreign, []int{3, 4, 5}, fmt.Sprintf(unknown, 3)},
		{[]string{foreign, own[3]}, []int{5}, ""},
		{"00000000-0000-0000-0000-000000000000", []int{3, 4, 5}, fmt.Sprintf(unknown, 3)},
		{"no uuid", []int{3, 4, 5}, fmt.Sprintf(unknown, 3)},
		{[]string{"no uuid", strings.ToUpper(own[2])}, []int{4, 5}, ""},
	} {
		c := r.dial(token(t, "u", "authenticated", nil))
		if _, status, reason := c.join("a", replaying(map[string]any{"after": test.after})); status != "ok" {
			t.Fatal(reason)
		}
		r.await("the replay", func() bool { return len(numbers(c, "a", "e")) >= len(test.want) })
		if got := numbers(c, "a", "e"); !slices.Equal(got, test.want) {
			t.Errorf("after %v: received %v, want %v", test.after, got, test.want)
		}
		told := gaps(c)
		if test.gap == "" && len(told) > 0 || test.gap != "" && !slices.Equal(told, []string{"broadcast error " + test.gap}) {
			t.Errorf("after %v: told %q, want %q", test.after, told, test.gap)
		}
		for place, f := range c.all() {
			if f.Event == "system" && place != 1 {
				t.Errorf("after %v: told at place %d: %s", test.after, place, c.said())
			}
		}
	}
	r.exec(`update realtime._dropped set upto = upto where false; insert into realtime._dropped (xid, upto) select pg_current_xact_id(), pg_current_xact_id()`)
	dropped := r.dial(token(t, "u", "authenticated", nil))
	dropped.join("a", replaying(map[string]any{"after": own[3]}))
	r.await("the replay", func() bool { return len(numbers(dropped, "a", "e")) == 1 })
	if told := gaps(dropped); !slices.Equal(told, []string{"broadcast error " + protocol.ReplayGap.Because(protocol.TextGapDropped)}) {
		t.Errorf("where something was dropped: %q", told)
	}
	r.exec(`select realtime._maintain('0')`)
	r.exec(`select realtime.send('{"n": 6}', 'e', 'a')`)
	kept := r.dial(token(t, "u", "authenticated", nil))
	kept.join("a", replaying(map[string]any{"after": own}))
	r.await("the replay", func() bool { return len(numbers(kept, "a", "e")) == 1 })
	if told := gaps(kept); !slices.Equal(told, []string{"broadcast error " + fmt.Sprintf(unknown, 1)}) {
		t.Errorf("beyond the retention: %q", told)
	}
	if n := counter(t, r, "realtime_replay_gaps_total"); n != 6 {
		t.Errorf("%v gaps counted", n)
	}
}

// What somebody deleted is not replayed; it is no gap.
func TestDeletedMessagesAreNotReplayed(t *testing.T) {
	t.Parallel()
	r := startReplay(t, nil)
	c := r.back("a", nil)
	r.send("a", 1, 2, 3)
	r.await("all", func() bool { return len(numbers(c, "a", "e")) == 3 })
	r.exec(`delete from realtime.messages where payload ->> 'n' = '2'`)
	back := r.back("a", map[string]any{"after": ids(broadcasts(c, "a", "e"))[0]})
	if got := numbers(back, "a", "e"); !slices.Equal(got, []int{3}) || len(gaps(back)) > 0 {
		t.Errorf("received %v, told %v", got, gaps(back))
	}
}
