package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

// How the race is judged: by the order of commits in the WAL. (The times of commits say nothing: clocks are set back.)

// keepOrder has the WAL kept from here on, and a place for the commits that are in the history.
func (r *race) keepOrder() {
	r.t.Helper()
	var database string
	err := r.pool.QueryRow(r.t.Context(), "select current_database()").Scan(&database)
	r.slot = "race_" + database[max(0, len(database)-16):]
	for _, statement := range []string{"create publication race for table history with (publish = 'insert')",
		"create table places (place bigint generated always as identity, xid xid)"} {
		if err == nil {
			_, err = r.pool.Exec(r.t.Context(), statement)
		}
	}
	if err == nil {
		_, err = r.pool.Exec(r.t.Context(), "select pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if _, err := r.pool.Exec(context.Background(), "select pg_drop_replication_slot($1)", r.slot); err != nil {
			r.t.Error(err)
		}
	})
}

// place notes the order of the commits so far, so that their WAL need not be kept.
func (r *race) place() {
	r.t.Helper()
	if _, err := r.pool.Exec(context.Background(), `insert into places (xid)
		select xid from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'race')
		 where get_byte(data, 0) = ascii('B')`, r.slot); err != nil {
		r.t.Errorf("read the order of commits: %v", err)
	}
}

// endMargin is how much later than the instant a right that ends by itself may be seen to end, here, where everything
// happens at once. Disturbance "rights that end" waits for each end and is exact from then on.
const endMargin = 5 * time.Second

// event is a line of the history, in the order of commits and, within one, of statements.
type event struct {
	xid           int64
	at            time.Time // of its COMMIT
	kind, user    string
	room, message int
	until         *time.Time
}

// membership is a user's right in a room.
type membership struct {
	user string
	room int
}

// state is who may what at a moment.
type state struct {
	members map[membership]*time.Time // until when; nil: without end
	since   map[string]int            // the first socket that was opened after the user was disconnected
	shut    bool                      // nobody of the role has a right, members or not
}

func (s state) clone() state { return state{maps.Clone(s.members), maps.Clone(s.since), s.shut} }

func (s *state) apply(e event) {
	switch e.kind {
	case "grant":
		s.members[membership{e.user, e.room}] = e.until
	case "revoke":
		delete(s.members, membership{e.user, e.room})
	case "disconnect":
		s.since[e.user] = max(s.since[e.user], e.message)
	case "shut", "open":
		s.shut = e.kind == "shut"
	}
}

// first is the first of the user's sockets that may be told in a room.
func (s *state) first(u *racer, room int, at time.Time) (socket int, ok bool) {
	until, ok := s.members[membership{u.name, room}]
	return s.since[u.name], ok && (until == nil || at.Before(until.Add(endMargin))) && !(s.shut && u.shuttable)
}

// mayHave is the first socket of each user that may be told a message; who has no right is not in it.
type mayHave map[string]map[int]int

// rightsBy replays the history: who had the right when a message was sent. A transaction that takes a right and gives it
// back never took it away: rights are lost at COMMIT, and at its COMMIT there was none to lose.
func rightsBy(history []event, users []*racer) mayHave {
	had := mayHave{}
	for _, u := range users {
		had[u.name] = map[int]int{}
	}
	now := state{map[membership]*time.Time{}, map[string]int{}, false}
	for len(history) > 0 {
		n := 1
		for n < len(history) && history[n].xid == history[0].xid {
			n++
		}
		before := now.clone()
		after := now.clone()
		for _, e := range history[:n] {
			after.apply(e)
		}
		for _, e := range history[:n] {
			if e.kind != "send" {
				now.apply(e)
				continue
			}
			for _, u := range users {
				if socket, ok := now.first(u, e.room, e.at); ok {
					had[u.name][e.message] = socket
				}
				if socket, ok := before.first(u, e.room, e.at); ok {
					if _, kept := after.first(u, e.room, e.at); kept {
						had[u.name][e.message] = socket
					}
				}
			}
		}
		history = history[n:]
	}
	return had
}

// judge holds what users received against the history. deliveries are those to users whose rights come and go.
func (r *race) judge() (messages, deliveries int) {
	r.place()
	rows, err := r.pool.Query(context.Background(), `select h.xid::text::bigint, pg_xact_commit_timestamp(h.xid::xid), kind, coalesce(user_id, ''), room_id,
		coalesce(message, 0), until from history h left join places p on p.xid = h.xid::xid order by place, seq`)
	if err != nil {
		r.t.Fatal(err)
	}
	history, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event, err error) {
		return e, row.Scan(&e.xid, &e.at, &e.kind, &e.user, &e.room, &e.message, &e.until)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 1; i < len(history); i++ {
		if history[i].at.Before(history[i-1].at) {
			r.t.Logf("by the clock, transaction %d committed %s before %d, which was before it", history[i].xid, history[i-1].at.Sub(history[i].at), history[i-1].xid)
		}
	}
	had := rightsBy(history, r.racers)
	var sent [raceRooms][]event
	for _, e := range history {
		if e.kind == "send" {
			messages++
			sent[e.room] = append(sent[e.room], e)
		}
	}
	for _, u := range r.racers {
		for i, socket := range u.sockets {
			for room, numbers := range numbersOf(socket) {
				if u.name != steadyUser {
					deliveries += len(numbers)
				}
				for _, n := range numbers {
					switch first, ok := had[u.name][n]; {
					case !ok:
						r.violate("%s received message %d of room %d without the right: %s", u.name, n, room, lately(history, u, room, n))
					case i < first:
						r.violate("%s received message %d of room %d on socket %d, after it was disconnected; it has opened %d since", u.name, n, room, i, len(u.sockets)-first)
					}
				}
				if u.name == steadyUser {
					r.complete(room, sent[room], numbers, r.withheld(socket, room))
				}
			}
		}
	}
	return messages, deliveries
}

// lately is what happened to a user's right before a message was sent.
func lately(history []event, u *racer, room, message int) string {
	const most = 4
	var all []string
	for _, e := range history {
		switch {
		case e.kind == "send" && e.message == message:
			return fmt.Sprintf("%s, sent by transaction %d of %s", strings.Join(all[max(0, len(all)-most):], ", "), e.xid, e.at.Format(clockFormat))
		case e.user == u.name && (e.room == room || e.kind == "disconnect"), u.shuttable && (e.kind == "shut" || e.kind == "open"):
			all = append(all, fmt.Sprintf("%s by transaction %d of %s", e.kind, e.xid, e.at.Format(clockFormat)))
		}
	}
	return "it was never sent"
}

// clockFormat is fine enough to tell transactions apart.
const clockFormat = "15:04:05.000000"

// withheld is how many messages of a room were said to be withheld from a member who never lost a right: DDL marks
// everyone, and of what falls between two marks nobody can say.
func (r *race) withheld(c *client, room int) (all int) {
	for _, f := range c.all() {
		if f.Topic != fmt.Sprintf("realtime:room:%d", room) {
			continue
		}
		n := 0
		if at := bytes.Index(f.Payload, []byte(string(protocol.MessagesWithheld))); at >= 0 {
			_, _ = fmt.Sscanf(string(f.Payload[at+len(protocol.MessagesWithheld):]), ": %d messages", &n)
			all += n
		}
		if f.Event == protocol.EventClose || f.Event == protocol.EventError || bytes.Contains(f.Payload, []byte(protocol.MessagesWithheld)) && n == 0 {
			r.violate("the steady user was told %s %s", f.Event, f.Payload)
		}
	}
	return all
}

// outages tells whether something was caught up with: by faults, or because a busy machine was taken for one.
func (r *race) outages() bool {
	return r.faulty || metricstest.Value(r.t, r.metrics, "realtime_feed_switches_total", "stream_heard") > 1
}

// complete checks that a member who never lost a right was given everything that was not said to be withheld: in the order of
// commits, or, where connections were lost, once, and in the order of statements within a transaction.
func (r *race) complete(room int, sent []event, received []int, withheld int) {
	place := map[int]int{}
	for i, n := range received {
		if _, twice := place[n]; twice {
			r.violate("room %d: the steady user received message %d twice", room, n)
		}
		place[n] = i
	}
	var missing []int
	var last event // of those that were received
	for _, e := range sent {
		at, ok := place[e.message]
		if !ok {
			missing = append(missing, e.message)
			continue
		}
		if last.message > 0 && at < place[last.message] && (!r.outages() || last.xid == e.xid) {
			r.violate("room %d: the steady user received message %d before %d", room, e.message, last.message)
		}
		last = e
	}
	if len(missing) > withheld {
		r.violate("room %d: the steady user did not receive messages %d, and was told of %d withheld", room, missing, withheld)
	}
	if len(received) > len(sent) {
		r.violate("room %d: %d messages sent, %d received", room, len(sent), len(received))
	}
}
