package migrations_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// way is what realtime._source says: the way, how often it was the WAL alone, how often NOTIFY alone.
const way = `select format('%s %s %s', last_value & 3, last_value >> 2 & 1073741823, last_value >> 32) from realtime._source`

// The way changes so that every server that is alive hears what is said, and none that is dead or does not serve counts.
func TestWaysOfServers(t *testing.T) {
	t.Parallel()
	conn := admin(t, pgtest.New(t))
	node := func(id string, life string) {
		exec(t, conn, fmt.Sprintf(`insert into realtime._nodes (id, name, started_at, expires_at) values ('%s', '%[1]s', now(), now() + interval '%s')`, id, life))
	}
	node("a", "1 h")
	node("dead", "-1 h")
	for _, step := range []struct{ node, by, want string }{
		{"a", "notify", "0 0 0"},
		{"a", "wal", "0 0 0"}, // not before both
		{"stranger", "both", "0 0 0"},
		{"a", "both", "1 0 0"},
		{"stranger", "notify", "1 0 0"},
		{"a", "wal", "2 1 0"},
		{"a", "both", "2 1 0"},
		{"stranger", "notify", "2 1 0"},
		{"a", "wal", "2 1 0"},
		{"b", "notify", "1 1 0"}, // for a still hears by the WAL
		{"a", "wal", "1 1 0"},    // and b does not
		{"b", "both", "1 1 0"},
		{"b", "wal", "2 2 0"},
		{"a", "notify", "1 2 0"},
		{"b", "notify", "0 2 1"},
		{"b", "wal", "0 2 1"},
		{"b", "both", "1 2 1"},
		{"a", "notify", "0 2 2"}, // b was not there yet, and will notice
		{"by hand", "3", "3 2 2"},
		{"b", "both", "2 3 2"},
		{"a", "notify", "0 3 3"},
	} {
		if step.node == "b" && value[int](t, conn, `select count(*) from realtime._nodes where id = 'b'`) == 0 {
			node("b", "1 h")
		}
		if step.node == "by hand" {
			exec(t, conn, `select setval('realtime._source', (last_value & ~3::bigint) + `+step.by+`) from realtime._source`)
			continue
		}
		was := value[string](t, conn, way)
		var before, after int64
		var serves bool
		if err := conn.QueryRow(within(t), `select before, after, exists (select from realtime._nodes where id = $1) from realtime._hear($1, $2)`, step.node, step.by).Scan(&before, &after, &serves); err != nil {
			t.Fatal(err)
		}
		got := value[string](t, conn, way)
		text := func(source int64) string { return fmt.Sprintf("%d %d %d", source&3, source>>2&(1<<30-1), source>>32) }
		if got != step.want || text(after) != got || text(before) != was || serves == (step.node == "stranger") {
			t.Fatalf("%s hears by %s: %s, before that %s, want %s; returned %s and %s; serves %t", step.node, step.by, got, was, step.want, text(before), text(after), serves)
		}
	}
}

// Who may not write messages into the WAL leaves the way as it is: else whoever sends would be refused.
func TestWayOfWhoMayNotWriteMessages(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, `insert into realtime._nodes (id, name, started_at, expires_at) values ('a', 'a', now(), now() + interval '1 h')`,
		`do $$ begin execute (select format('revoke execute on function %s from public', oid::regprocedure) from pg_proc where proname = 'pg_logical_emit_message' and 'text'::regtype = proargtypes[2]); end $$`)
	server, err := pgx.Connect(within(t), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.Background())
	if _, err := server.Exec(within(t), `select realtime._hear('a', 'both')`); err == nil {
		t.Error("the way was changed")
	}
	if got := value[string](t, conn, way); got != "0 0 0" {
		t.Errorf("%s", got)
	}
	exec(t, conn, `select realtime.send('{}', 'e', 't')`)
}

// Messages go the way that is set; marks and disconnects by NOTIFY in any case. Nobody who does not wait for the disk is
// heard later for it, and nobody else waits for anything more.
func TestWhatIsSaidByWhichWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, `create table members (user_id text)`, `select realtime.watch('members', 'user_id')`,
		`select pg_create_logical_replication_slot('said', 'pgoutput', true)`)
	decoded := func() (kinds []string) {
		for _, data := range values[[]byte](t, conn, `
			select data from pg_logical_slot_get_binary_changes('said', null, null, 'proto_version', '1', 'publication_names', 'realtime_feed', 'messages', 'true')
			 where substring(data from 1 for 1) = 'M'`) {
			_, content, _ := bytes.Cut(data, []byte("realtime\x00"))
			kinds = append(kinds, string(content[4:5])) // behind its length
		}
		return kinds
	}
	for way, want := range []struct{ heard, decoded []string }{
		{heard: []string{"m", "r", "d"}},
		{heard: []string{"m", "r", "d"}, decoded: []string{"m", "r", "d"}},
		{heard: []string{"r", "d"}, decoded: []string{"m", "r", "d"}},
	} {
		exec(t, conn, fmt.Sprintf(`select setval('realtime._source', %d)`, way))
		var kinds []string
		for _, payload := range heard(t, db, func() {
			exec(t, conn, `begin`, `set local synchronous_commit = off`, `select realtime.send('{}', 'e', 't')`)
			if got := value[string](t, conn, `show synchronous_commit`); (got == "off") != (way == 0) {
				t.Errorf("way %d: synchronous_commit is %s", way, got)
			}
			exec(t, conn, `insert into members values ('u')`, `select realtime.disconnect('u')`, `commit`,
				`begin`, `savepoint s`, `select realtime.send('{}', 'e', 't')`, `rollback to s`, `commit`)
			exec(t, conn, `begin`, `set local synchronous_commit = remote_apply`, `select realtime.send('{}', 'e', 't')`)
			if got := value[string](t, conn, `show synchronous_commit`); got != "remote_apply" {
				t.Errorf("way %d: synchronous_commit is %s", way, got)
			}
			exec(t, conn, `rollback`)
		}) {
			kinds = append(kinds, payload[:1])
		}
		if got := decoded(); !slices.Equal(kinds, want.heard) || !slices.Equal(got, want.decoded) {
			t.Errorf("way %d: heard %v, want %v; decoded %v, want %v", way, kinds, want.heard, got, want.decoded)
		}
	}
}
