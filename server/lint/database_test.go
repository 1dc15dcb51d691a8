package lint_test

import (
	"context"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
	"rowcast/sql"
)

// session is one that stays as statements leave it until the test's end.
func session(t *testing.T, url string, statements ...string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return conn
}

var databaseFixtures = map[string]fixture{
	"old_version": {
		settings: func(s *lint.Settings) { s.ServerVersion = 140000 },
		worse:    func(s *lint.Settings) { s.ServerVersion = 130023 },
		object:   "Postgres", words: "is version 13",
	},
	"roles_not_granted": {
		good:   `grant {role} to rowcast`,
		bad:    `revoke {role} from rowcast`,
		object: "role {role}", words: "is not granted to rowcast",
	},
	"missing_grants": {
		good:   `grant select, insert on realtime.messages to {role}`,
		bad:    `revoke insert on realtime.messages from {role}`,
		object: "role {role}", words: "has no INSERT on realtime.messages",
	},
	"schemas_writable": {
		good:   `create schema others; grant create on schema others to {role}; revoke create on schema public from public`,
		bad:    `grant create on schema public to {role}`,
		object: "schema public", words: "may create in it",
	},
	"too_few_connections": {
		good:   `do $$ begin execute format('alter database %I connection limit 13', current_database()); end $$`,
		bad:    `do $$ begin execute format('alter database %I connection limit 12', current_database()); end $$`,
		object: "database {database}", words: "allows 12 connections, and the server wants up to 13",
	},
	"blocking_settings": {
		good:   `do $$ begin execute format('alter role rowcast in database %I set row_security = on', current_database()); end $$`,
		bad:    `do $$ begin execute format('alter role rowcast in database %I set row_security = off', current_database()); end $$`,
		object: "setting row_security", words: "every decision fails",
	},
	"unwise_settings": {
		good:   `do $$ begin execute format('alter database %I set statement_timeout = ''1min''', current_database()); end $$`,
		bad:    `do $$ begin execute format('alter database %I set statement_timeout = ''59s''', current_database()); end $$`,
		object: "setting statement_timeout", words: "is 59000ms",
	},
	"definitions_unheard": {
		good:   `create event trigger heard on ddl_command_end execute function realtime._ddl_changed()`,
		bad:    `drop event trigger heard`,
		object: "event trigger realtime_rights", words: "does not exist",
	},
	"auth_missing": {
		good:   helpers,
		bad:    `drop schema auth cascade`,
		object: "schema auth", words: "does not exist",
	},
	"sub_not_uuid": {
		good:   helpers + policy("own", `for select using (topic = 'user:' || (select auth.jwt() ->> 'sub'))`),
		bad:    policy("by id", `for select using (topic = 'user:' || (select auth.uid()))`),
		object: "function auth.uid()", words: "1 policies",
	},
	"journal_cache": {
		bad:    `alter sequence realtime._journal_seq_seq cache 20`,
		object: "sequence realtime._journal_seq_seq", words: "cache of 20",
	},
	"default_partition": {
		good:   `insert into realtime.messages (topic, extension) values ('a', 'broadcast')`,
		bad:    `insert into realtime.messages (topic, extension, inserted_at) values ('a', 'broadcast', '2024-02-29'), ('a', 'broadcast', '2024-02-29')`,
		object: "table realtime.messages_default", words: "holds 2 messages of 2024-02-29",
	},
	"second_node": {
		good: `insert into realtime._nodes values ('1', 'host a', now(), now() + interval '1 day'), ('2', 'host b', now(), now() - interval '1 s')`,
		bad:  `update realtime._nodes set expires_at = now() + interval '1 day'`, object: "the servers of this database", words: "are 2: host a (1), host b (2)",
	},
	"clock_skew": {
		worse:  func(s *lint.Settings) { s.Now = func() time.Time { return time.Now().Add(-time.Minute) } },
		object: "the clock of the database", words: "ahead of this machine's",
	},
}

// elsewhere are rules whose tests need a server or a connection of their own.
var elsewhere = []string{"standby", "encoding", "server_role_privileged", "old_transactions", "prepared_transactions", "notify_queue",
	"wal_level", "replication_role", "replication_full", "slots_unread", "slot_blocked", "stream_as_standby"}

// TestDatabaseRules: every rule finds what it is for, and not the nearest thing to it.
func TestDatabaseRules(t *testing.T) {
	t.Parallel()
	all := maps.Clone(databaseFixtures)
	maps.Copy(all, changesFixtures)
	checkAll(t, lint.Database(), all, elsewhere...)
}

func TestRoleThatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := defaults()
	s.AllowedRoles = []string{"anon", "nobody_at_all"}
	found := run(t, pgtest.New(t).URL, only(t, lint.Database(), "roles_not_granted"), s)
	if len(found) != 1 || found[0].Object != "role nobody_at_all" || found[0].Mend != "create role nobody_at_all nologin; grant nobody_at_all to rowcast;" {
		t.Errorf("%+v", found)
	}
}

// TestRoleWithoutSetOption: a membership that does not let the server put the role on.
func TestRoleWithoutSetOption(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var version int
	if err := db.Admin.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 160000 {
		t.Skip("there is no such option before Postgres 16")
	}
	fixture{
		good: `grant {role} to rowcast`, bad: `grant {role} to rowcast with set false`,
		object: "role {role}", words: "without the SET option",
	}.check(t, lint.Database(), "roles_not_granted")
}

func TestServerAsSuperuser(t *testing.T) {
	t.Parallel()
	db, rule := pgtest.New(t), only(t, lint.Database(), "server_role_privileged")
	if found := run(t, db.URL, rule, defaults()); len(found) > 0 {
		t.Errorf("an ordinary role: %+v", found)
	}
	if found := run(t, db.AdminURL, rule, defaults()); len(found) != 1 || found[0].Finding != "is a superuser" {
		t.Errorf("a superuser: %+v", found)
	}
	role := db.NewRole(t, "login bypassrls")
	if found := run(t, db.As(role), rule, defaults()); len(found) != 1 || found[0].Object != "role "+role {
		t.Errorf("a role that bypasses policies: %+v", found)
	}
}

func TestEncoding(t *testing.T) {
	t.Parallel()
	db, rule := pgtest.New(t), only(t, lint.Database(), "encoding")
	if found := run(t, db.URL, rule, defaults()); len(found) > 0 {
		t.Errorf("UTF8: %+v", found)
	}
	other := db.Name + "_latin1"
	exec(t, db, "create database "+pgx.Identifier{other}.Sanitize()+" encoding 'LATIN1' locale 'C' template template0")
	t.Cleanup(func() {
		if _, err := db.Admin.Exec(context.Background(), "drop database "+pgx.Identifier{other}.Sanitize()+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	at, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = "/" + other
	if found := run(t, at.String(), rule, defaults()); len(found) != 1 || found[0].Finding != "has the encoding LATIN1" {
		t.Errorf("LATIN1: %+v", found)
	}
}

// TestStandby: the rule says so of a standby, and nothing of its primary.
func TestStandby(t *testing.T) {
	t.Parallel()
	rule := only(t, lint.Database(), "standby")
	primary, standby := pgtest.NewPair(t)
	db := primary.DB(t)
	if found := run(t, db.URL, rule, defaults()); len(found) > 0 {
		t.Errorf("the primary: %+v", found)
	}
	if found := run(t, standby.URL(db.Name, pgtest.ServerRole), rule, defaults()); len(found) != 1 {
		t.Errorf("the standby: %+v", found)
	}
}

// TestTransactionsInTheWay: what other sessions do is seen, on a Postgres where there are no others.
func TestTransactionsInTheWay(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5"}}).DB(t)
	open, prepared, queue := only(t, lint.Database(), "old_transactions"), only(t, lint.Database(), "prepared_transactions"), only(t, lint.Database(), "notify_queue")
	s, patient := defaults(), defaults()
	s.OldTransaction, s.NotifyQueue = 0.001, 1e-9
	for _, rule := range [][]lint.Rule{open, prepared, queue} {
		if found := run(t, db.URL, rule, s); len(found) > 0 {
			t.Errorf("a quiet server: %+v", found)
		}
	}

	session(t, db.URL, "begin", "select pg_current_xact_id()", "prepare transaction 'forgotten'", "select pg_sleep(0.01)")
	if found := run(t, db.URL, prepared, s); len(found) != 1 || found[0].Object != "prepared transaction 'forgotten'" || !strings.HasPrefix(found[0].Mend, "rollback prepared 'forgotten';") {
		t.Errorf("a prepared transaction: %+v", found)
	}
	if found := run(t, db.URL, prepared, patient); len(found) > 0 {
		t.Errorf("a prepared transaction that is young: %+v", found)
	}

	idle := session(t, db.URL, "begin", "select pg_sleep(0.01)")
	if found := run(t, db.URL, open, s); len(found) != 1 || !strings.HasPrefix(found[0].Finding, "idle in transaction in a transaction since ") ||
		!strings.HasPrefix(found[0].Mend, "select pg_terminate_backend(") {
		t.Errorf("an open transaction: %+v", found)
	}
	if found := run(t, db.URL, open, patient); len(found) > 0 {
		t.Errorf("an open transaction that is young: %+v", found)
	}
	if _, err := idle.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}

	// Of a superuser's session an ordinary role sees neither state nor time.
	session(t, db.AdminURL, "listen here", "begin isolation level repeatable read", "select 1")
	if found := run(t, db.URL, open, s); len(found) > 0 {
		t.Errorf("a foreign transaction that is young: %+v", found)
	}
	exec(t, db, `create table counted (i int); do $$ begin
		for i in 1 .. 100100 loop begin insert into counted values (i); exception when others then raise; end; end loop; end $$`)
	if found := run(t, db.URL, open, s); len(found) != 1 || !strings.Contains(found[0].Finding, "transactions old (role postgres)") {
		t.Errorf("a foreign transaction: %+v", found)
	}
	exec(t, db, "select pg_notify('here', i || repeat('x', 7000)) from generate_series(1, 20) i")
	if found := run(t, db.URL, queue, s); len(found) != 1 || !strings.Contains(found[0].Finding, "% full") {
		t.Errorf("the queue: %+v", found)
	}
	if found := run(t, db.URL, queue, patient); len(found) > 0 {
		t.Errorf("a queue that is nearly empty: %+v", found)
	}
}

// TestDisabledEventTrigger: one that is there and does not fire is told as such.
func TestDisabledEventTrigger(t *testing.T) {
	t.Parallel()
	fixture{
		good:   sql.EventTriggers,
		bad:    `alter event trigger realtime_rights disable`,
		object: "event trigger realtime_rights", words: "is disabled",
	}.check(t, lint.Database(), "definitions_unheard")
}

// TestSettingsThatAreWrong: more of them.
func TestSettingsThatAreWrong(t *testing.T) {
	t.Parallel()
	for setting, rule := range map[string]string{
		"default_transaction_read_only = on":         "blocking_settings",
		"session_replication_role = replica":         "blocking_settings",
		"idle_in_transaction_session_timeout = '5s'": "unwise_settings",
		"track_counts = off":                         "unwise_settings",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			fixture{
				bad:    `do $$ begin execute format('alter database %I set ` + strings.ReplaceAll(setting, "'", "''") + `', current_database()); end $$`,
				object: "setting " + strings.Fields(setting)[0],
			}.check(t, lint.Database(), rule)
		})
	}
}

// TestSchemaThatIsNotThere: what can be said without it is said, and the rest is no finding.
func TestSchemaThatIsNotThere(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmpty(t).URL
	s := defaults()
	s.Partial = true
	for _, rule := range lint.Database() {
		for _, f := range run(t, url, []lint.Rule{rule}, s) {
			if rule.Name != "auth_missing" && rule.Name != "publication_missing" {
				t.Errorf("%+v", f)
			}
		}
	}
	s.Partial = false
	if found := run(t, url, only(t, lint.Database(), "second_node"), s); len(found) != 1 || !strings.HasPrefix(found[0].Finding, "could not be applied: ") {
		t.Errorf("a schema that should be there: %+v", found)
	}
}
