package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/auth"
	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

// The race: writers revoke, grant, send and disconnect in transactions of all shapes, while users join, send and refresh
// their tokens. A round is a number of these at a time. Disturbances (race_disturbances_test.go) begin in rounds chosen at
// random and take as many as they need. Afterwards the database tells in which order the transactions committed, and what
// users received is held against it (race_judge_test.go): no message committed while its receiver had no right.

const (
	raceUsers   = 4
	raceRooms   = 2
	raceWriters = 8        // transactions at a time
	raceActors  = 4        // clients that join, send and refresh meanwhile
	raceStretch = 4        // what each of them does before the others are waited for
	raceRounds  = 125      // of each of four races; RACE_ROUNDS is another number
	raceFaults  = 8        // one round in so many has the server lose connections
	steadyUser  = "steady" // never revoked: must receive everything, once and in order
)

type raceOptions struct {
	seed     uint64 // of what is done; how it interleaves is another matter
	faulty   bool   // the server loses connections
	source   string // by which it hears
	triggers bool   // DDL is noticed when it commits
	seams    seams
	poll     time.Duration // of the digest; default 50 ms
}

type race struct {
	*running
	raceOptions
	role   string        // of the users whom the writers are after
	gone   string        // a role that comes and goes
	pool   *pgxpool.Pool // as a superuser
	slot   string        // keeps the order of commits
	said   func() string // the server's log
	rng    *rand.Rand
	racers []*racer // all of them; the first raceUsers are whom the writers are after
	counts []int    // how often each disturbance was begun

	next  atomic.Int64 // number of the last message
	steps atomic.Int64 // transactions committed or rolled back on purpose, and things that clients did

	mu         sync.Mutex // guards violations
	violations []string
}

func TestRaceOfRevocations(t *testing.T) {
	t.Parallel()
	rounds := raceRounds
	if n, err := strconv.Atoi(os.Getenv("RACE_ROUNDS")); err == nil {
		rounds = n
	}
	seed := raceSeed()
	for name, o := range raceKinds(seed) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRace(t, o)
			began := time.Now()
			violations, messages, deliveries := r.run(rounds, disturbances)
			t.Logf("%d steps, %.0f a second; seed %d; event triggers: %t; %s",
				r.steps.Load(), float64(r.steps.Load())/time.Since(began).Seconds(), seed, r.triggers, r.begun(disturbances))
			count := func(name string) float64 { return counter(t, r.running, "realtime_"+name+"_total") }
			t.Logf("heard by the WAL %v times, %v alarms", metricstest.Value(t, r.metrics, "realtime_feed_switches_total", "stream_heard"), count("feed_alarms"))
			t.Logf("%d rounds of %d transactions at a time: %d messages and %d deliveries to those whose rights come and go judged, %v subscriptions marked, %v frames withheld; %v connections of the listener, %v messages and marks caught up; %d violations",
				rounds, raceWriters, messages, deliveries, count("marked_subscriptions"), count("withheld"), count("feed_reconnects"), count("feed_caught_up"), len(violations))
			for _, v := range violations {
				t.Error(v)
			}
		})
	}
}

// raceKinds are the four races: on both sources, and with and without faults.
func raceKinds(seed uint64) map[string]raceOptions {
	kinds := map[string]raceOptions{}
	for i, source := range []string{"notify", "wal"} {
		for name, faulty := range map[string]bool{"undisturbed": false, "with faults": true} {
			kinds[name+", "+source] = raceOptions{seed: seed, faulty: faulty, source: source, triggers: faulty == ((seed+uint64(i))%2 == 0)}
		}
	}
	return kinds
}

// Without marks, and without the check of verdicts, the same race must find violations, or it proves nothing.
func TestRaceFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	unchanged := func(s feed.Sink) feed.Sink { return s }
	tests := []struct {
		name  string
		seams seams
		shows disturbance
	}{
		{"marks", seams{sink: func(s feed.Sink) feed.Sink { return unmarked{s} }, rights: func(r auth.Rights) auth.Rights { return r }}, disturbance{"revoked and told", 1, (*race).revokedAndTold}},
		{"check of verdicts", seams{sink: unchanged, rights: func(auth.Rights) auth.Rights { return nil }}, disturbance{"tables of a moment ago", 1, (*race).tableOfAMomentAgo}},
	}
	for _, tt := range tests {
		for name, o := range raceKinds(raceSeed()) {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				t.Parallel()
				for range 5 { // a connection that is lost at the right moment has everybody decided again
					o.seed, o.triggers, o.seams, o.poll = raceSeed(), false, tt.seams, time.Hour
					r := newRace(t, o)
					violations, _, _ := r.run(20, []disturbance{tt.shows})
					t.Logf("%d violations; %s; seed %d", len(violations), r.begun([]disturbance{tt.shows}), r.seed)
					if len(violations) > 0 {
						return
					}
				}
				t.Error("no violation was found")
			})
		}
	}
}

// raceSeed is RACE_SEED, or any.
func raceSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("RACE_SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64()
}

// unmarked is a sink that forgets marks.
type unmarked struct{ feed.Sink }

func (unmarked) Mark(feed.Mark) {}

// raceSchema has the users whom writers are after in a role of their own, for which DDL opens and shuts everything, and
// policies that can be slow, or raise, for some.
const raceSchema = `
	grant %[1]s to rowcast;
	create table members (user_id text, room_id int, until timestamptz, primary key (user_id, room_id));
	grant select on members to authenticated, %[1]s;
	create table history (xid xid8 not null default pg_current_xact_id(), seq bigint generated always as identity,
		kind text, user_id text, room_id int, message int, until timestamptz);
	create sequence moods;
	create function mood() returns boolean language plpgsql stable security definer as $$
	declare mood text := (select last_value from public.moods)::text; begin
		if mood = '2' || right(realtime.topic(), 1) then perform pg_sleep(0.005 + random() * 0.045); end if;
		if mood = '3' || substring(current_setting('request.jwt.claim.sub', true) from '^u(.)$') then raise exception 'not in the mood'; end if;
		return true;
	end $$;
	create function open() returns boolean language sql stable as $$ select true $$;
	revoke execute on function open() from public;
	grant execute on function open() to %[1]s;
	create function member() returns boolean language sql stable as $$
		select exists (select from public.members m where m.user_id = (select current_setting('request.jwt.claim.sub', true))
			and (select realtime.topic()) = 'room:' || m.room_id and (m.until is null or realtime.valid_until(m.until))) $$;
	create policy receive on realtime.messages for select to authenticated using (public.member() and public.mood());
	create policy send on realtime.messages for insert to authenticated with check (public.member() and public.mood());
	create policy receive_open on realtime.messages for select to %[1]s using (public.open() and public.member() and public.mood());
	create policy send_open on realtime.messages for insert to %[1]s with check (public.open() and public.member() and public.mood());
	grant select, insert on realtime.messages to %[1]s;
	select realtime.watch('members', 'user_id', 'room:{room_id}');`

func newRace(t *testing.T, o raceOptions) *race {
	db := pgtest.NewQuiet(t)
	r := &race{raceOptions: o, role: db.NewRole(t, "nologin"), rng: rand.New(rand.NewPCG(1, o.seed))}
	r.gone = r.role + "_gone"
	config, err := pgxpool.ParseConfig(db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 2 * raceWriters
	config.ConnConfig.RuntimeParams["deadlock_timeout"] = "20ms" // DDL and writers meet
	if r.pool, err = pgxpool.NewWithConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.pool.Close)
	t.Cleanup(func() {
		if _, err := r.pool.Exec(context.Background(), "drop role if exists "+r.gone); err != nil {
			t.Error(err)
		}
	})
	schema := fmt.Sprintf(goneRole, r.gone) + fmt.Sprintf(raceSchema, r.role)
	if r.triggers {
		schema += sql.EventTriggers
	}
	if _, err := r.pool.Exec(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	if o.seams.sink == nil {
		o.seams = seams{sink: func(s feed.Sink) feed.Sink { return s }, rights: func(r auth.Rights) auth.Rights { return r }}
	}
	o.seams.feed = func(f *feed.Options) { f.StreamRetry = 50 * time.Millisecond }
	c := testConfig(db)
	c.FeedSource = o.source
	c.AllowedRoles = append(c.AllowedRoles, r.role, r.gone)
	c.MaxJoinsPerSecond, c.MaxEventsPerSecond = 0, 0
	c.RightsPollInterval, c.RecheckInterval = cmp.Or(o.poll, 50*time.Millisecond), 0
	said, logger := heardLog() // connections are lost by the hundred
	r.said = said
	in, err := newInstanceVia(context.Background(), c, logger, o.seams)
	if err != nil {
		t.Fatal(err)
	}
	r.running = launch(t, db, in)
	r.awaitReady()
	r.keepOrder()
	for i := range raceUsers {
		r.racers = append(r.racers, &racer{name: "u" + strconv.Itoa(i), role: r.role, shuttable: true})
	}
	for name, role := range map[string]string{steadyUser: "authenticated", "guest": "authenticated", "synced": "authenticated", "ended": "authenticated",
		"told": "authenticated", "canary": r.role, "gone": r.gone, "fresh": "authenticated", "newer": "authenticated"} {
		r.racers = append(r.racers, &racer{name: name, role: role, shuttable: role == r.role})
	}
	return r
}

// racer finds one by name.
func (r *race) racer(name string) *racer {
	for _, u := range r.racers {
		if u.name == name {
			return u
		}
	}
	panic("no racer " + name)
}

// violate notes what must not be.
func (r *race) violate(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// run plays the rounds and judges.
func (r *race) run(rounds int, disturbances []disturbance) (violations []string, messages, deliveries int) {
	steady := r.racer(steadyUser)
	for _, u := range r.racers[:raceUsers] {
		u.dial(r)
	}
	socket := steady.dial(r)
	for room := range raceRooms {
		r.grant(steadyUser, room, "infinity")
		steady.joined(r, socket, room)
	}
	r.counts = make([]int, len(disturbances))
	busy := make([]atomic.Bool, len(disturbances))
	var background sync.WaitGroup
	for round := range rounds {
		if round%25 == 0 { // or the server takes who is silent for gone
			for _, u := range append(r.racers[:raceUsers:raceUsers], steady) {
				u.heartbeat()
			}
			r.place()
		}
		for i, d := range disturbances {
			rng := rand.New(rand.NewPCG(r.rng.Uint64(), 3))
			if rng.IntN(d.every) == 0 && busy[i].CompareAndSwap(false, true) {
				r.counts[i]++
				background.Go(func() { defer busy[i].Store(false); d.do(r, rng) })
			}
		}
		var group sync.WaitGroup
		for range raceWriters {
			rng := rand.New(rand.NewPCG(r.rng.Uint64(), 1))
			group.Go(func() {
				for range raceStretch {
					r.write(rng)
				}
			})
		}
		for range raceActors {
			rng := rand.New(rand.NewPCG(r.rng.Uint64(), 2))
			group.Go(func() {
				for range raceStretch {
					r.act(rng, r.racers[rng.IntN(raceUsers)])
				}
			})
		}
		if r.faulty && r.rng.IntN(raceFaults) == 0 {
			group.Go(r.fault)
		}
		group.Wait()
	}
	background.Wait()
	r.settle()
	messages, deliveries = r.judge()
	return r.violations, messages, deliveries
}

// begun tells how often what was.
func (r *race) begun(disturbances []disturbance) string {
	var all []string
	for i, d := range disturbances {
		all = append(all, fmt.Sprintf("%s %d", d.name, r.counts[i]))
	}
	return strings.Join(all, ", ")
}

// do is one transaction of a disturbance.
func (r *race) do(sql string, args ...any) {
	r.t.Helper()
	for {
		_, err := r.pool.Exec(context.Background(), sql, args...)
		if postgres.SQLState(err) == "40P01" { // it met writers, and is the one that was rolled back
			continue
		}
		if err != nil {
			r.t.Errorf("%s: %v", sql, err)
		}
		r.steps.Add(1)
		return
	}
}

// settle ends what still moves, and checks that in the end everyone is decided, and rightly.
func (r *race) settle() {
	r.do(`select setval('moods', 1)`)
	r.do(`with d as (delete from members where isfinite(until) returning *) insert into history (kind, user_id, room_id) select 'revoke', user_id, room_id from d`)
	r.synced()
	standing := r.standing()
	// Somebody else's roles, in another database of this Postgres, may have cast doubt on everybody a moment ago.
	for limit := time.Now().Add(patience); slices.Contains(slices.Collect(maps.Values(standing)), false) && time.Now().Before(limit); standing = r.standing() {
		r.synced()
	}
	for s, decided := range standing {
		if !decided {
			r.violate("in the end %s is still in doubt about room %d", s.user, s.room)
		}
		if !r.isMember(s) {
			r.violate("in the end %s is in room %d without the right", s.user, s.room)
		}
	}
	for room := range raceRooms {
		for _, u := range r.racers[:raceUsers] {
			socket := u.use(r)
			status, reason := u.ask(r, socket, room)
			if want := r.isMember(membership{u.name, room}); (status == "ok") != want {
				r.violate("in the end %s joins room %d: %s %s, but member is %t", u.name, room, status, reason, want)
			}
		}
		topic := fmt.Sprintf("room:%d", room)
		r.do(`select realtime.send('{}', 'end', $1)`, topic)
		for _, u := range append(r.racers[:raceUsers:raceUsers], r.racer(steadyUser)) {
			if r.isMember(membership{u.name, room}) {
				u.use(r).wait("the end", broadcastOf(topic, "end"))
			}
		}
	}
	for _, u := range r.racers {
		u.answered(r)
	}
}

func (r *race) isMember(m membership) (is bool) {
	if err := r.pool.QueryRow(context.Background(), `select exists (select from members where user_id = $1 and room_id = $2)`, m.user, m.room).Scan(&is); err != nil {
		r.t.Error(err)
	}
	return is
}

// standing is who is in which room on the server, and whether that is decided.
func (r *race) standing() map[membership]bool {
	all := map[membership]bool{}
	for s := range r.sessions() {
		m := membership{user: s.Subject}
		if _, err := fmt.Sscanf(s.Topic, "room:%d", &m.room); err == nil {
			decided, before := all[m]
			all[m] = !s.InDoubt && (decided || !before)
		}
	}
	return all
}

// synced waits until the server has done all that was committed.
func (r *race) synced() {
	r.t.Helper()
	if !r.sync(r.pool, time.Minute) {
		r.violate("sync() gave up after a minute")
	}
	r.steps.Add(1)
}
