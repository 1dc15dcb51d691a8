package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
	"rowcast/sql"
)

// healthy is a configuration of which doctor finds nothing.
func healthy(db *pgtest.DB) []string {
	return []string{"DATABASE_URL=" + db.URL, "JWT_SECRET=" + strings.Repeat("x", shortSecret)}
}

// diagnose gives what doctor finds, by name.
func diagnose(t *testing.T, env []string, args ...string) (result, map[string]lint.Finding) {
	t.Helper()
	got := runProgram(t, env, append([]string{"doctor", "--json"}, args...)...)
	var found []lint.Finding
	if err := json.Unmarshal([]byte(got.out), &found); err != nil {
		t.Fatalf("%+v: %v", got, err)
	}
	byName := map[string]lint.Finding{}
	for _, f := range found {
		byName[f.Rule] = f
		if f.Mend == "" || f.Object == "" || f.Finding == "" {
			t.Errorf("%+v", f)
		}
	}
	return got, byName
}

// notQuite are rules about what other tests on the same Postgres may be doing, or its version.
var notQuite = []string{"notify_queue", "old_transactions", "too_few_connections", "slots_unread", "slot_blocked", "replication_full", "schemas_writable"}

func TestDoctorOfAHealthyServer(t *testing.T) {
	t.Parallel()
	db := withPolicies(t)
	if _, err := db.Admin.Exec(t.Context(), sql.EventTriggers+`; create table followed (id int primary key); grant select on followed to authenticated;
		create publication supabase_realtime for table followed`); err != nil {
		t.Fatal(err)
	}
	got, found := diagnose(t, healthy(db))
	for name, f := range found {
		if !slices.Contains(notQuite, name) {
			t.Errorf("%+v", f)
		}
	}
	if len(found) == 0 && (got.code != exitGood || got.errout != "") {
		t.Errorf("%+v", got)
	}
}

// TestDoctorChecks: each check of doctor's own finds what it is for.
func TestDoctorChecks(t *testing.T) {
	t.Parallel()
	good, old := pgtest.New(t), pgtest.NewEmpty(t)
	away := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(away.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "postgres://rowcast@" + l.Addr().String() + "/app?sslmode=disable"
	l.Close()
	readOnly := pgtest.New(t)
	if _, err := readOnly.Admin.Exec(t.Context(), "alter database "+readOnly.Name+" set default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	elsewhere := pgtest.New(t)
	listener := good.NewRole(t, "login")
	if _, found := diagnose(t, append(healthy(good), "LISTEN_DATABASE_URL="+good.As(listener), "FEED_SOURCE=notify"), "--check", "listen_role"); len(found) > 0 {
		t.Errorf("nobody reads the WAL: %+v", found)
	}
	tested := map[string]bool{}
	for _, tt := range []struct {
		check        string
		env          []string // added to those of a healthy server
		object, says string
	}{
		{"keys_missing", []string{"JWT_SECRET="}, "JWT_SECRET, JWT_JWKS and JWT_JWKS_URL", "all empty"},
		{"secret_short", []string{"JWT_SECRET=" + strings.Repeat("x", shortSecret-1)}, "JWT_SECRET", "has 31 bytes"},
		{"secret_public", []string{"JWT_SECRET=super-secret-jwt-token-with-at-least-32-characters-long"}, "JWT_SECRET", "sample"},
		{"keys_unreachable", []string{"JWT_JWKS_URL=" + away.URL}, "JWT_JWKS_URL", "answered 404"},
		{"bypass_not_allowed", []string{"BYPASS_ROLES=service_role robot"}, "role robot", "no token may name it"},
		{"admin_exposed", []string{"ADMIN_ADDR=:4001"}, "ADMIN_ADDR :4001", "other machines"},
		{"admin_exposed", []string{"ADMIN_ADDR=10.0.0.7:4001"}, "ADMIN_ADDR 10.0.0.7:4001", "other machines"},
		{"second_node_allowed", []string{"ALLOW_SECOND_NODE=true"}, "ALLOW_SECOND_NODE", "second server"},
		{"database_unreachable", []string{"DATABASE_URL=" + nobody}, nobody, "refused"},
		{"migrations_missing", []string{"DATABASE_URL=" + old.URL}, "schema realtime", "lacks migrations"},
		{"database_unready", []string{"DATABASE_URL=" + readOnly.URL}, "table realtime.messages", "read-only transaction"},
		{"listen_unheard", []string{"LISTEN_DATABASE_URL=" + nobody}, nobody, "refused"},
		{"listen_unheard", []string{"LISTEN_DATABASE_URL=" + elsewhere.URL, "DEAF_AFTER=2s"}, redactDatabase(elsewhere.URL), "hears nothing of what is notified"},
		{"listen_role", []string{"LISTEN_DATABASE_URL=" + good.As(listener)}, "role " + listener, "REPLICATION"},
	} {
		tested[tt.check] = true
		t.Run(tt.check, func(t *testing.T) {
			t.Parallel()
			if got, found := diagnose(t, healthy(good), "--check", tt.check); len(found) > 0 || got.code != exitGood {
				t.Errorf("nothing is wrong: %+v", found)
			}
			got, found := diagnose(t, append(healthy(good), tt.env...), "--check", tt.check)
			if f := found[tt.check]; len(found) != 1 || f.Object != tt.object || !strings.Contains(f.Finding, tt.says) || got.code != exitFinding {
				t.Errorf("%+v", got)
			}
		})
	}
	for _, c := range doctorChecks() {
		if !tested[c.name] {
			t.Errorf("check %s is not tested", c.name)
		}
	}
}

// TestDoctorGoesOn: without a database, and without a schema, what can be looked at is.
func TestDoctorGoesOn(t *testing.T) {
	t.Parallel()
	empty := pgtest.NewEmpty(t)
	env := []string{"DATABASE_URL=" + empty.URL, "JWT_SECRET=short", "ALLOWED_ROLES=anon nobody_at_all", "LISTEN_DATABASE_URL=" + empty.URL}
	got, found := diagnose(t, env)
	for _, want := range []string{"secret_short", "migrations_missing", "roles_not_granted", "auth_missing", "publication_missing"} {
		if _, ok := found[want]; !ok {
			t.Errorf("without a schema, %s is not found: %+v", want, got)
		}
		delete(found, want)
	}
	for name, f := range found {
		if !slices.Contains(notQuite, name) {
			t.Errorf("without a schema: %+v", f)
		}
	}
	if _, err := empty.Admin.Exec(t.Context(), "revoke create on database "+empty.Name+" from rowcast"); err != nil {
		t.Fatal(err)
	}
	if _, found = diagnose(t, env, "--check", "migrations_missing"); !strings.Contains(found["migrations_missing"].Mend, "grant create on database "+empty.Name+" to rowcast; then: rowcast migrate up") {
		t.Errorf("%+v", found)
	}

	const nowhere = "postgres://rowcast:sesame@127.0.0.1:1/app"
	got, found = diagnose(t, []string{"DATABASE_URL=" + nowhere, "JWT_SECRET=short"})
	if len(found) != 2 || found["secret_short"].Rule == "" || found["database_unreachable"].Object != "postgres://rowcast:***@127.0.0.1:1/app" {
		t.Errorf("without a database: %+v", got)
	}
	if strings.Contains(got.out+got.errout, "sesame") {
		t.Errorf("the password is shown: %+v", got)
	}
	_, found = diagnose(t, []string{"DATABASE_URL=postgres://rowcast:ses%ame@127.0.0.1:1/app", "JWT_SECRET=short"})
	if f := found["database_unreachable"]; !strings.HasPrefix(f.Mend, "write DATABASE_URL as ") {
		t.Errorf("an address that is none: %+v", f)
	}
	// What cannot be asked is not passed over.
	if _, found = diagnose(t, []string{"DATABASE_URL=" + nowhere}, "--check", "rls_off"); len(found) != 1 || found["database_unreachable"].Rule == "" {
		t.Errorf("a rule without a database: %+v", found)
	}
}

// TestDoctorThroughPgBouncer: it asks through a pooler in transaction mode, and says that nothing is heard through it.
func TestDoctorThroughPgBouncer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{})
	bouncer, db := pgtest.NewPgBouncer(t, cluster, "transaction"), cluster.DB(t)
	env := []string{"DATABASE_URL=" + bouncer.URL(db.Name, pgtest.ServerRole), "JWT_SECRET=" + strings.Repeat("x", shortSecret)}
	_, found := diagnose(t, env)
	delete(found, "schemas_writable") // of Postgres 14
	if len(found) != 4 || found["definitions_unheard"].Rule == "" || found["auth_missing"].Rule == "" || found["publication_missing"].Rule == "" || !strings.Contains(found["listen_unheard"].Finding, "pooler in transaction mode") {
		t.Errorf("LISTEN through it: %+v", found)
	}
	if _, found := diagnose(t, append(env, "LISTEN_DATABASE_URL="+db.URL), "--check", "listen_unheard"); len(found) > 0 {
		t.Errorf("LISTEN beside it: %+v", found)
	}
}

func TestDoctorUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "DATABASE_URL is required: set it in the environment or give --database-url"},
		{[]string{"--check", "none"}, `there is no check "none"; see rowcast doctor --list`},
		{[]string{"now"}, `unexpected argument "now"; see rowcast doctor --help`},
	} {
		if got := runProgram(t, nil, append([]string{"doctor"}, tt.args...)...); got != (result{exitUsage, "", "rowcast doctor: " + tt.want + "\n"}) {
			t.Errorf("%q: %+v", tt.args, got)
		}
	}
	seen := map[string]bool{}
	for _, c := range doctorTitles() {
		if seen[c.name] || !strings.HasSuffix(c.text, ".") || !strings.HasSuffix(c.why, ".") {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	var out, errout strings.Builder
	if code := run(stopped, []string{"doctor"}, []string{"DATABASE_URL=postgres://127.0.0.1:1/app"}, &out, &errout); code != exitFinding || out.String() != "" {
		t.Errorf("stopped: %d %q %q", code, out.String(), errout.String())
	}
}
