package main

import (
	"bytes"
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/sql"
)

// apart are the statements that are sent outside the transactions which sql/limits.sql begins, that one among them. So they write
// out in full whatever they name: there the search_path is the role's.
var apart = map[string]string{
	"Limits": sql.Limits, "Horizon": sql.Horizon, "BackendPID": sql.BackendPID, "ListenerSettings": sql.ListenerSettings, "ReplicationSlots": sql.ReplicationSlots,
	"DigestAfter": sql.DigestAfter, "UsersPath": sql.UsersPath, "Probe": sql.Probe, "ScriptText": sql.ScriptText,
	"AppliedVersions": sql.AppliedVersions, "RecordedVersions": sql.RecordedVersions, "RecordVersion": sql.RecordVersion, "ForgetVersion": sql.ForgetVersion,
	"SchemaVersion": sql.SchemaVersion, "MigrationLock": sql.MigrationLock, "MigrationLockWait": sql.MigrationLockWait, "MissingRights": sql.MissingRights,
	"SchemaExists": sql.SchemaExists, "DevCreate": sql.DevCreate, "DevRemove": sql.DevRemove,
}

// utility are those of them that are no queries: they are run where they would find namesakes by the tests of what sends them.
var utility = []string{"CreateSchema", "DropSchema", "ScriptRun", "ScriptEnd", "SynchronousStandbys"}

// inside are statements within those transactions that are not sent in the ways by which inTransaction knows them.
var inside = []string{
	"MessageRoom", "ScriptTransaction", "PolicyDecide", "TableExists", "ReplicationRole", "Chat", "ChatPeople", // in Short, Try, Inspect and a sandbox
	"Auth",                       // says for itself what its names mean
	"Policies", "Lint", "Doctor", // read; the rules are asked in Inspect
	"ChatTry", // printed
}

var (
	ourStatement  = regexp.MustCompile(`\b(?:sql|ask)\.([A-Z]\w*)`)
	inTransaction = regexp.MustCompile(`(?i)\b(?:Queue|postgres\.Ask|Ask\[\w+\]|Read|read|ask|page|do|mends|partitions)\(`)
	otherPackage  = regexp.MustCompile(`"database/sql"`)
)

// Whatever is sent outside our transactions is in one of the lists.
func TestStatementsOutsideTransactionsAreListed(t *testing.T) {
	t.Parallel()
	known, found := map[string]bool{}, map[string]bool{}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(apart)), utility, inside) {
		known[name] = true
	}
	eachGoFile(t, func(path string, source []byte) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "server/pgtest/") || strings.HasPrefix(path, "server/bench/") || !bytes.Contains(source, []byte(`"rowcast/sql"`)) {
			return
		}
		for line := range strings.Lines(string(source)) {
			code, _, _ := strings.Cut(line, "//")
			for _, at := range ourStatement.FindAllStringSubmatchIndex(code, -1) {
				name := code[at[2]:at[3]]
				if otherPackage.Match(source) && code[at[0]:at[2]] == "sql." {
					continue
				}
				found[name] = true
				if !known[name] && !inTransaction.MatchString(code[:at[0]]) {
					t.Errorf("%s sends sql.%s: outside a transaction of ours? %s", path, name, strings.TrimSpace(line))
				}
			}
		}
	})
	for name := range known {
		if !found[name] {
			t.Errorf("sql.%s is listed and not sent", name)
		}
	}
}

// They depend on nothing that is found by a search_path. Postgres itself says so: it records what the body of a function depends on.
func TestStatementsOutsideTransactionsFindNoNamesakes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Shadow(t)
	conn, err := pgx.Connect(t.Context(), db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	found := func(statement string) (names []string) {
		t.Helper()
		for _, step := range []string{"set search_path = hostile, pg_catalog, public", "prepare asked as " + statement} {
			if _, err := conn.Exec(t.Context(), step, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		var types string
		if err := conn.QueryRow(t.Context(), `select pg_catalog.array_to_string(parameter_types::pg_catalog.text[], ', ') from pg_catalog.pg_prepared_statements where name operator(pg_catalog.=) 'asked'`).Scan(&types); err != nil {
			t.Fatal(err)
		}
		body := strings.TrimSuffix(strings.TrimSpace(statement), ";")
		for _, step := range []string{"deallocate asked", "drop function if exists public.asked", "create function public.asked(" + types + ") returns void language sql begin atomic\n" + body + ";\nend"} {
			if _, err := conn.Exec(t.Context(), step, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		if err := db.Admin.QueryRow(t.Context(), `select array(select pg_describe_object(refclassid, refobjid, 0) from pg_depend
			where classid = 'pg_proc'::regclass and objid = (select oid from pg_proc where proname = 'asked') and (pg_identify_object(refclassid, refobjid, 0)).schema = 'hostile' order by 1)`).Scan(&names); err != nil {
			t.Fatal(err)
		}
		return names
	}
	for name, statement := range apart {
		if names := found(statement); len(names) > 0 {
			t.Errorf("sql.%s finds namesakes: %v", name, names)
		}
	}
	if names := found(sql.ChangesPosition); len(names) < 3 { // a cast, functions, a relation
		t.Errorf("of a statement with short names it is seen that it finds %v", names)
	}
}
