package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"rowcast/server/feed"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// outages is a server whose listener logs in as a role of its own, and so can be kept out.
type outages struct {
	*running
	role     string
	caughtUp chan struct{}
}

// ends tells when all has been told that was missed.
type ends struct {
	feed.Sink
	caughtUp chan struct{}
}

func (e ends) CaughtUp() {
	e.Sink.CaughtUp()
	e.caughtUp <- struct{}{}
}

// startWithOutages has a cluster of its own: where others change roles, rights are in doubt, and what was sent meanwhile is
// withheld.
func startWithOutages(t *testing.T, change func(*Config)) *outages {
	t.Helper()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t)
	role := db.NewRole(t, "login replication in role "+pgtest.ServerRole)
	caughtUp := make(chan struct{}, 100)
	return &outages{startVia(t, db, func(c *Config) {
		c.ListenDatabaseURL = db.As(role)
		if change != nil {
			change(c)
		}
	}, func(s feed.Sink) feed.Sink { return ends{s, caughtUp} }), role, caughtUp}
}

// begin ends the listener's connection and lets it make no other.
func (o *outages) begin() {
	o.t.Helper()
	o.exec("alter role " + o.role + " nologin")
	o.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = $1`, o.role)
	o.await("the outage", func() bool { return !o.feed.Hearing() })
}

// end lets the listener in, and waits until it has told what it missed.
func (o *outages) end() {
	o.t.Helper()
	o.exec("alter role " + o.role + " login")
	<-o.caughtUp
}

// numbers are the payloads of the broadcasts of an event, {"n": …}, in the order of their arrival.
func numbers(c *client, topic, event string) (all []int) {
	for _, f := range c.all() {
		var p struct{ Payload struct{ N int } }
		if broadcastOf(topic, event)(f) && json.Unmarshal(f.Payload, &p) == nil {
			all = append(all, p.Payload.N)
		}
	}
	return all
}

// sends is a statement that sends numbers to a room, in public and in private.
func sends(numbers ...int) (statements string) {
	for _, n := range numbers {
		statements += fmt.Sprintf(`select realtime.send('{"n": %[1]d}', 'sql', 'a'), realtime.send('{"n": %[1]d}', 'sql', 'a', false);`, n)
	}
	return statements
}

func isWithheld(text string) func(frame) bool {
	return func(f frame) bool {
		var p struct{ Message string }
		return isEvent("a", "system")(f) && json.Unmarshal(f.Payload, &p) == nil && p.Message == text
	}
}

// Rights may change while the server is deaf, and change back. Who is not concerned misses nothing; who is is told.
func TestRightsThatChangeInAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members (user_id, room) values ('steady', 'a'), ('lost', 'a'), ('blink', 'a'), ('before', 'a');`)
	join := func(user string, config map[string]any) *client {
		t.Helper()
		c := o.dial(token(t, user, "authenticated", nil))
		if _, status, reason := c.join("a", config); status != "ok" {
			t.Fatalf("%s: %s", user, reason)
		}
		return c
	}
	steady, lost, blink, public := join("steady", private()), join("lost", private()), join("blink", private()), join("public", nil)
	o.exec(`update members set muted = true where user_id = 'before'; update members set muted = false where user_id = 'before'`)
	before := join("before", private()) // its rights changed just now, and its admission saw it
	for round := range 3 {
		o.begin()
		first := 10*round + 1
		o.exec(sends(first))
		o.exec(`delete from members where user_id = 'blink'`)
		o.exec(sends(first + 1))
		o.exec(`insert into members (user_id, room) values ('blink', 'a')`)
		if round == 2 {
			o.exec(`delete from members where user_id = 'lost'`)
		}
		o.exec(sends(first + 2))
		o.end()
		o.exec(sends(first + 3))
		for name, c := range map[string]*client{"steady": steady, "public": public, "before": before, "blink": blink} {
			o.await("the next message for "+name, func() bool { return slices.Contains(numbers(c, "a", "sql"), first+3) })
		}
	}
	want := []int{1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24}
	for name, c := range map[string]*client{"steady": steady, "public": public, "before": before, "blink": blink} {
		if name == "blink" {
			continue
		}
		if got := numbers(c, "a", "sql"); !slices.Equal(got, want) {
			t.Errorf("%s received %v", name, got)
		}
		if n := count(c, isEvent("a", "system")); n != 0 {
			t.Errorf("%s was told of something: %s", name, c.said())
		}
	}
	if got := numbers(blink, "a", "sql"); !slices.Equal(got, []int{4, 14, 24}) {
		t.Errorf("whose right was lost and regained received %v", got)
	}
	withheld := isWithheld(protocol.MessagesWithheld.Reason(3, "your rights changed while they were sent"))
	blink.wait("being told", withheld)
	o.await("being told three times", func() bool { return count(blink, withheld) == 3 })
	lost.wait("the cut", isEvent("a", "phx_close"))
	if got := numbers(lost, "a", "sql"); !slices.Equal(got, []int{1, 2, 3, 4, 11, 12, 13, 14}) {
		t.Errorf("whose right was lost received %v", got)
	}
}

// More than may wait for a subscription that is decided again is not too much to catch up.
func TestManyMessagesOfAnOutage(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members (user_id, room) values ('steady', 'a');`)
	c := o.dial(token(t, "steady", "authenticated", nil))
	if _, status, reason := c.join("a", private()); status != "ok" {
		t.Fatal(reason)
	}
	const n, text = 5000, 100
	if n*text < o.config.MaxQueueBytes/3 {
		t.Fatal("too few to say anything")
	}
	o.begin()
	o.exec(`select realtime.send(jsonb_build_object('n', i, 'text', repeat('x', $2::int)), 'sql', 'a') from generate_series(1, $1::int) as i`, n, text)
	o.end()
	o.exec(`select realtime.send('{}', 'end', 'a')`)
	c.wait("the end", func(f frame) bool { return broadcastOf("a", "end")(f) || isEvent("a", "phx_error")(f) })
	got := numbers(c, "a", "sql")
	for i := range min(n, len(got)) {
		if got[i] != i+1 {
			t.Fatalf("place %d: message %d", i, got[i])
		}
	}
	if len(got) != n {
		t.Errorf("%d messages received, want %d", len(got), n)
	}
}

// What cannot be caught up is at least said, to everyone.
func TestOutageBeyondTheJournal(t *testing.T) {
	t.Parallel()
	o := startWithOutages(t, nil)
	o.exec(allowMembers + `insert into members (user_id, room) values ('u', 'a');`)
	inPrivate, inPublic := o.dial(token(t, "u", "authenticated", nil)), o.dial(token(t, "u", "authenticated", nil))
	for c, config := range map[*client]map[string]any{inPrivate: private(), inPublic: nil} {
		if _, status, reason := c.join("a", config); status != "ok" {
			t.Fatal(reason)
		}
	}
	o.begin()
	o.exec(sends(1))
	o.exec(`select realtime._maintain('0')`)
	o.end()
	for _, c := range []*client{inPrivate, inPublic} {
		c.wait("being told", isWithheld(protocol.MessagesWithheld.Because(protocol.TextMessagesLost)))
	}
	o.exec(sends(2))
	for _, c := range []*client{inPrivate, inPublic} {
		c.wait("the next message", broadcastOf("a", "sql"))
		if got := numbers(c, "a", "sql"); !slices.Equal(got, []int{2}) {
			t.Errorf("received %v", got)
		}
	}
}

// Postgres goes away and comes back. Who has just been let in, by a change of rights just made, misses nothing of what is
// committed before the server is there again.
func TestNothingIsMissedAcrossARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*pgtest.Cluster, context.Context) error{"halted": (*pgtest.Cluster).Halt, "killed": (*pgtest.Cluster).Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.NewCluster(t, pgtest.Options{})
			r := start(t, cluster.DB(t), func(c *Config) { c.MaxDeaf = 10 * patience })
			r.exec(allowMembers + `insert into members (user_id, room) values ('u', 'a');`)
			inPrivate, inPublic := r.dial(token(t, "u", "authenticated", nil)), r.dial(token(t, "u", "authenticated", nil))
			for c, config := range map[*client]map[string]any{inPrivate: private(), inPublic: nil} {
				if _, status, reason := c.join("a", config); status != "ok" {
					t.Fatal(reason)
				}
			}
			r.exec(sends(1, 2, 3))
			inPrivate.wait("the messages before", broadcastOf("a", "sql"))
			if err := end(cluster, t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := cluster.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.db.Admin.Reset()
			r.exec(sends(4, 5, 6))
			for name, c := range map[string]*client{"private": inPrivate, "public": inPublic} {
				r.await("the last message in "+name, func() bool { return slices.Contains(numbers(c, "a", "sql"), 6) })
				if got := numbers(c, "a", "sql"); !slices.Equal(got, []int{1, 2, 3, 4, 5, 6}) {
					t.Errorf("in %s: %v", name, got)
				}
				for _, f := range c.all() {
					if strings.Contains(string(f.Payload), string(protocol.MessagesWithheld)) {
						t.Errorf("in %s: told %s", name, f.Payload)
					}
				}
			}
		})
	}
}
