package migrations_test

import (
	"slices"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// What users are told, and who they are, is for the server alone. It is forgotten after a day, and whoever has been away for
// longer learns that something is missing.
func TestDisconnectsAreKeptForADay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "select realtime.disconnect('old'), realtime.disconnect('new', 'because')",
		"update realtime._disconnects set inserted_at = inserted_at - interval '25 hours' where subject = 'old'",
		"insert into realtime._disconnects (xid, subject) values ('999999999', 'brought by a dump')",
		"select realtime._maintain(null)")
	if got := values[string](t, conn, "select subject || ' ' || reason from realtime._disconnects"); !slices.Equal(got, []string{"new because"}) {
		t.Errorf("left: %q", got)
	}
	if !value[bool](t, conn, "select exists (select from realtime._dropped where upto >= (select xid from realtime._disconnects))") {
		t.Error("it is not known that one was dropped")
	}
	exec(t, conn, "set role authenticated")
	refused(t, conn, "42501", "_disconnects", "select * from realtime._disconnects")
	refused(t, conn, "42501", "_disconnects", "insert into realtime._disconnects (xid, subject) values ('1', 'u')")
	refused(t, conn, "42501", "disconnect", "select realtime.disconnect('u')")
	refused(t, conn, "42501", "sync", "select realtime.sync()")
}

// A member of the server's role needs no rights of its own.
func TestMembersMaySync(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "set role dba", "select realtime.disconnect('u')")
	if !value[bool](t, conn, "select realtime.sync('0')") {
		t.Error("somebody was waited for where nobody serves")
	}
	exec(t, conn, "reset role", "insert into realtime._nodes (id, name, started_at, expires_at) values ('n', 'n', now(), now() + interval '1 hour'), ('gone', 'gone', now(), now())", "set role dba")
	if value[bool](t, conn, "select realtime.sync('50 ms')") {
		t.Error("true, though a server has said nothing")
	}
	exec(t, conn, "reset role", "update realtime._nodes set synced = 1000 where id = 'n'", "set role dba")
	if !value[bool](t, conn, "select realtime.sync('50 ms')") {
		t.Error("false, though all who serve have said so")
	}
}

// An answer to the call before is none to this one; one to this call is.
func TestSyncWantsItsOwnNumber(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := admin(t, db)
	exec(t, conn, "insert into realtime._nodes (id, name, started_at, expires_at) values ('n', 'n', now(), now() + interval '1 hour'), ('other', 'other', now(), now() + interval '1 hour')")
	last := func() int64 { return value[int64](t, conn, "select last_value from realtime._sync") }
	said := func(node string) int64 {
		return value[int64](t, conn, "select synced from realtime._nodes where id = $1", node)
	}
	answer := func(number int64) {
		t.Helper()
		for _, node := range []string{"n", "other"} {
			if _, err := conn.Exec(within(t), sql.SyncAcknowledge, node, number); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 3 {
		if value[bool](t, conn, "select realtime.sync('0')") {
			t.Fatalf("round %d: synced, and nobody has answered", round)
		}
		answer(last())
		if value[bool](t, conn, "select realtime.sync('0')") {
			t.Fatalf("round %d: an answer to the call before was enough", round)
		}
		answer(last() + 1)
		if !value[bool](t, conn, "select realtime.sync('0')") {
			t.Fatalf("round %d: what answers this call was not enough", round)
		}
	}
	before := said("n")
	answer(before - 1) // late, behind a younger answer
	if got := said("n"); got != before {
		t.Errorf("%d is taken back for %d", before, got)
	}
}
