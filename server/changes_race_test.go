package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// Whoever is told that he is subscribed is told of everything that is committed from then on, each once, in its order: while
// somebody writes, others come.
func TestNothingIsMissedOnceSubscribed(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewCluster(t, pgtest.Options{}).DB(t), nil)
	table := r.followed("id int primary key, owner text", `alter table TABLE enable row level security;
		create policy everybody on TABLE for select using (owner is distinct from current_setting('request.jwt.claims', true)::jsonb ->> 'sub')`)
	var begun atomic.Int64
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		for id := int64(1); !stop.Load(); id++ {
			begun.Store(id)
			if _, err := r.db.Admin.Exec(t.Context(), "insert into "+table+" values ($1)", id); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	const joins = 12
	type arrival struct {
		*follower
		since int // begun when he was told that he was subscribed
	}
	arrivals := make([]arrival, joins)
	for i := range arrivals {
		f := r.followAs(versions[i%2], token(t, fmt.Sprint("u", i%5), "authenticated", nil), table, nil)
		f.subscribed(1)
		arrivals[i] = arrival{f, int(begun.Load())}
	}
	stop.Store(true)
	writer.Wait()
	last := int(begun.Load())
	for _, a := range arrivals {
		if last > a.since {
			a.toldOf(last)
		}
		ids := a.ids()
		for i := 1; i < len(ids); i++ {
			if ids[i] != ids[i-1]+1 {
				t.Fatalf("%d follows %d", ids[i], ids[i-1])
			}
		}
		if len(ids) > 0 && ids[0] > a.since+1 || len(ids) == 0 && last > a.since {
			t.Errorf("subscribed when %d was begun, told of %d, the first %v", a.since, len(ids), ids[:min(1, len(ids))])
		}
	}
	t.Logf("%d rows, %d joins", last, joins)
}

// When the stream is lost, whoever follows is told of the gap, and when it has ended.
func TestLostStreamIsAGap(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewCluster(t, pgtest.Options{}).DB(t), nil) // its own: making a slot waits for everybody's transactions
	table := r.followed("id int primary key", "")
	followers := []*follower{r.follow(table, nil), r.followAs("1.0.0", token(t, "u2", "service_role", nil), table, nil)}
	for _, f := range followers {
		f.subscribed(1)
	}
	for round := range 3 {
		r.exec(fmt.Sprintf("insert into %s values (%d)", table, 2*round))
		for _, f := range followers {
			f.toldOf(2 * round)
		}
		r.endStream()
		for _, f := range followers {
			f.subscribed(round + 2)
		}
		r.exec(fmt.Sprintf("insert into %s values (%d)", table, 2*round+1))
		for _, f := range followers {
			f.toldOf(2*round + 1)
		}
	}
	for _, f := range followers {
		var said []string
		for _, m := range f.all() {
			switch {
			case isEvent(table, "system")(m):
				said = append(said, messageOf(m))
			case isEvent(table, "postgres_changes")(m):
				said = append(said, "a change")
			}
		}
		want := []string{protocol.TextSubscribed}
		for range 3 {
			want = append(want, "a change", "PostgresChangesGap: "+protocol.TextGapStream, protocol.TextSubscribed, "a change")
		}
		if !slices.Equal(said, want) {
			t.Errorf("told %q", said)
		}
	}
}

// A slot that outlasts the connection leaves no gap.
func TestDurableSlotLeavesNoGap(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t)
	r := start(t, db, func(c *Config) { c.ChangesSlot = "kept" })
	table := r.followed("id int primary key", "")
	f := r.follow(table, nil)
	f.subscribed(1)
	for round := range 3 {
		r.exec(fmt.Sprintf("insert into %s values (%d)", table, 2*round))
		r.exec(`select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'kept'`)
		r.exec(fmt.Sprintf("insert into %s values (%d)", table, 2*round+1))
		f.toldOf(2*round + 1)
	}
	if ids := f.ids(); !slices.Equal(ids, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("told of %v", ids)
	}
	for _, m := range f.all() {
		if strings.HasPrefix(messageOf(m), "PostgresChangesGap") {
			t.Error(messageOf(m))
		}
	}
}

// Where the WAL cannot be read, who asks for changes is told why and how that is mended; all else goes on.
func TestWithoutLogicalDecoding(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings map[string]string
		spoil    string
		says     string
	}{
		"wal_level": {map[string]string{"wal_level": "replica"}, "select 1", "wal_level is not logical: alter system set wal_level = 'logical', and restart Postgres"},
		"role":      {nil, "alter role rowcast noreplication", `the role may not replicate: alter role "rowcast" replication`},
		"slots":     {map[string]string{"max_replication_slots": "1"}, "select pg_create_physical_replication_slot('taken')", "raise max_replication_slots"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewCluster(t, pgtest.Options{Settings: tt.settings}).DB(t)
			r := start(t, db, nil)
			r.exec(tt.spoil + ";" + allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
			table := r.followed("id int primary key", "")
			f := r.follow(table, nil)
			if said := f.troubled(protocol.PostgresChangesUnavailable); !strings.Contains(said, tt.says) {
				t.Errorf("told %q", said)
			}
			config := private()
			config["postgres_changes"] = []any{map[string]any{"event": "*", "schema": "public", "table": table}}
			joinRef, status, reason := f.join("a", config)
			if status != "ok" {
				t.Fatal(reason)
			}
			if reason := f.refusal(f.broadcast(joinRef, "a")); reason != "" {
				t.Errorf("a broadcast is refused: %s", reason)
			}
			r.exec(`select realtime.send('{}', 'from the database', 'a')`)
			f.wait("a message from the database", broadcastOf("a", "from the database"))
			f.push(joinRef, "realtime:a", "presence", map[string]any{"type": "presence", "event": "track", "payload": map[string]any{}})
			f.wait("the word about changes there", func(m frame) bool {
				return isEvent("a", "system")(m) && strings.Contains(messageOf(m), tt.says)
			})
			if ready, _ := r.health.Answer(t.Context()); !ready {
				t.Error("the server is not ready")
			}
		})
	}
}

// A new token goes on under its own rights, and says so; a channel that ends is told of nothing more.
func TestChangesFollowTheTokenAndTheChannel(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.NewQuiet(t), nil)
	r.exec(allowMembers + `insert into members (user_id, room) values ('u1', 'a')`)
	table := r.followed("id int primary key, owner text", `alter table TABLE enable row level security;
		create policy own on TABLE for select using (owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub')`)
	f := r.follow(table, nil)
	f.subscribed(1)
	fence := r.follow(table, nil)
	fence.subscribed(1)
	f.push(f.joinRef, "realtime:"+table, "access_token", map[string]any{"access_token": token(t, "u2", "authenticated", nil)})
	f.subscribed(2)
	r.exec("insert into " + table + " values (1, 'u1'), (2, 'u2')")
	f.toldOf(2)
	fence.toldOf(1)
	f.push(f.joinRef, "realtime:"+table, "access_token", map[string]any{"access_token": "nonsense"})
	f.wait("the end", isEvent(table, "phx_close"))
	r.exec("insert into " + table + " values (3, 'u1'), (4, 'u2')")
	fence.toldOf(3)
	if ids := f.ids(); !slices.Equal(ids, []int{2}) {
		t.Errorf("told of %v", ids)
	}
	if ids := fence.ids(); !slices.Equal(ids, []int{1, 3}) {
		t.Errorf("the other is told of %v", ids)
	}
}

// A durable slot that was dropped, because it held back too much, is a gap.
func TestDroppedSlotIsAGap(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{}).DB(t)
	r := start(t, db, func(c *Config) { c.ChangesSlot, c.MaxSlotWALBytes = "kept", 0 })
	table := r.followed("id int primary key", "")
	f := r.follow(table, nil)
	f.subscribed(1)
	r.exec("insert into " + table + " values (1)")
	f.toldOf(1)
	keeper := r.keptSlot()
	keeper.most = 1
	r.await("the slot to be dropped", func() bool {
		r.exec("select pg_logical_emit_message(true, 'test', repeat('x', 100000))")
		if err := keeper.look(t.Context()); err != nil {
			t.Log(err) // whoever reads it came first
		}
		return metricstest.Value(t, r.metrics, "realtime_changes_slot_drops_total", "") > 0
	})
	f.troubled(protocol.PostgresChangesGap)
	f.subscribed(2)
	r.exec("insert into " + table + " values (2)")
	f.toldOf(2)
}
