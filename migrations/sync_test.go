package migrations_test

import (
	"slices"
	"testing"

	"rowcast/server/pgtest"
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
