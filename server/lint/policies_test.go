package lint_test

import (
	"io/fs"
	"testing"

	"rowcast/server/lint"
	"rowcast/server/pgtest"
	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	// members is what policies ask for; helpers are what they ask with.
	members = `create table members (user_id uuid, room_id bigint, slug text, expires_at timestamptz, pattern text);
		grant select on members to authenticated;`
	helpers = `create schema auth; grant usage on schema auth to public;
		create function auth.jwt() returns jsonb language sql stable return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
		create function auth.uid() returns uuid language sql stable return nullif(auth.jwt() ->> 'sub', '')::uuid;`
)

// policy is a statement that makes one for authenticated.
func policy(name, rest string) string {
	return `create policy "` + name + `" on realtime.messages ` + rest + `;`
}

var policyFixtures = map[string]fixture{
	"rls_off": {
		bad:    `alter table realtime.messages disable row level security`,
		object: "table realtime.messages", words: "switched off",
	},
	"rls_forced": {
		bad:    `alter table realtime.messages force row level security`,
		object: "table realtime.messages", words: "binds the owner",
	},
	"role_owns_messages": {
		good:   `grant authenticated to {role}`,
		bad:    `grant rowcast to {role}`, // undone with the role
		object: "role {role}", words: "inherits from rowcast",
	},
	"role_bypasses_rls": {
		good:    `alter role {role} nobypassrls`, // service_role may
		bad:     `alter role {role} bypassrls`,
		options: "bypassrls", object: "role {role}", words: "not in BYPASS_ROLES",
	},
	"partition_open": {
		good: `create table realtime.old partition of realtime.messages for values from ('2001-01-01') to ('2001-01-02');
			alter table realtime.messages_default enable row level security; grant select on realtime.messages_default to anon`,
		bad:    `grant select (topic) on realtime.old to public`,
		object: "table realtime.old", words: "no row level security, and is granted to anon, authenticated, service_role",
	},
	"partition_granted": {
		bad:    `grant truncate on realtime.messages_default to authenticated`,
		object: "table realtime.messages_default", words: "granted to authenticated",
	},
	"anybody_sends": {
		good: policy("for the application", `for insert to service_role with check (true)`) +
			policy("beside others", `as restrictive for insert with check (true)`) +
			policy("listen", `for select to anon using (true)`),
		bad:    policy("talk", `for insert to authenticated with check (true)`),
		object: "policy talk", words: "lets authenticated send",
	},
	"anybody_receives": {
		good: policy("for the application", `for select to service_role using (true)`) +
			policy("beside others", `as restrictive for select using (true)`),
		bad:    policy("listen", `using (true)`),
		object: "policy listen", words: "lets everybody receive",
	},
	"send_by_using": {
		good: policy("both", `using (topic = 'a') with check (topic = 'b')`) +
			policy("listen", `for select using (topic = 'a')`) +
			policy("beside others", `as restrictive using (topic = 'a')`),
		bad:    policy("room", `to authenticated using (topic = 'a')`),
		object: "policy room", words: "no WITH CHECK",
	},
	"no_expression": {
		good:   policy("talk", `for insert with check (topic = 'a')`) + policy("listen", `for select using (topic = 'a')`),
		bad:    policy("empty", `for insert to authenticated`),
		object: "policy empty", words: "admits nobody",
	},
	"permissive_denial": {
		good: members + policy("members send, unless muted", `for insert with check (topic = 'a' and not (private and exists (select from members)))`) +
			policy("block the banned", `as restrictive using (not exists (select from members))`) +
			policy("banking", `for select using (topic = 'bank' or topic <> 'a')`),
		bad:    policy("for those who are welcome", `for select using (not exists (select from members))`),
		object: `policy "for those who are welcome"`, words: "admits everybody else",
	},
	"unwrapped_calls": {
		good: members + helpers + `
			create function is_member(room bigint) returns boolean language plpgsql stable as 'begin return true; end';` +
			policy("wrapped", `for select using (topic = realtime.topic() and extension = 'a (b' and exists (
				select from members m where m.user_id = (select auth.uid()) and m.slug = (select auth.jwt() ->> 'slug') and is_member(m.room_id)))`),
		bad:    policy("bare", `for select using (exists (select from members m where m.user_id = auth.uid()))`),
		object: "policy bare", words: "calls auth.uid() once for every row",
	},
	"definer_search_path": {
		good: members + `
			create function safe() returns boolean language sql security definer set search_path = '' as 'select true';
			create function apart() returns boolean language sql security definer as 'select true';` +
			policy("safe", `for select using (safe())`),
		bad: `create function deep() returns boolean language plpgsql security definer as 'begin return true; end';
			create function halfway() returns boolean language plpgsql as 'begin return deep(); end';
			alter table members enable row level security; create policy members on members using (halfway());` +
			policy("reads members", `for select using (exists (select from members))`),
		object: "function public.deep()", words: "SECURITY DEFINER",
	},
	"immutable_reads": {
		good: members + helpers + `
			create function room(id bigint) returns text language sql immutable as 'select format(''room:%s from members'', id) -- current_setting(...)';
			create function year(at date) returns int language sql immutable return extract(year from at);
			create function whole(m realtime.messages) returns boolean language sql immutable return m.topic = 'a';
			create function is_member() returns boolean language sql stable as 'select exists (select from members where user_id = auth.uid())';` +
			policy("calls", `for select using (is_member() and whole(messages) and year('2020-01-01') > 0 and topic = room(1))`),
		bad:    `alter function is_member() immutable`,
		object: "function public.is_member()", words: "is IMMUTABLE and reads public.members, settings (in auth.jwt()): ",
	},
	"pattern_from_data": {
		good: members + policy("fixed", `for select using (topic like 'room:%' and topic ~ '^a ~ b' and extension like any (array['a%', 'b%'])
				and event not ilike '%x%' and topic similar to 'a%' and exists (select from members m where m.slug = topic or m.slug <> topic))`),
		bad:    policy("chosen", `for select using (exists (select from members m where topic like 'room:' || m.pattern))`),
		object: "policy chosen", words: "matches with LIKE",
	},
	"topic_collisions": {
		good: members + helpers + `create table channels (name text check (name !~ ':')); grant select on channels to authenticated;` +
			policy("checked", `for select using (exists (select from channels c where 'channel:' || c.name = realtime.topic()))`) + policy("built", `for select using (exists (select from members m where 'room:' || m.room_id = realtime.topic() and m.slug = extension)
				or topic = 'user:' || (select auth.uid()) or topic = 'org:' || ((select auth.jwt()) ->> 'org')::bigint)`),
		bad:    policy("taken apart", `for select using (exists (select from members m where m.room_id::text = split_part(realtime.topic(), ':', 2)))`),
		object: `policy "taken apart"`, words: "takes the topic apart",
	},
	"sub_across_issuers": {
		good: helpers + policy("of one issuer", `for select using (topic = 'user:' || (select auth.uid()) and (select auth.jwt() ->> 'iss') = 'https://a')`) +
			policy("announcements", `for select using (topic = 'news')`),
		bad:      policy("of any", `for select using (topic = 'user:' || (select auth.uid()))`),
		settings: func(s *lint.Settings) { s.Issuers = 2 },
		object:   `policy "of any"`, words: "2 issuers",
	},
	"partition_policy": {
		good:   policy("on the whole", `for select using (topic = 'a')`),
		bad:    `create policy part on realtime.messages_default for select using (topic = 'a')`,
		object: "policy part on realtime.messages_default", words: "ignored",
	},
	"policy_role_not_allowed": {
		good: `create role team_{role}; grant team_{role} to {role};` + policy("team", `for select to team_{role} using (topic = 'a')`) +
			policy("either", `for select to authenticated, rowcast using (topic = 'a')`) + `drop policy team on realtime.messages; drop role team_{role}`,
		bad:    policy("nobody", `for select to dba using (topic = 'a')`),
		object: "policy nobody", words: "is to dba",
	},
	"clock_unnoticed": {
		good: members + `
			create function current() returns boolean language plpgsql as 'begin return true; end';` +
			policy("told", `for select using (event = 'now()' and current() and exists (select from members m where realtime.valid_until(m.expires_at)))`),
		bad:    policy("until", `for select using (exists (select from members m where m.expires_at > current_timestamp))`),
		object: "policy until", words: "what time it is",
	},
	"extension_unchecked": {
		good: policy("said", `for insert with check (topic = 'a' and extension = 'broadcast')`) +
			policy("listen", `for select using (topic = 'a')`),
		bad:    policy("either", `for insert with check (topic = 'a')`),
		object: "policy either", words: "broadcast and presence",
	},
	"topic_unchecked": {
		good:   policy("compared", `for select using (topic = realtime.topic() and topic = 'a')`) + policy("plain", `for select using (topic = 'a')`),
		bad:    policy("asked", `for select using (realtime.topic() = 'a')`),
		object: "policy asked", words: "never looks at the column topic",
	},
	"unwatched": {
		good: members + `create table rooms (id bigint); create view open_rooms as select id from rooms; create table unread (a int);
			select realtime.watch('members'), realtime.watch('rooms');` +
			policy("room", `for select using (exists (select from members) or exists (select from open_rooms))`),
		bad:    `select realtime.unwatch('rooms')`,
		object: "table public.rooms", words: "is noticed by timer",
	},
	"topic_ignored": {
		good: members + `create function asks() returns boolean language sql stable as 'select realtime.topic() = ''a''';
			create function whole(m realtime.messages) returns boolean language sql stable as 'select m.topic = ''a''';` +
			policy("asks", `for select using (asks())`) + policy("whole", `for select using (whole(messages))`) +
			policy("takes away", `as restrictive for select using (extension = 'presence')`) + policy("changes", `for update using (extension = 'presence')`) +
			policy("is another rule's", `for select using (true)`) + policy("is nothing", `for select using (false)`) +
			policy("both", `for all using (topic = 'a') with check (realtime.topic() = 'a')`),
		bad:    policy("both but one", `for all using (topic = 'a') with check (exists (select from members))`),
		object: `policy "both but one"`, words: "send on every topic",
	},
	"no_such_right": {
		good:   policy("all", `using (topic = 'a')`),
		bad:    policy("change", `for update using (topic = 'a')`),
		object: "policy change", words: "is for UPDATE",
	},
}

// TestPolicyRules: every rule finds what it is for, and not the nearest thing to it.
func TestPolicyRules(t *testing.T) {
	t.Parallel()
	checkAll(t, lint.Policies(), policyFixtures, "postgres_rls_bugs") // which is tested below
}

// TestMorePolicies: other shapes of what the rules are for.
func TestMorePolicies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ rule, setUp, policy string }{
		"muted may not":               {"permissive_denial", members, `for select using (exists (select from members))`},
		"banned people cannot listen": {"permissive_denial", members, `for select using (exists (select from members))`},
		"deny everybody":              {"permissive_denial", "", `for select using (topic = 'a')`},
		"false":                       {"permissive_denial", "", `for select using (false)`},
		"not equal":                   {"permissive_denial", "", `for select using (topic <> 'staff')`},
		"FOR ALL without WITH CHECK":  {"anybody_sends", "", `using (true)`},
		"a setting":                   {"unwrapped_calls", "", `for select using (topic = current_setting('request.jwt.claim.sub', true))`},
		"in a literal's shadow":       {"unwrapped_calls", helpers, `for insert with check (topic = 'it''s ( SELECT ' and auth.uid() is not null)`},
		"inside a sub-select":         {"unwrapped_calls", members + helpers, `for select using (topic = (select m.slug from members m where m.user_id = auth.uid()))`},
		"ILIKE":                       {"pattern_from_data", helpers, `for select using (topic ilike (select auth.jwt() ->> 'rooms'))`},
		"regular expression":          {"pattern_from_data", members, `for select using (exists (select from members m where topic ~ m.pattern))`},
		"SIMILAR TO":                  {"pattern_from_data", members, `for select using (exists (select from members m where topic similar to m.pattern))`},
		"LIKE ANY":                    {"pattern_from_data", members, `for select using (topic like any (select pattern from members))`},
		"topic as the pattern":        {"pattern_from_data", members, `for select using (exists (select from members m where m.slug like topic))`},
		"half a literal":              {"pattern_from_data", members, `for select using (exists (select from members m where topic like m.slug || ':%'))`},
		"text id":                     {"topic_collisions", members, `for select using (exists (select from members m where 'room:' || m.slug = realtime.topic()))`},
		"text id with another check":  {"topic_collisions", members + `alter table members add check (slug <> 'a:b'::text and room_id > 0), add check (slug > 'a');`, `for select using (exists (select from members m where 'room:' || m.slug = realtime.topic()))`},
		"text id in format":           {"topic_collisions", members, `for select using (exists (select from members m where format('room:%s', m.slug) = realtime.topic()))`},
		"substring":                   {"topic_collisions", members, `for select using (exists (select from members m where m.slug = substring(topic from 6)))`},
		"string_to_array":             {"topic_collisions", members, `for select using (exists (select from members m where m.slug = (string_to_array((select realtime.topic()), ':'))[2]))`},
		"claim":                       {"topic_collisions", helpers, `for select using (topic = 'org:' || (select auth.jwt() ->> 'org'))`},
		"claim of a sub-select":       {"topic_collisions", helpers, `for select using (topic = 'org:' || ((select auth.jwt()) ->> 'org'))`},
		"clock in a function": {"clock_unnoticed", `create function open() returns boolean language plpgsql as 'begin return now() < ''infinity''; end';`,
			`for select using (open())`},
		"a function that hides what it reads": {"unwatched", `create function hides() returns boolean language plpgsql as 'begin return exists (select from realtime.messages); end';`,
			`for select using (hides())`},
		"a view's table": {"unwatched", members + `create view seen as select slug from members;`, `for select using (topic in (select slug from seen))`},
		"a setting, kept": {"immutable_reads", `create function claim() returns text language plpgsql immutable as 'begin return current_setting(''request.jwt.claim.sub''); end';`,
			`for select using (topic = claim())`},
		"a topic, kept":             {"immutable_reads", `create function here() returns text language sql immutable return realtime.topic();`, `for select using (topic = here())`},
		"a joined table, kept":      {"immutable_reads", members + `create function there() returns bigint language sql immutable begin atomic select count(*) from (values (1)) v join members m on true; end;`, `for select using (there() > 0)`},
		"a table's policy, kept":    {"immutable_reads", members + `create function me() returns name language sql immutable as 'select current_user'; alter table members enable row level security; create policy own on members using (slug = me());`, `for select using (exists (select from members))`},
		"a day, kept":               {"immutable_reads", `create function today() returns date language sql immutable as 'select current_date'; `, `for select using (today() > '2020-01-01')`},
		"the end of a topic":        {"topic_collisions", members, `for select using (exists (select from members m where m.slug = right(topic, -5)))`},
		"a name in a sub-select":    {"topic_collisions", members, `for select using (topic = 'room:' || (select m.slug from members m limit 1))`},
		"a claim before the rest":   {"topic_collisions", helpers, `for select using (topic = (select auth.jwt() ->> 'org') || ':news')`},
		"a claim's claim":           {"topic_collisions", helpers, `for select using (topic = ((select auth.jwt()) -> 'app_metadata' ->> 'org') || ':news')`},
		"any topic, signed in":      {"topic_ignored", helpers, `for select using ((select auth.uid()) is not null)`},
		"any topic of an extension": {"topic_ignored", "", `for insert with check (extension = 'broadcast')`},
		"any topic, a constant":     {"topic_ignored", "", `for select using (1 = 1)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			exec(t, db, tt.setUp)
			rule := only(t, lint.Policies(), tt.rule)
			exec(t, db, policy(name, tt.policy))
			if found := run(t, db.URL, rule, defaults()); len(found) != 1 {
				t.Errorf("%s finds %+v", tt.rule, found)
			}
		})
	}
}

func TestPostgresWithBugs(t *testing.T) {
	t.Parallel()
	url, rule := pgtest.New(t).URL, only(t, lint.Policies(), "postgres_rls_bugs")
	for version, want := range map[int]string{
		140007: "has CVE-2023-2455 and CVE-2024-10976", 140008: "has CVE-2024-10976", 140014: "", 150002: "has CVE-2023-2455 and CVE-2024-10976",
		150008: "has CVE-2024-10976", 150009: "", 160004: "has CVE-2024-10976", 160005: "", 170000: "has CVE-2024-10976", 170001: "", 180000: "",
	} {
		s := defaults()
		s.ServerVersion = version
		got := ""
		for _, f := range run(t, url, rule, s) {
			got += f.Finding
		}
		if got != want {
			t.Errorf("%d: %q, want %q", version, got, want)
		}
	}
}

// TestRoleThatMayBecomeTheOwner: without inheriting from it.
func TestRoleThatMayBecomeTheOwner(t *testing.T) {
	t.Parallel()
	fixture{
		good: `alter role {role} noinherit`, bad: `grant rowcast to {role}`, options: "noinherit",
		object: "role {role}", words: "may become it with SET ROLE",
	}.check(t, lint.Policies(), "role_owns_messages")
}

// TestSamplesAreClean: nothing is found in what people copy.
func TestSamplesAreClean(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := postgres.ApplyAuth(t.Context(), db.URL); err != nil {
		t.Fatal(err)
	}
	exec(t, db, sql.Chat)
	files, err := fs.Glob(sql.Policies, "policies/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(sql.Policies, file)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, db, string(text))
	}
	for _, f := range run(t, db.URL, lint.Policies(), defaults()) {
		t.Errorf("%+v", f)
	}
}
