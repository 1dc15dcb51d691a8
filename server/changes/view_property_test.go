package changes

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/rights/aim"
)

// readTables are what the policies of these tests are on, and what they read and call.
const readTables = `
	create schema app; grant usage on schema app to anon, authenticated, service_role;
	create type app.kind as enum ('a', 'b');
	create table app.docs (id int primary key, owner uuid, org text, kind app.kind, open boolean, tags text[]);
	create table app.members (user_id uuid, org text, muted boolean);
	create view app.seen as select * from app.members;
	create function app.me() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
	create function app.level() returns text language sql stable return auth.jwt() ->> 'level';
	create function app.text_body() returns text language sql stable as $$ select auth.jwt() ->> 'level' $$;
	create function app.whole() returns text language sql stable as $$ select current_setting('request.jwt.claims', true) $$;
	create function app.opaque() returns boolean language plpgsql stable as $$ begin return auth.jwt() ->> 'level' = 'x'; end $$;
	create function app.same(app.kind, text) returns boolean language sql stable as $$ select auth.jwt() ->> 'level' = $2 $$;
	create type app.word as enum ('x');
	create function app.spell(app.word) returns text language sql stable as $$ select auth.jwt() ->> 'level' $$;
	create cast (app.word as text) with function app.spell(app.word) as implicit;
	create operator app.=== (leftarg = app.kind, rightarg = text, function = app.same);
	create function app.holds(text) returns boolean language sql as $$ select auth.jwt() ->> 'level' = $1 $$;
	create domain app.held as text check (app.holds(value) or true);
	grant select on all tables in schema app to anon, authenticated, service_role`

// generator makes policies and claims.
type generator struct{ *rand.Rand }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// policy is an expression on a row of app.docs.
func (g generator) policy(depth int) string {
	if depth > 0 && g.IntN(2) == 0 {
		return g.pick(
			fmt.Sprintf("(%s or %s)", g.policy(depth-1), g.policy(depth-1)),
			fmt.Sprintf("(%s and %s)", g.policy(depth-1), g.policy(depth-1)),
			fmt.Sprintf("(not coalesce(%s, false))", g.policy(depth-1)))
	}
	uid := g.pick("auth.uid()", "(select auth.uid())", "app.me()", "nullif(auth.jwt() ->> 'sub', '')::uuid", "nullif(current_setting('request.jwt.claim.sub', true), '')::uuid")
	org := g.pick("auth.jwt() ->> 'org'", "(select auth.jwt() ->> 'org')", "current_setting('request.jwt.claims', true)::json ->> 'org'", "auth.jwt() -> 'app' ->> 'org'", "auth.jwt() #>> '{app,org}'", "auth.jwt() #>> array['app', 'org']")
	plain := []string{
		"owner = " + uid, "owner = " + uid, "owner is distinct from " + uid, "org = (" + org + ")", "org = (" + org + ")",
		"auth.role() = 'authenticated'", "current_user = 'anon'", "auth.email() like 'a%'", "open", "kind = 'a'", "null", "id % 2 = 0", "auth.jwt() ? 'org'",
		"exists (select from app.members m where m.user_id = " + uid + " and m.org = docs.org)",
		"org in (select m.org from app.members m where not m.muted and m.user_id = " + uid + ")",
		"org in (select jsonb_array_elements_text(auth.jwt() -> 'orgs'))",
		"(" + org + ") = any (tags)",
		"exists (select from app.members m where m.org = docs.org)",
	}
	if g.IntN(4) == 0 { // all claims count
		plain = []string{
			"app.opaque()", "app.level() = 'x'", "app.text_body() = 'x'", "lower('x'::app.word) = 'x'", "kind operator(app.===) 'x'", "auth.jwt() <> '{}'", "app.whole() like '%x%'", "'x'::app.held = 'x'",
			"current_setting('request.' || 'jwt.claims', true)::json ->> 'level' = 'x'", "current_setting('REQUEST.jwt.claims', true) like '%x%'",
			"exists (select from app.seen s where s.user_id = auth.uid())", "1 / (id - 2) < 1",
		}
	}
	return g.pick(plain...)
}

func (g generator) claims() (role string, claims []byte) {
	all := map[string]any{"role": g.pick("anon", "authenticated", "authenticated")}
	for name, values := range map[string][]any{
		"sub": {annID, bobID}, "email": {"a@x", "b@x"}, "org": {"one", "two", nil}, "level": {"x", "y"},
		"app": {map[string]any{"org": "one"}, map[string]any{"org": "two"}}, "orgs": {[]string{"one"}, []string{"two", "three"}}, "exp": {1, 2},
	} {
		if n := g.IntN(len(values) + 1); n < len(values) {
			all[name] = values[n]
		}
	}
	text, _ := json.Marshal(all)
	return all["role"].(string), text
}

func (g generator) value(of ...string) string { return g.pick(append(of, "null")...) }

func (g generator) setUp() (statements []string) {
	statements = []string{"drop policy if exists a on app.docs", "drop policy if exists b on app.docs", "drop policy if exists c on app.docs", "drop policy if exists own on app.members",
		"alter table app.members disable row level security", "alter table app.docs enable row level security", "truncate app.docs, app.members",
		"create policy a on app.docs for select using (" + g.policy(2) + ")"}
	if g.IntN(2) == 0 {
		statements = append(statements, "create policy b on app.docs to authenticated using ("+g.policy(1)+")")
	}
	if g.IntN(3) == 0 {
		statements = append(statements, "create policy c on app.docs as restrictive using ("+g.policy(1)+")")
	}
	if g.IntN(3) == 0 {
		statements = append(statements, "alter table app.members enable row level security",
			"create policy own on app.members using ("+g.pick("user_id = auth.uid()", "org = (auth.jwt() ->> 'level')", "not muted", "app.opaque()")+")")
	}
	for id := range 6 {
		statements = append(statements, fmt.Sprintf("insert into app.docs values (%d, %s, %s, %s, %s, %s)", id, g.value("'"+annID+"'", "'"+bobID+"'"), g.value("'one'", "'two'"), g.value("'a'", "'b'"), g.value("true", "false"), g.value("'{one}'", "'{two}'")),
			fmt.Sprintf("insert into app.members values (%s, %s, %s)", g.value("'"+annID+"'", "'"+bobID+"'"), g.value("'one'", "'two'"), g.value("true", "false")))
	}
	return statements
}

// byHand looks for each row as the user would: which are there, and which end in an error.
func byHand(t *testing.T, conn *pgx.Conn, role string, claims []byte, rows int) (visible, failed []int, code string) {
	t.Helper()
	for id := range rows {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const become = `select set_config('request.jwt.claims', $2, true), set_config('request.jwt.claim.sub', coalesce($2::text::jsonb ->> 'sub', ''), true), set_config('role', $1, true)`
		if _, err := tx.Exec(t.Context(), become, role, string(claims)); err != nil {
			t.Fatal(err)
		}
		var there bool
		if err := tx.QueryRow(t.Context(), "select exists (select from app.docs where id = $1)", id).Scan(&there); err != nil {
			failed, code = append(failed, id), postgres.SQLState(err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if there {
			visible = append(visible, id)
		}
	}
	return visible, failed, code
}

// What a view says is what each user sees by himself; and those who are equal in the claims that policies read see the same.
func TestViewsSayWhatUsersSee(t *testing.T) {
	t.Parallel()
	const rows, users = 7, 12
	sets, err := strconv.Atoi(orText(t, "CHANGES_POLICIES", "120"))
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, readTables)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	g := generator{rand.New(rand.NewPCG(7, 0))}
	docs := s.table("app.docs")
	var keys [][]string
	for id := range rows {
		keys = append(keys, []string{strconv.Itoa(id)})
	}
	var some, equal, named, failed int
	for range sets {
		made := g.setUp()
		s.exec(made...)
		policies := strings.Join(slices.DeleteFunc(made, func(m string) bool { return !strings.Contains(m, "create policy") }), ";\n")
		read, err := readPolicies(ctx, s.pool, docs.OID)
		if err != nil {
			t.Fatal(err)
		}
		if !read.Claims.All {
			named++
		}
		groups := make([]Group, users)
		for i := range groups {
			groups[i].Role, groups[i].Claims = g.claims()
		}
		s.begin()
		seen := s.visible(docs, keys, groups)
		first := map[string]int{}
		for i, group := range groups {
			visible, errors, code := byHand(t, conn, group.Role, group.Claims, rows)
			if !slices.Equal(visible, seen[i].Visible) || !slices.Equal(errors, seen[i].Failed) || code != seen[i].Code || !seen[i].RowSecurity {
				t.Fatalf("%s %s sees %v, and of %v %q, not %+v, under\n%s", group.Role, group.Claims, visible, errors, code, seen[i], policies)
			}
			if len(visible) > 0 && len(visible) < rows-1 {
				some++
			}
			if code != "" {
				failed++
			}
			key := groupKey(group.Role, group.Claims, read.Claims)
			other, met := first[key]
			if !met {
				first[key] = i
				continue
			}
			equal++
			if !cmp.Equal(seen[i], seen[other]) {
				t.Fatalf("by %+v,\n%s and\n%s are one, but see %+v and %+v under\n%s", read.Claims, group.Claims, groups[other].Claims, seen[i], seen[other], policies)
			}
		}
	}
	t.Logf("%d sets of policies, of %d the claims are known: %d users saw a part, %d met an error, %d were in a group with another", sets, named, some, failed, equal)
	if some < sets || equal < sets || named < sets/4 || failed == 0 {
		t.Error("this test tells too little")
	}
}

func orText(t *testing.T, name, otherwise string) string {
	t.Helper()
	if text := os.Getenv(name); text != "" {
		return text
	}
	return otherwise
}

// What policies read of the claims, one by one.
func TestClaimsThatPoliciesRead(t *testing.T) {
	t.Parallel()
	s := newStage(t, readTables, "alter table app.docs enable row level security")
	docs := s.table("app.docs")
	for using, want := range map[string][]string{ // nil: all
		"true":                        {},
		"owner = auth.uid()":          {"sub"},
		"owner = (select auth.uid())": {"sub"},
		"owner = app.me()":            {"sub"},
		"auth.role() = 'x' and auth.email() = 'y'":                             {"email", "role"},
		"org = (auth.jwt() ->> 'org')":                                         {"org"},
		"org = (auth.jwt() -> 'app' ->> 'org')":                                {"app"},
		"org = (auth.jwt() #>> '{app,org}')":                                   {"app"},
		"org = (auth.jwt() #>> '{\"a b\",org}')":                               nil,
		"org = (auth.jwt() ->> 0)":                                             nil,
		"org = (auth.jwt() ->> kind::text)":                                    nil,
		"org = (current_setting('request.jwt.claims', true)::jsonb ->> 'org')": {"org"},
		"org = (current_setting('request.jwt.claims')::jsonb ->> 'org')":       nil,
		"org = current_setting('request.jwt.claim.sub', true)":                 {"sub"},
		"org = current_setting('REQUEST.JWT.CLAIM.SUB', true)":                 {"sub"},
		"org = current_setting('Request.jwt.claims', true)":                    nil,
		"org = current_setting('app.org', true)":                               {},
		"org = current_setting(org, true)":                                     nil,
		"org = current_user or org = session_user":                             {},
		"app.level() = 'x'":                                                    {"level"},
		"app.text_body() = 'x'":                                                nil, // what it calls leaves no dependency
		"app.opaque()":                                                         nil,
		"kind operator(app.===) 'x'":                                           nil,
		"'x'::app.held = 'x'":                                                  nil,
		"lower('x'::app.word) = 'x'":                                           nil, // by an implicit cast
		"kind = 'a'::app.kind":                                                 {},
		"exists (select from app.members m where m.user_id = auth.uid())":      {"sub"},
		"exists (select from app.seen m where m.user_id = auth.uid())":         nil,
		"exists (select from pg_settings where setting = org)":                 nil,
		"org in (select jsonb_array_elements_text(auth.jwt() -> 'orgs'))":      {"orgs"},
		"auth.jwt() is null":                                                   nil,
		"auth.jwt() @> '{\"a\": 1}'":                                           nil,
		"set_config('request.jwt.claims', '{}', true) = ''":                    nil,
	} {
		s.exec("drop policy if exists a on app.docs", "create policy a on app.docs using ("+using+")")
		p, err := readPolicies(t.Context(), s.pool, docs.OID)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Claims; got.All != (want == nil) || !slices.Equal(got.Names, want) || (got.Reason != "") != got.All {
			t.Errorf("%s: %+v, want %v", using, got, want)
		}
	}
	// The policies of what is read are part of it.
	s.exec("alter table app.members enable row level security", "create policy own on app.members using (org = (auth.jwt() ->> 'org'))",
		"drop policy if exists a on app.docs", "create policy a on app.docs using (exists (select from app.members m where m.user_id = auth.uid()))")
	p, err := readPolicies(t.Context(), s.pool, docs.OID)
	if err != nil || !cmp.Equal(p.Claims, aim.Claims{Names: []string{"org", "sub"}}) {
		t.Errorf("%+v, %v", p, err)
	}
}
