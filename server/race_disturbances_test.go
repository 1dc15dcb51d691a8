package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
)

// disturbance is something that a round may hold besides its transactions and clients. One of a kind at a time; it goes on
// through the rounds that follow for as long as it takes.
type disturbance struct {
	name  string
	every int // rounds, on average
	do    func(r *race, rng *rand.Rand)
}

var disturbances = []disturbance{
	{"revoked and told", 6, (*race).revokedAndTold},
	{"slow policies", 8, (*race).slowPolicy},
	{"policies that raise", 8, (*race).raisingPolicy},
	{"locked by ALTER POLICY", 80, (*race).lockedPolicies},
	{"rights that end", 6, (*race).endingRight},
	{"sync", 6, (*race).syncWithRevocations},
	{"sync with disconnect", 10, (*race).syncWithDisconnect},
	{"shut by DDL", 15, (*race).shutByDDL},
	{"dropped role", 50, (*race).droppedRole},
	{"tables of a moment ago", 40, (*race).tableOfAMomentAgo},
	{"tables of this moment", 40, (*race).tableOfThisMoment},
}

// revokedAndTold takes a right away and sends, one transaction after the other: without marks this is always seen.
func (r *race) revokedAndTold(rng *rand.Rand) {
	room, told := rng.IntN(raceRooms), r.racer("told")
	c, ok := r.admit(told, room)
	defer c.conn.CloseNow()
	if !ok {
		return
	}
	r.revoke(told.name, room)
	n := r.tell(room)
	c.wait("the end of the channel, or what must not come", func(f frame) bool { return isEnd(room)(f) || isNumber(room, n)(f) })
}

// admit has somebody join a room on a new socket.
func (r *race) admit(u *racer, room int) (c *client, ok bool) {
	r.grant(u.name, room, "infinity")
	c = u.dial(r)
	return c, u.joined(r, c, room)
}

func isNumber(room, n int) func(frame) bool {
	return func(f frame) bool {
		return f.Topic == fmt.Sprintf("realtime:room:%d", room) && numberOf(f) == n
	}
}

// isEnd matches the end of a channel.
func isEnd(room int) func(frame) bool {
	topic := fmt.Sprintf("room:%d", room)
	return func(f frame) bool { return isEvent(topic, "phx_close")(f) || isEvent(topic, "phx_error")(f) }
}

// slowPolicy makes the policies of one room slow for a while.
func (r *race) slowPolicy(rng *rand.Rand) { r.mood(20+rng.IntN(raceRooms), rng) }

// raisingPolicy makes the policies raise for one user.
func (r *race) raisingPolicy(rng *rand.Rand) { r.mood(30+rng.IntN(raceUsers), rng) }

// mood is kept in a sequence: no transaction, and nothing that anybody could notice.
func (r *race) mood(mood int, rng *rand.Rand) {
	r.do(`select setval('moods', $1)`, mood)
	r.do(`select pg_sleep($1)`, 0.005+0.1*rng.Float64())
	r.do(`select setval('moods', 1)`)
}

// lockedPolicies has ALTER POLICY wait for a transaction that has realtime.messages locked, and everyone else wait behind it,
// longer than a decision waits for locks, or not.
func (r *race) lockedPolicies(rng *rand.Rand) {
	ctx := context.Background()
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, `lock table realtime.messages in access share mode`); err != nil {
		r.t.Error(err)
		return
	}
	patience := 20 + rng.IntN(1500)
	err = pgx.BeginFunc(ctx, r.pool, func(alter pgx.Tx) error {
		if _, err := alter.Exec(ctx, fmt.Sprintf(`set local lock_timeout = '%d ms'`, patience)); err != nil {
			return err
		}
		_, err := alter.Exec(ctx, `alter policy receive on realtime.messages to authenticated`)
		return err
	})
	if state := postgres.SQLState(err); state != "55P03" && state != "40P01" {
		r.t.Errorf("ALTER POLICY was to wait in vain: %v", err)
	}
	r.steps.Add(1)
}

// endingRight grants a right that ends by itself, and may extend it before. It must be there until its end, and not after it.
func (r *race) endingRight(rng *rand.Rand) {
	room, guest := rng.IntN(raceRooms), r.racer("guest")
	instant := func(in int) (until string) {
		if err := r.pool.QueryRow(context.Background(), `select (clock_timestamp() + $1 * interval '1 ms')::text`, in).Scan(&until); err != nil {
			r.t.Error(err)
		}
		return until
	}
	passed := func(until string) (passed bool) {
		if err := r.pool.QueryRow(context.Background(), `select clock_timestamp() >= $1::timestamptz`, until).Scan(&passed); err != nil {
			r.t.Error(err)
		}
		return passed
	}
	until := instant(100 + rng.IntN(200))
	r.grant(guest.name, room, until)
	c := guest.dial(r)
	defer c.conn.CloseNow()
	if status, reason := guest.ask(r, c, room); status != "ok" {
		if !passed(until) {
			r.violate("guest, whose right ends at %s, is refused in room %d before: %s", until, room, reason)
		}
		r.revoke(guest.name, room)
		return
	}
	if rng.IntN(2) == 0 {
		later := instant(200 + rng.IntN(200))
		r.grant(guest.name, room, later)
		if passed(until) { // too late: it may have been cut between the two
			r.revoke(guest.name, room)
			return
		}
		until = later
	}
	c.wait("the end of the channel", isEnd(room))
	if !passed(until) {
		r.violate("guest, whose right ends at %s, was cut in room %d before", until, room)
	}
	r.revoke(guest.name, room) // the judge knows that it is over
	r.tell(room)
}

// syncWithRevocations revokes, and may grant again, before it calls sync(). Then it is done, once and for all.
func (r *race) syncWithRevocations(rng *rand.Rand) {
	room, user := rng.IntN(raceRooms), r.racer("synced")
	at := membership{user.name, room}
	c, ok := r.admit(user, room)
	defer c.conn.CloseNow()
	if !ok {
		return
	}
	r.revoke(user.name, room)
	regained := rng.IntN(2) == 0
	if regained {
		r.grant(user.name, room, "infinity")
	}
	r.synced()
	_, stands := r.standing()[at]
	if stands && !regained {
		r.violate("sync() is done, and synced is still in room %d without the right", room)
	}
	if stands {
		r.tell(room)
		r.synced()
		if _, still := r.standing()[at]; !still {
			r.violate("synced was cut in room %d by what was committed before sync()", room)
		}
		r.revoke(user.name, room)
		r.synced()
		if _, still := r.standing()[at]; still {
			r.violate("sync() is done, and synced is still in room %d without the right", room)
		}
		return
	}
	if regained {
		r.revoke(user.name, room)
	}
}

// syncWithDisconnect ends sockets, and is done when sync() says so.
func (r *race) syncWithDisconnect(rng *rand.Rand) {
	room, user := rng.IntN(raceRooms), r.racer("ended")
	c, ok := r.admit(user, room)
	defer c.conn.CloseNow()
	if !ok {
		return
	}
	r.do(sqlDisconnect, user.name, user.dialled.Load())
	r.synced()
	if _, still := r.standing()[membership{user.name, room}]; still {
		r.violate("sync() is done, and ended is still in room %d after it was disconnected", room)
	}
	r.tell(room)
	for deadline := time.Now().Add(patience); !c.lost(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.violate("the socket of ended was not closed")
			break
		}
	}
	r.revoke(user.name, room)
}

// fault takes connections of the server away: the listener's, those of the pool, the stream's, or several.
func (r *race) fault() {
	faults := [][]string{{"rowcast listener"}, {"rowcast"}, {"rowcast listener", "rowcast"}}
	if r.source == "wal" {
		faults = append(faults, []string{"rowcast wal"}, []string{"rowcast wal"}, []string{"rowcast wal", "rowcast listener"})
	}
	names := faults[rand.IntN(len(faults))]
	r.do(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = any($1)`, names)
}
