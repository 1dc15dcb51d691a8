package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

func TestIsolation(t *testing.T) {
	t.Parallel()
	one, other := New(t), New(t)
	listener, err := one.Admin.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Release()
	if _, err := listener.Exec(t.Context(), "listen news"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		db   *DB
		text string
	}{{other, "create table mine ()"}, {other, "notify news, 'other'"}, {one, "notify news, 'one'"}} {
		if _, err := step.db.Admin.Exec(t.Context(), step.text); err != nil {
			t.Fatalf("%s: %v", step.text, err)
		}
	}
	heard, err := listener.Conn().WaitForNotification(t.Context())
	if err != nil || heard.Payload != "one" {
		t.Errorf("heard %+v (%v), want what was sent in the same database", heard, err)
	}
	if _, err = one.Admin.Exec(t.Context(), "select from mine"); code(err) != "42P01" {
		t.Errorf("a table of another test is visible: %v", err)
	}
}

func TestOrdinaryRole(t *testing.T) {
	t.Parallel()
	db := New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for question, want := range map[string]string{
		"current_user::text": ServerRole,
		"(select concat(rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication) from pg_roles where rolname = current_user)": "fffft",
		"(select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'realtime')":                                          ServerRole,
		"(select max(version_id) > 0 from realtime.schema_version)::text":                                                                "true",
		"has_database_privilege(current_database(), 'create')::text":                                                                     "true",
		"(select concat(rolcanlogin, rolbypassrls) from pg_roles where rolname = 'anon')":                                                "ff",
		"(select concat(rolcanlogin, rolbypassrls) from pg_roles where rolname = 'authenticated')":                                       "ff",
		"(select concat(rolcanlogin, rolbypassrls) from pg_roles where rolname = 'service_role')":                                        "ft",
		"(select string_agg(r, ' ') from unnest('{anon,authenticated,service_role}'::name[]) r where pg_has_role(r, 'member'))":          "anon authenticated service_role",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "select "+question).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q (%v), want %q", question, got, err, want)
		}
	}

	dba, err := pgx.Connect(t.Context(), db.As(DBARole))
	if err != nil {
		t.Fatal(err)
	}
	defer dba.Close(context.Background())
	var member, super bool
	err = dba.QueryRow(t.Context(), "select pg_has_role('rowcast', 'usage'), (select rolsuper from pg_roles where rolname = current_user)").
		Scan(&member, &super)
	if err != nil || !member || super {
		t.Errorf("dba: member %v, superuser %v (%v)", member, super, err)
	}
}

func TestEmptyHasNoSchema(t *testing.T) {
	t.Parallel()
	db := NewEmpty(t)
	var none bool
	if err := db.Admin.QueryRow(t.Context(), "select to_regnamespace('realtime') is null").Scan(&none); err != nil || !none {
		t.Errorf("schema realtime is there (%v)", err)
	}
}

// TestTemplateIsMadeOnce lets several processes' first tests come at the same time.
func TestTemplateIsMadeOnce(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	group, ctx := errgroup.WithContext(t.Context())
	for i := range 4 {
		group.Go(func() error {
			name, err := c.template(ctx)
			if err != nil {
				return err
			}
			return c.clone(ctx, fmt.Sprintf("copy_%d", i), name)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	conn, err := c.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var made int
	if err := conn.QueryRow(t.Context(), "select count(*) from pg_database where datname like 'rowcast\\_template\\_%'").Scan(&made); err != nil || made != 1 {
		t.Errorf("%d templates (%v), want 1", made, err)
	}
}

func TestForeignServerIsToldWhatItLacks(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Settings: map[string]string{
		"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "2", "max_connections": "20"}})
	if err := c.CreateRoles(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		address string
		want    []string
	}{
		{c.URL("postgres", superuser), []string{"wal_level = logical", "max_replication_slots = 100", "max_wal_senders = 100", "max_connections = 300"}},
		{c.URL("postgres", DBARole), []string{`alter role "dba" superuser;`}},
		{"host=/tmp", []string{"must begin with postgres://"}},
	} {
		_, err := openServer(t.Context(), test.address)
		if err == nil {
			t.Errorf("%s: accepted", test.address)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", test.address, err, want)
			}
		}
	}
}

// TestForeignServerWithPasswords is what a CI service looks like: several processes that know only the address.
func TestForeignServerWithPasswords(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Listen: true})
	for i := range 2 {
		s, err := openServer(t.Context(), strings.Replace(c.URL("", superuser), "postgres:", "postgresql:", 1))
		if err != nil {
			t.Fatal(err)
		}
		template, err := s.template(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("copy_%d", i)
		if err := s.clone(t.Context(), name, template); err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), s.url(name, ServerRole))
		if err != nil {
			t.Fatalf("connect as the server's role: %v", err)
		}
		_ = conn.Close(t.Context())
		if err := s.drop(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

// recorder is a test that notes how it ended.
type recorder struct {
	TB
	skipped, failed string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Skip(args ...any)                  { r.skipped = fmt.Sprint(args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }

func TestWithoutPostgres(t *testing.T) {
	for _, test := range []struct {
		name, ci, require string
		err               error
		fails             bool
	}{
		{"by hand", "", "", &NotFoundError{Tried: []string{"docker: not installed"}}, false},
		{"CI said to be off", "false", "", &NotFoundError{}, false},
		{"in CI", "true", "", &NotFoundError{}, true},
		{"required", "", "1", &NotFoundError{}, true},
		{"a Postgres that is there but broken", "", "", errors.New("start: the server ended"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			t.Setenv("PGTEST_REQUIRE", test.require)
			r := &recorder{}
			giveUp(r, test.err)
			if (r.failed != "") != test.fails || (r.skipped != "") == test.fails {
				t.Errorf("failed %q, skipped %q", r.failed, r.skipped)
			}
			if strings.Contains(r.failed+r.skipped, "\n") {
				t.Errorf("more than one line: %q", r.failed+r.skipped)
			}
		})
	}
}

func TestDatabaseName(t *testing.T) {
	t.Parallel()
	name := databaseName("TestÄ/Sub test=1 " + strings.Repeat("long", 30))
	if len(name) > 63 || !strings.HasPrefix(name, "t___sub_test_1_long") {
		t.Errorf("name %q (%d bytes)", name, len(name))
	}
	if name == databaseName("TestÄ/Sub test=1 "+strings.Repeat("long", 30)) {
		t.Error("two tests share a name")
	}
}

func code(err error) string {
	var refused *pgconn.PgError
	errors.As(err, &refused)
	if refused == nil {
		return ""
	}
	return refused.Code
}

func TestPoolURL(t *testing.T) {
	t.Setenv("TEST_POOLER_URL", "")
	d := &DB{Name: "app", URL: "postgres://rowcast@db/app"}
	if got, err := throughPooler(d); got != d.URL || err != nil {
		t.Errorf("without a pooler: %s (%v)", got, err)
	}
	t.Setenv("TEST_POOLER_URL", "postgres://postgres@/postgres?host=%2Ftmp&port=6432")
	if got, err := throughPooler(d); got != "postgres://rowcast@/app?host=%2Ftmp&port=6432" || err != nil {
		t.Errorf("through a pooler: %s (%v)", got, err)
	}
}
