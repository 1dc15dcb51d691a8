package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/protocol"
)

// What the race's writers do in the database, and users on their sockets.

// write is one transaction: a few statements, perhaps in a savepoint, perhaps rolled back.
func (r *race) write(rng *rand.Rand) {
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		for range 1 + rng.IntN(3) {
			if err := r.statement(ctx, tx, rng); err != nil {
				return err
			}
		}
		if rng.IntN(10) == 0 {
			return errRollback
		}
		return nil
	})
	switch {
	case err == nil || err == errRollback:
		r.steps.Add(1)
	case postgres.SQLState(err) == "40P01": // writers meet; one of them is rolled back
	default:
		r.t.Error(err)
	}
}

var errRollback = fmt.Errorf("rolled back on purpose")

// statement writes to history what it did, in its place. What changed nothing is not written: it took no lock, so the
// order of commits says nothing about it.
func (r *race) statement(ctx context.Context, tx pgx.Tx, rng *rand.Rand) error {
	u, room := r.racers[rng.IntN(raceUsers)], rng.IntN(raceRooms)
	if rng.IntN(5) == 0 {
		err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
			if err := r.statement(ctx, savepoint, rng); err != nil || rng.IntN(3) > 0 {
				return err
			}
			return errRollback
		})
		if err == errRollback {
			err = nil
		}
		return err
	}
	var err error
	switch rng.IntN(100) / 20 {
	case 0:
		_, err = tx.Exec(ctx, sqlRevoke, u.name, room)
	case 1, 2:
		until := "infinity"
		if rng.IntN(8) == 0 {
			until = time.Now().Add(time.Duration(rng.IntN(500)) * time.Millisecond).Format(time.RFC3339Nano)
		}
		_, err = tx.Exec(ctx, sqlGrant, u.name, room, until)
	default:
		if rng.IntN(100) == 0 {
			_, err = tx.Exec(ctx, sqlDisconnect, u.name, u.dialled.Load())
			break
		}
		_, err = tx.Exec(ctx, sqlSend, r.next.Add(1), room)
	}
	return err
}

const (
	sqlRevoke = `with d as (delete from members where user_id = $1 and room_id = $2 returning *)
		insert into history (kind, user_id, room_id) select 'revoke', user_id, room_id from d`
	// What has no end is left alone; what has one is given another.
	sqlGrant = `with g as (insert into members as m values ($1, $2, nullif($3::timestamptz, 'infinity'))
			on conflict (user_id, room_id) do update set until = excluded.until where m.until is not null returning *)
		insert into history (kind, user_id, room_id, until) select 'grant', user_id, room_id, until from g`
	sqlSend = `with s as materialized (select realtime.send(jsonb_build_object('n', $1::int), 'sql', 'room:' || $2::int))
		insert into history (kind, room_id, message) select 'send', $2, $1 from s`
	// What is noted is how many sockets the user has opened by now: these are closed for certain.
	sqlDisconnect = `with d as materialized (select realtime.disconnect($1))
		insert into history (kind, user_id, room_id, message) select 'disconnect', $1, 0, $2 from d`
)

// grant, revoke and tell are transactions of disturbances.
func (r *race) grant(user string, room int, until string) { r.do(sqlGrant, user, room, until) }
func (r *race) revoke(user string, room int)              { r.do(sqlRevoke, user, room) }
func (r *race) tell(room int) (message int) {
	message = int(r.next.Add(1))
	r.do(sqlSend, message, room)
	return message
}

// racer is a user, with one socket after the other.
type racer struct {
	name, role string
	shuttable  bool         // DDL of disturbances takes the role's rights away
	dialled    atomic.Int32 // how many sockets are open, or were

	mu      sync.Mutex // guards all below: two actors may have drawn the same user
	sockets []*client
	joins   [raceRooms]string // join_ref of the last join on the last socket, by room
	asked   map[*client][]string
}

func (u *racer) dial(r *race) *client {
	c := r.running.dial(token(r.t, u.name, u.role, nil))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opened(c)
	return c
}

func (u *racer) opened(c *client) {
	u.sockets = append(u.sockets, c)
	u.dialled.Add(1)
	u.joins = [raceRooms]string{}
}

// use is the last socket, or another one if that was closed.
func (u *racer) use(r *race) *client {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.useLocked(r)
}

func (u *racer) useLocked(r *race) *client {
	if c := u.sockets[len(u.sockets)-1]; !c.lost() {
		return c
	}
	u.opened(r.running.dial(token(r.t, u.name, u.role, nil)))
	return u.sockets[len(u.sockets)-1]
}

func (c *client) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

func (u *racer) heartbeat() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sockets[len(u.sockets)-1].push("", protocol.HeartbeatTopic, protocol.EventHeartbeat, map[string]any{})
}

// act is one thing that a client does.
func (r *race) act(rng *rand.Rand, u *racer) {
	room := rng.IntN(raceRooms)
	topic := fmt.Sprintf("realtime:room:%d", room)
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.useLocked(r)
	switch rng.IntN(4) {
	case 0, 1:
		u.join(c, room)
	case 2:
		c.push(u.joins[room], topic, "broadcast", map[string]any{"type": "broadcast", "event": "client", "payload": map[string]any{"from": u.name}})
	case 3:
		c.push(u.joins[room], topic, "access_token", map[string]any{"access_token": token(r.t, u.name, u.role, map[string]any{"jti": rng.Uint64()})})
	}
	r.steps.Add(1)
}

// join is called with u.mu held.
func (u *racer) join(c *client, room int) (ref string) {
	ref = c.push("", fmt.Sprintf("realtime:room:%d", room), "phx_join", map[string]any{"config": private()})
	u.joins[room] = ref
	if u.asked == nil {
		u.asked = map[*client][]string{}
	}
	u.asked[c] = append(u.asked[c], ref)
	return ref
}

// ask joins until the database can be asked, and gives the answer.
func (u *racer) ask(r *race, c *client, room int) (status, reason string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(retryPause) {
		u.mu.Lock()
		ref := u.join(c, room)
		u.mu.Unlock()
		status, response := c.reply(ref)
		r.steps.Add(1)
		if !notNow(string(response)) || time.Now().After(deadline) {
			return status, string(response)
		}
	}
}

// retryPause is between two attempts to join, as clients make them.
const retryPause = 10 * time.Millisecond

// notNow tells whether a join was answered with trouble.
func notNow(response string) bool {
	return strings.Contains(response, string(protocol.UnableToConnectToProject)) || strings.Contains(response, string(protocol.Deaf))
}

// joined joins who has the right to.
func (u *racer) joined(r *race, c *client, room int) bool {
	status, reason := u.ask(r, c, room)
	if status != "ok" {
		r.violate("%s has the right to join room %d: %s %s", u.name, room, status, reason)
	}
	return status == "ok"
}

// answered checks that every join was, on sockets that are open.
func (u *racer) answered(r *race) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for c, refs := range u.asked {
		if c.lost() {
			continue
		}
		answered := map[string]bool{}
		for _, f := range c.all() {
			if f.Event == "phx_reply" && f.Ref != nil {
				answered[*f.Ref] = true
			}
		}
		for _, ref := range refs {
			if !answered[ref] {
				r.violate("%s: join %s was not answered", u.name, ref)
			}
		}
	}
}

// numbersOf gives the numbers of the database's messages on a socket, by room, in the order of their arrival.
func numbersOf(c *client) (numbers [raceRooms][]int) {
	for _, f := range c.all() {
		var room int
		if n := numberOf(f); n > 0 {
			if _, err := fmt.Sscanf(f.Topic, "realtime:room:%d", &room); err == nil {
				numbers[room] = append(numbers[room], n)
			}
		}
	}
	return numbers
}

// numberOf is the number of a message that writers sent; 0: it is none.
func numberOf(f frame) int {
	var p struct {
		Event   string
		Payload struct{ N int }
	}
	if f.Event != "broadcast" || json.Unmarshal(f.Payload, &p) != nil || p.Event != "sql" {
		return 0
	}
	return p.Payload.N
}
