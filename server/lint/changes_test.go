package lint_test

import (
	"strings"
	"testing"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
)

// published makes a publication with one table that is as it should be.
const published = `create table fine (id int primary key); grant select on fine to authenticated; create publication supabase_realtime for table fine;`

var changesFixtures = map[string]fixture{
	"publication_missing": {
		good:   published,
		bad:    `alter publication supabase_realtime drop table fine`,
		object: "publication supabase_realtime", words: "publishes no table",
	},
	"feed_publication": {
		bad:    `drop publication realtime_feed`,
		object: "publication realtime_feed", words: "does not exist",
	},
	"publication_identity": {
		good: published + `create table loose (id int); alter publication supabase_realtime add table loose; alter table loose replica identity full;
			create table outside (id int)`,
		bad:    `alter table loose replica identity default`,
		object: "table public.loose", words: "refuses every UPDATE and DELETE",
	},
	"publication_keys": {
		good: published + `create table loose (id int); alter publication supabase_realtime add table loose; alter table loose replica identity full;
			alter table fine enable row level security`,
		bad:    `alter table loose enable row level security`,
		object: "table public.loose", words: "no primary key",
	},
	"publication_partitions": {
		good: published + `create table parts (id int primary key) partition by range (id); create table parts_1 partition of parts for values from (0) to (9);
			alter publication supabase_realtime add table parts; alter publication supabase_realtime set (publish_via_partition_root = true)`,
		bad:    `alter publication supabase_realtime set (publish_via_partition_root = false)`,
		object: "publication supabase_realtime", words: "publishes public.parts as its partitions",
	},
	"publication_unseen": {
		good: published + `create table mine (id int primary key); alter publication supabase_realtime add table mine; grant select (id) on mine to {role};
			alter table mine enable row level security; create policy own on mine for select to {role} using (true)`,
		bad:    `drop policy own on mine`,
		object: "table public.mine", words: "no policy for SELECT",
	},
}

// A table whose grant is missing, and partitions without an identity, which belong to a table that has none to ask for.
func TestPublishedTablesThatNobodyCanFollow(t *testing.T) {
	t.Parallel()
	fixture{
		good:   published + `create table mine (id int primary key); alter publication supabase_realtime add table mine; grant select on mine to {role}`,
		bad:    `revoke select on mine from {role}`,
		object: "table public.mine", words: "selected from by none",
	}.check(t, lint.Database(), "publication_unseen")
	fixture{
		good: published + `create table parts (id int) partition by range (id); create table parts_1 partition of parts for values from (0) to (9);
			alter table parts_1 replica identity full; alter publication supabase_realtime add table parts`,
		bad:    `alter table parts_1 replica identity nothing`,
		object: "table public.parts_1", words: "refuses every UPDATE and DELETE",
	}.check(t, lint.Database(), "publication_identity")
	fixture{
		good:   published,
		bad:    `drop publication supabase_realtime`,
		object: "publication supabase_realtime", words: "does not exist",
	}.check(t, lint.Database(), "publication_missing")
}

// TestWALThatCannotBeRead: what is the whole server's, on servers of the test's own.
func TestWALThatCannotBeRead(t *testing.T) {
	t.Parallel()
	t.Run("wal_level", func(t *testing.T) {
		t.Parallel()
		db, rule := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}}).DB(t), only(t, lint.Database(), "wal_level")
		if found := run(t, db.URL, rule, defaults()); len(found) > 0 {
			t.Errorf("nobody wants it: %+v", found)
		}
		exec(t, db, published)
		if found := run(t, db.URL, rule, defaults()); len(found) != 1 || found[0].Finding != "is replica" {
			t.Errorf("%+v", found)
		}
	})
	t.Run("others", func(t *testing.T) {
		t.Parallel()
		db := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_replication_slots": "2", "max_prepared_transactions": "1"}}).DB(t)
		level, role, full := only(t, lint.Database(), "wal_level"), only(t, lint.Database(), "replication_role"), only(t, lint.Database(), "replication_full")
		unread, blocked := only(t, lint.Database(), "slots_unread"), only(t, lint.Database(), "slot_blocked")
		exec(t, db, published)
		s := defaults()
		s.OldTransaction, s.SlotWAL, s.ChangesSlot = 0.001, 1, "ours"
		for _, rule := range [][]lint.Rule{level, role, full, unread, blocked} {
			if found := run(t, db.URL, rule, s); len(found) > 0 {
				t.Errorf("a good server: %+v", found)
			}
		}

		exec(t, db, `select pg_create_logical_replication_slot('ours', 'pgoutput'), pg_create_logical_replication_slot('rowcast_x', 'pgoutput')`)
		if found := run(t, db.URL, full, s); len(found) > 0 {
			t.Errorf("slots of our own: %+v", found)
		}
		exec(t, db, `create table written (i int)`)
		if found := run(t, db.URL, unread, s); len(found) == 0 || found[0].Object != "replication slot ours" || !strings.Contains(found[0].Mend, "or start the server") {
			t.Errorf("an unread slot: %+v", found)
		}
		if found := run(t, db.URL, unread, defaults()); len(found) > 0 {
			t.Errorf("an unread slot that holds little: %+v", found)
		}
		s.ChangesSlot = ""
		exec(t, db, `select pg_drop_replication_slot(slot_name) from pg_replication_slots`)
		exec(t, db, `select pg_create_physical_replication_slot('a'), pg_create_physical_replication_slot('b')`)
		if found := run(t, db.URL, full, s); len(found) != 1 || found[0].Object != "setting max_replication_slots" {
			t.Errorf("all slots are others': %+v", found)
		}

		writer := session(t, db.URL, "begin", "select pg_current_xact_id()", "select pg_sleep(0.01)")
		if found := run(t, db.URL, blocked, s); len(found) != 1 || !strings.HasPrefix(found[0].Finding, "has written since ") {
			t.Errorf("a transaction in the way: %+v", found)
		}
		if found := run(t, db.URL, blocked, defaults()); len(found) > 0 {
			t.Errorf("one that is young: %+v", found)
		}
		if _, err := writer.Exec(t.Context(), "prepare transaction 'forgotten'"); err != nil {
			t.Fatal(err)
		}
		if found := run(t, db.URL, blocked, s); len(found) != 1 || found[0].Object != "prepared transaction 'forgotten'" {
			t.Errorf("a prepared transaction in the way: %+v", found)
		}

		standby := only(t, lint.Database(), "stream_as_standby")
		configure := func(standbys string) {
			exec(t, db, `alter system set synchronous_standby_names = '`+standbys+`'`)
			exec(t, db, `select pg_reload_conf()`)
			for value := ""; value != standbys; {
				if err := db.Admin.QueryRow(t.Context(), `select current_setting('synchronous_standby_names')`).Scan(&value); err != nil {
					t.Fatal(err)
				}
			}
		}
		for standbys, object := range map[string]string{"": "", "other": "", "*": "setting synchronous_standby_names", `FIRST 1 ("Rowcast WAL")`: "setting synchronous_standby_names"} {
			exec(t, db, `set synchronous_commit = local`)
			configure(standbys)
			if found := run(t, db.URL, standby, s); (object != "") != (len(found) == 1 && found[0].Object == object) {
				t.Errorf("standbys %q: %+v", standbys, found)
			}
		}
		configure("*")
		off := s
		off.FeedSource, off.Publication = "notify", "none"
		if found := run(t, db.URL, standby, off); len(found) > 0 {
			t.Errorf("nobody reads the WAL: %+v", found)
		}
		configure("")

		exec(t, db, `alter role rowcast noreplication`)
		if found := run(t, db.URL, role, s); len(found) != 1 || found[0].Object != "role rowcast" {
			t.Errorf("a role without REPLICATION: %+v", found)
		}
	})
}
