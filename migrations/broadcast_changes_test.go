package migrations_test

import (
	"slices"
	"strings"
	"testing"

	"rowcast/server/pgtest"
)

// changing makes a table of the admin's whose row trigger broadcasts every change, as the owner of its function.
func changing(t *testing.T, db *pgtest.DB) {
	t.Helper()
	exec(t, admin(t, db), `create table public.notes (id int primary key, body text, data bytea)`,
		`create function public.notes_changed() returns trigger language plpgsql security definer set search_path = '' as $$ begin
		   perform realtime.broadcast_changes('notes:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
		   return null;
		 end $$`,
		`create trigger changed after insert or update or delete on public.notes for each row execute function public.notes_changed()`,
		`grant insert, select, update, delete on public.notes to authenticated`)
}

func TestBroadcastChanges(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	changing(t, db)
	conn := server(t, db)
	exec(t, conn, "set role authenticated") // no policy lets it send: the trigger's owner does
	for _, test := range []struct{ statement, event, row string }{
		{`insert into public.notes values (7, 'a', '\x00ff')`, "INSERT",
			`"record": {"id": 7, "body": "a", "data": "\\x00ff"}, "schema": "public", "operation": "INSERT", "old_record": null`},
		{`update public.notes set body = null`, "UPDATE",
			`"record": {"id": 7, "body": null, "data": "\\x00ff"}, "schema": "public", "operation": "UPDATE", "old_record": {"id": 7, "body": "a", "data": "\\x00ff"}`},
		{`delete from public.notes`, "DELETE",
			`"record": null, "schema": "public", "operation": "DELETE", "old_record": {"id": 7, "body": null, "data": "\\x00ff"}`},
	} {
		want := `notes:7 ` + test.event + ` true {"id": "ID", "table": "notes", ` + test.row + `}`
		if got := delivered(t, db, func() { exec(t, conn, test.statement) }); !slices.Equal(got, []string{want}) {
			t.Errorf("%s:\n got %q\nwant %q", test.statement, got, want)
		}
	}
	// Each row of a statement, in its order; and none of what is rolled back.
	got := delivered(t, db, func() {
		exec(t, conn, "insert into public.notes select n from generate_series(1, 3) n", "begin", "delete from public.notes", "rollback")
	})
	if len(got) != 3 || !strings.HasPrefix(got[0], "notes:1 ") || !strings.HasPrefix(got[2], "notes:3 ") {
		t.Errorf("of one statement: %q", got)
	}
}

// What cannot be broadcast is an error of the statement that caused it: a message is never lost unnoticed.
func TestBroadcastChangesRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	changing(t, db)
	conn := server(t, db)
	call := func(operation, more string) string {
		return `select realtime.broadcast_changes('t', 'e', ` + operation + `, 'notes', 'public', null::record, null::record` + more + `)`
	}
	leavesNothing(t, db, conn, func() {
		refused(t, conn, "P0001", "Failed to process the row: function can only be triggered for each row, not for each statement", call("'INSERT'", ", 'STATEMENT'"))
		refused(t, conn, "P0001", "Failed to process the row: Unexpected operation type: TRUNCATE", call("'TRUNCATE'", ""))
		refused(t, conn, "P0001", "Failed to process the row: Unexpected operation type: insert", call("'insert'", ", level => 'ROW'"))
		refused(t, conn, "P0001", "Failed to process the row: Unexpected operation type", call("null", ""))
		exec(t, conn, "set role authenticated")
		refused(t, conn, "42501", "row-level security", call("'INSERT'", ""))
		refused(t, conn, "22001", "the server delivers at most 3000000", "insert into public.notes values (1, repeat('x', 3000000))")
		exec(t, conn, "reset role")
	})
	if n := value[int](t, admin(t, db), "select count(*) from public.notes"); n != 0 {
		t.Errorf("%d rows changed though the change could not be told", n)
	}
}
