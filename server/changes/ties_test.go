package changes

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"rowcast/server/wal"
)

// tiedTable is what the policies of these tests are on.
const tiedTable = `
	create schema app; grant usage on schema app to anon, authenticated, service_role;
	create domain app.person as uuid;
	create type app.kind as enum ('a', 'b');
	create collation app.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	create table app.docs (id int primary key, owner uuid, other uuid, org int, small smallint, big bigint, name text, tag varchar(20), strict text collate "C",
		loose text collate app.nocase, padded char(9), who app.person, kind app.kind, flag boolean, amount numeric, note jsonb);
	create table app.members (user_id uuid, org int);
	create function app.me() returns uuid language sql stable as $$ select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid $$;
	create function app.supabase() returns uuid language sql stable as $$
	  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
	create function app.org() returns int language sql stable return (auth.jwt() ->> 'org')::int;
	create function app.my_text() returns text language sql stable return auth.uid();
	create function app.definer() returns uuid language sql stable security definer return auth.uid();
	create function app.configured() returns uuid language sql stable set request.jwt.claims = '{}' return auth.uid();
	create function app.opaque() returns uuid language plpgsql volatile as $$ begin perform set_config('request.jwt.claims', '{}', true); return auth.uid(); end $$;
	create function app.cut() returns char(5) language sql stable return auth.jwt() ->> 'sub';
	create function app.uid(n int default 0) returns uuid language sql stable return auth.uid();
	create function app.two() returns uuid language sql stable return auth.uid();
	create function app.two(n int) returns uuid language sql stable return case when n = 1 then null else auth.uid() end;
	create function app.current_setting(text, boolean) returns text language sql stable return '{"sub": "` + bobID + `"}';
	create function app.same(uuid, uuid) returns boolean language sql immutable return true;
	create operator app.= (leftarg = uuid, rightarg = uuid, function = app.same);
	grant select on all tables in schema app to anon, authenticated, service_role;
	alter table app.docs enable row level security`

// tiedTo has the policies of app.docs read anew, and says which values a row must have to be shown to a group; "all": any may be.
func (s *stage) tiedTo(g Group, policies ...string) string {
	s.Helper()
	s.exec(`do $$ declare p record; begin for p in select polname from pg_policy where polrelid = 'app.docs'::regclass loop execute format('drop policy %I on app.docs', p.polname); end loop; end $$`)
	s.exec(policies...)
	docs := s.table("app.docs")
	read, err := readPolicies(s.Context(), s.pool, docs.OID, g.Role)
	if err != nil {
		s.Fatal(err)
	}
	values, tied := (&table{Table: docs, policies: read}).tied(g)
	if !tied {
		return "all"
	}
	texts := []string{}
	for _, v := range values {
		texts = append(texts, docs.Columns[v.column].Name+"="+v.value)
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

// What is proved of a policy, and what is not.
func TestTies(t *testing.T) {
	t.Parallel()
	s := newStage(t, tiedTable)
	ann := Group{"authenticated", []byte(`{"sub":"` + strings.ToUpper(annID) + `","org":7,"name":"Ann","app":{"org":"008","tag":"x"},"level":{"a":1},"half":1.5,"yes":true,"none":null}`)}
	const own, org = "owner=" + annID, "org=7"
	for using, want := range map[string]string{
		"owner = auth.uid()":                            own,
		"auth.uid() = owner":                            own,
		"owner = (select auth.uid())":                   own,
		"(select auth.uid()) = owner":                   own,
		"owner = (select (select auth.uid()))":          own,
		"owner = app.me()":                              own,
		"owner = app.supabase()":                        own,
		"owner = (auth.jwt() ->> 'sub')::uuid":          own,
		"owner = ((select auth.jwt()) ->> 'sub')::uuid": own,
		"owner = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid": own,
		"owner = nullif(current_setting('request.jwt.claim.sub', true), '')::uuid":    own,
		"owner::text = auth.uid()::text":                                              own,
		"owner::text = app.my_text()":                                                 own,
		"owner::text = auth.jwt() ->> 'sub'":                                          "owner=" + strings.ToUpper(annID), // which no uuid is spelled like
		"org = (auth.jwt() ->> 'org')::int":                                           org,
		"org = (auth.jwt() -> 'org')::int":                                            org,
		"org = app.org()":                                                             org,
		"org = (select app.org())":                                                    org,
		"org = (auth.jwt() ->> 'org')::bigint":                                        org,
		"small = (auth.jwt() ->> 'org')::int":                                         "small=7",
		"big = (auth.jwt() ->> 'org')::int":                                           "big=7",
		"org::text = auth.jwt() ->> 'org'":                                            org,
		"org = (auth.jwt() -> 'app' ->> 'org')::int":                                  "org=8",
		"org = (auth.jwt() #>> '{app,org}')::int":                                     "org=8",
		"name = auth.jwt() ->> 'name'":                                                "name=Ann",
		"name = auth.jwt() -> 'app' ->> 'org'":                                        "name=008",
		"tag = auth.jwt() ->> 'name'":                                                 "tag=Ann",
		"strict = auth.jwt() ->> 'name'":                                              "strict=Ann",
		"name = (auth.jwt() ->> 'org')::int::text":                                    "name=7",
		"name = coalesce(auth.jwt() ->> 'none', auth.jwt() ->> 'name')":               "name=Ann",
		"name = auth.jwt() ->> 'none'":                                                "", // nobody's
		"name = auth.jwt() ->> 'missing'":                                             "",
		"owner = nullif(auth.jwt() ->> 'missing', '')::uuid":                          "",
		"false": "",

		"owner = auth.uid() and flag":                                                          own,
		"flag and (org > 3 and owner = auth.uid())":                                            own,
		"owner = auth.uid() and 1 / (id - 2) < 1":                                              own,
		"owner = auth.uid() and not exists (select from app.members m where m.org = docs.org)": own,
		"owner = auth.uid() or other = auth.uid()":                                             "other=" + annID + " " + own,
		"owner = auth.uid() or org = app.org() and flag":                                       org + " " + own,
		"(owner = auth.uid() or other = auth.uid()) and org = app.org()":                       org,
		"owner = auth.uid() or false":                                                          own,

		"true":                       "all",
		"flag":                       "all",
		"owner = auth.uid() or flag": "all",
		"owner = auth.uid() or true": "all",
		"owner = auth.uid() or exists (select from app.members m where m.user_id = auth.uid() and m.org = docs.org)": "all",
		"not (owner = auth.uid())":                                                          "all",
		"not (owner <> auth.uid())":                                                         "all", // it is, but is not seen to be
		"owner <> auth.uid()":                                                               "all",
		"(owner = auth.uid()) is not false":                                                 "all",
		"(owner = auth.uid()) is null":                                                      "all",
		"coalesce(owner = auth.uid(), true)":                                                "all",
		"owner is not distinct from auth.uid()":                                             "all",
		"case when flag then owner = auth.uid() else true end":                              "all",
		"owner = coalesce(auth.uid(), other)":                                               "all",
		"owner = any (array[auth.uid(), other])":                                            "all",
		"owner in (auth.uid(), other)":                                                      "all",
		"coalesce(owner, auth.uid()) = auth.uid()":                                          "all",
		"auth.uid() in (select m.user_id from app.members m where m.org = docs.org)":        "all",
		"(select m.user_id from app.members m where m.org = docs.org limit 1) = auth.uid()": "all",
		"owner = (select m.user_id from app.members m where m.user_id = auth.uid())":        "all",
		"auth.uid() = auth.uid()":                                                           "all",
		"owner = other":                                                                     "all",
		"owner operator(app.=) auth.uid()":                                                  "all",
		"name = lower(auth.jwt() ->> 'name')":                                               "all",
		"lower(name) = auth.jwt() ->> 'name'":                                               "all",
		"name || 'x' = auth.jwt() ->> 'name'":                                               "all",
		"left(name, 2) = auth.jwt() ->> 'name'":                                             "all",
		"name::varchar(2) = auth.jwt() ->> 'name'":                                          "all",
		"big::int = app.org()":                                                              "all",
		"org::smallint = app.org()":                                                         "all",
		"org = round((auth.jwt() ->> 'half')::numeric)::int":                                "all",
		"org = (auth.jwt() -> 'half')::int":                                                 "all", // rounded by Postgres
		"amount = app.org()":                                                                "all",
		"loose = auth.jwt() ->> 'name'":                                                     "all",
		"name = (auth.jwt() ->> 'name') collate app.nocase":                                 "all",
		"padded = auth.jwt() ->> 'name'":                                                    "all",
		"who = auth.uid()":                                                                  "all",
		"kind::text = auth.jwt() ->> 'name'":                                                "all",
		"flag = (auth.jwt() ->> 'yes')::boolean":                                            "all",
		"name = auth.jwt() ->> 'yes'":                                                       "all",
		"name = auth.jwt() ->> 'level'":                                                     "all",
		"name = auth.jwt() -> 'name' ->> 'x'":                                               "all",
		"org = (auth.jwt() ->> 'name')::int":                                                "all", // raises
		"owner = (auth.jwt() ->> 'name')::uuid":                                             "all",
		"note = auth.jwt() -> 'level'":                                                      "all",
		"name = current_setting('request.jwt.claims')::jsonb ->> 'name'":                    "all",
		"name = current_setting('request.' || 'jwt.claims', true)::jsonb ->> 'name'":        "all",
		"name = current_setting('app.name', true)":                                          "all",
		"name = current_user":                                                               "all",
		"name = current_setting('request.jwt.claims', true)":                                "all",
		"name = app.current_setting('request.jwt.claims', true)::jsonb ->> 'sub'":           "all",
		"owner = app.definer()":                                                             "all",
		"owner = app.configured()":                                                          "all",
		"owner = app.opaque()":                                                              "all",
		"owner = app.uid()":                                                                 "all",
		"owner = app.two() and app.two(1) is null":                                          "all",
		"name = app.cut()":                                                                  "all",
		"owner = auth.uid() and app.opaque() is null":                                       "all", // it may put on other claims
		"owner = auth.uid() and set_config('request.jwt.claims', '{}', true) = '{}'":        "all",
	} {
		if got := s.tiedTo(ann, "create policy p on app.docs for select using ("+using+")"); got != want {
			t.Errorf("%s: %q, want %q", using, got, want)
		}
	}
}

// Which policies count, of several.
func TestTiesOfSeveralPolicies(t *testing.T) {
	t.Parallel()
	s := newStage(t, tiedTable)
	member, editor, admin := s.db.NewRole(t, ""), s.db.NewRole(t, ""), s.db.NewRole(t, "")
	s.exec("grant " + editor + " to " + member)
	names := strings.NewReplacer("authenticated", member, "editor", editor, "admin", admin)
	ann := Group{member, []byte(`{"sub":"` + annID + `","org":7}`)}
	const own, both = "owner=" + annID, "org=7 owner=" + annID
	for policies, want := range map[string]string{
		"": "",
		"for select using (owner = auth.uid())|for select using (org = app.org())":                                            both,
		"for select using (owner = auth.uid())|for all using (org = app.org())":                                               both,
		"for select using (owner = auth.uid())|for select using (flag)":                                                       "all",
		"for select using (owner = auth.uid())|for update using (flag)":                                                       own,
		"for update using (owner = auth.uid())|for select using (flag)":                                                       "all",
		"for select using (owner = auth.uid())|for insert with check (true)":                                                  own,
		"for select using (owner = auth.uid())|for all with check (true)":                                                     "all", // it shows nothing, but has no USING
		"for select using (flag)|as restrictive for select using (owner = auth.uid())":                                        own,
		"for select using (flag)|as restrictive for update using (owner = auth.uid())":                                        "all",
		"for select using (flag)|as restrictive for select using (flag)|as restrictive for select using (owner = auth.uid())": own,
		"for select using (owner = auth.uid() or org = app.org())|as restrictive for select using (org = app.org())":          "org=7",
		"for select using (owner = auth.uid())|as restrictive for select using (flag)":                                        own,
		"to authenticated using (owner = auth.uid())|to anon using (flag)":                                                    own,
		"to authenticated using (owner = auth.uid())|to editor using (flag)":                                                  "all",
		"to authenticated using (owner = auth.uid())|to admin using (flag)":                                                   own,
		"to anon, authenticated using (flag)|as restrictive to anon using (owner = auth.uid())":                               "all",
		"to anon, authenticated using (flag)|as restrictive to editor using (owner = auth.uid())":                             own,
		"to public using (owner = auth.uid())":                                                                                own,
		"to anon using (true)":                                                                                                "",
	} {
		var statements []string
		for i, p := range strings.Split(policies, "|") {
			if p != "" {
				statements = append(statements, fmt.Sprintf("create policy p%d on app.docs %s", i, names.Replace(p)))
			}
		}
		if got := s.tiedTo(ann, statements...); got != want {
			t.Errorf("%s: %q, want %q", policies, got, want)
		}
	}
	// A role that nobody asked about, and columns that change their names.
	docs := s.table("app.docs")
	s.exec("create policy p on app.docs using (false)")
	if read, err := readPolicies(t.Context(), s.pool, docs.OID, "anon"); err != nil {
		t.Fatal(err)
	} else if _, tied := (&table{Table: docs, policies: read}).tied(ann); tied {
		t.Error("a role that was not asked about is tied")
	}
}

// spellings of claims: of those that Postgres takes for a value, and of others.
func (g generator) spelledUUID() string {
	id := g.pick(annID, bobID)
	for range g.IntN(3) {
		switch g.IntN(7) {
		case 0:
			id = strings.ToUpper(id)
		case 1:
			id = "{" + id + "}"
		case 2:
			id = strings.ReplaceAll(id, "-", "")
		case 3:
			id = strings.Replace(id, "-", "", 1)
		case 4:
			id = id[:4] + "-" + id[4:]
		case 5:
			id += g.pick(" ", "}", "0", "\t")
		case 6:
			id = g.pick(" ", "{", "x") + id
		}
	}
	return g.pick(id, id, id, "", "x")
}

func (g generator) spelledInt() any {
	return []any{1, 2, -1, 1.0, json.Number("1e0"), json.Number("1.0"), json.Number("-0"), "1", "01", "+1", " 2", "2 ", "-1", "0x1", "0b1", "0o2", "1_0", "1.0", "", "x", "99999999999", "99999999999999999999", nil, true}[g.IntN(24)]
}

func (g generator) spelledText() any {
	return []any{"one", "One", "one ", "\u0061", "ä", "a\u0308", "\U0001F600", 1, 1.5, json.Number("10e-1"), true, nil, "", map[string]any{"a": 1}, []any{1}}[g.IntN(15)]
}

// texts are all rows of a table as the WAL has them, in the order of their keys.
func (s *stage) texts(t *Table) (all [][]wal.Value) {
	s.Helper()
	rows, err := s.admin.Query(s.Context(), "select array(select v from json_each_text(row_to_json(t)) as e (k, v) order by array_position($1::text[], k)) from app.docs as t order by id", columnNames(t))
	if err != nil {
		s.Fatal(err)
	}
	for rows.Next() {
		var texts []*string
		if err := rows.Scan(&texts); err != nil {
			s.Fatal(err)
		}
		row := make([]wal.Value, len(texts))
		for i, text := range texts {
			if row[i] = (wal.Value{Kind: wal.Null}); text != nil {
				row[i] = wal.Value{Kind: wal.Text, Text: []byte(*text)}
			}
		}
		all = append(all, row)
	}
	if rows.Err() != nil {
		s.Fatal(rows.Err())
	}
	return all
}

// Whoever Postgres lets see a row is asked about it, however claims are spelled, whatever the policies say.
func TestWhoSeesARowIsAsked(t *testing.T) {
	t.Parallel()
	const rows, users, sets = 12, 24, 60
	s := newStage(t, tiedTable)
	g := generator{rand.New(rand.NewPCG(11, 0))}
	docs := s.table("app.docs")
	quote := func(v any) string {
		text := fmt.Sprint(v)
		if v == nil {
			return "null"
		}
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	condition := func() string {
		uid := g.pick("auth.uid()", "(select auth.uid())", "app.me()", "app.supabase()", "(current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid", "(auth.jwt() ->> 'sub')::uuid")
		return g.pick("owner = "+uid, uid+" = owner", "other = "+uid, "owner::text = auth.jwt() ->> 'sub'",
			"org = (auth.jwt() ->> 'org')::int", "org = (auth.jwt() -> 'org')::int", "big = app.org()", "small = app.org()", "org::text = auth.jwt() ->> 'org'", "org = (current_setting('request.jwt.claims', true)::json ->> 'org')::int",
			"name = auth.jwt() ->> 'name'", "tag = auth.jwt() ->> 'name'", "strict = auth.jwt() -> 'app' ->> 'name'", "name = auth.jwt() #>> '{app,name}'", "name = current_setting('request.jwt.claims', true)::json #>> '{app,name}'",
			"name = current_setting('request.jwt.claims', true)::json ->> 'name'", "loose = auth.jwt() ->> 'name'", "padded = auth.jwt() ->> 'name'")
	}
	var tied, seen, skipped int
	for range sets {
		expression := condition()
		switch g.IntN(6) {
		case 0:
			expression = "(" + expression + ") or (" + condition() + ")"
		case 1:
			expression = "(" + expression + ") and (" + condition() + " or true)"
		case 2:
			expression = "(" + expression + ") is not false"
		}
		statements := []string{"create policy p on app.docs for select using (" + expression + ")"}
		switch g.IntN(4) {
		case 0:
			statements = append(statements, "create policy q on app.docs to "+g.pick("authenticated", "anon")+" using ("+condition()+")")
		case 1:
			statements = append(statements, "create policy q on app.docs as restrictive using ("+condition()+" or flag)")
		}
		var values []string
		for id := range rows {
			id2 := func() string { return quote(g.pick(annID, bobID)) }
			text := func() string {
				for {
					if v := g.spelledText(); v == nil || fmt.Sprintf("%T", v) == "string" {
						return quote(v)
					}
				}
			}
			n := func() string { return quote(g.IntN(4) - 1) }
			values = append(values, fmt.Sprintf("(%d, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %t)", id, id2(), id2(), n(), n(), n(), text(), text(), text(), text(), text(), g.IntN(2) == 0))
		}
		s.exec("truncate app.docs", "insert into app.docs (id, owner, other, org, small, big, name, tag, strict, loose, padded, flag) values "+strings.Join(values, ", "))
		s.tiedTo(user(annID), statements...)
		read, err := readPolicies(t.Context(), s.pool, docs.OID, "authenticated")
		if err != nil {
			t.Fatal(err)
		}
		rowsNow := s.texts(docs)
		var keys [][]string
		for id := range rows {
			keys = append(keys, []string{fmt.Sprint(id)})
		}
		groups := make([]Group, users)
		for i := range groups {
			claims := map[string]any{"role": "authenticated", "sub": g.spelledUUID(), "org": g.spelledInt(), "name": g.spelledText(), "app": map[string]any{"name": g.spelledText()}}
			delete(claims, g.pick("sub", "org", "name", "app", "x", "y", "z"))
			text, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			if g.IntN(10) == 0 { // twice, of which one counts
				text = []byte(strings.Replace(string(text), "{", `{"app":{"name":"one"},"org":1,"sub":"`+annID+`",`, 1))
			}
			groups[i] = Group{"authenticated", text}
		}
		s.begin()
		answers := s.visible(docs, keys, groups)
		for i, who := range groups {
			made := &group{Group: who}
			made.values, made.tied = (&table{Table: docs, policies: read}).tied(who)
			if made.tied {
				tied++
			}
			for id, row := range rowsNow {
				sees := slices.Contains(answers[i].Visible, id)
				asked := made.concerns(row)
				if sees {
					seen++
				}
				if !asked {
					skipped++
				}
				if sees && !asked {
					t.Fatalf("%s sees row %d, %v, and is not asked about it, but about %v, under\n%s", who.Claims, id, row, made.values, strings.Join(statements, ";\n"))
				}
			}
		}
	}
	t.Logf("%d groups were tied, %d rows seen, %d not asked about", tied, seen, skipped)
	if tied < sets*users/3 || seen < sets*users/3 || skipped < sets*users {
		t.Error("this test tells too little")
	}
}
