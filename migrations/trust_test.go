package migrations_test

import (
	"fmt"
	"testing"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// A policy's function may take off the user's role. Then it is who asks: the one who logged in, whatever role was put on since.
func TestPoliciesMayBecomeWhoAsks(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	super := admin(t, db)
	exec(t, super, `
		create table seen (name text);
		create function steps_out() returns boolean language plpgsql as $$ begin
			set role none;
			insert into public.seen values (current_user);  -- undone with the probe
			raise exception using message = format('%s is a superuser: %s', current_user, (select rolsuper::text from pg_roles where rolname = current_user));
		end $$;
		create policy steps_out on realtime.messages for insert to authenticated with check (steps_out());
		grant insert on seen to public`)
	const ask = `select value from realtime.explain('room', '{"sub": "ann", "role": "authenticated"}') where subject = 'policy' and name = 'steps_out' and action = 'send' and extension = 'broadcast'`
	for _, test := range []struct {
		url, before string
		superuser   bool
	}{
		{db.URL, "select", false},
		{db.As(pgtest.DBARole), "select", false},
		{db.AdminURL, "select", true},
		{db.AdminURL, "set role rowcast", true},
		{db.AdminURL, "set session authorization rowcast", false},
	} {
		conn := dial(t, test.url)
		exec(t, conn, test.before)
		want := fmt.Sprintf("error P0001: %s is a superuser: %t", value[string](t, conn, "select session_user"), test.superuser)
		if got := value[string](t, conn, ask); got != want {
			t.Errorf("%s: %q, want %q", test.before, got, want)
		}
		if can := value[bool](t, conn, `select realtime.can('send', 'room', role => 'authenticated')`); can {
			t.Errorf("%s: an error admits", test.before)
		}
	}
	if n := value[int](t, super, "select count(*) from seen"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// Whose function the event trigger runs may do what those may who change definitions.
func TestEventTriggerTrustsTheServersRole(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	super := admin(t, db)
	exec(t, super, sql.EventTriggers, "create table ran (name text, as_superuser boolean); grant insert on ran to public")
	exec(t, server(t, db), `create or replace function realtime._ddl_changed() returns event_trigger language plpgsql as $$ begin
		insert into public.ran select rolname, rolsuper from pg_roles where rolname = current_user; end $$`)
	exec(t, super, "delete from ran", "create table public.others (a int)")
	if !value[bool](t, super, "select as_superuser from ran") {
		t.Error("it did not run as the superuser")
	}
}
