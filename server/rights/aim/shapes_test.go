package aim_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rowcast/server/rights/aim"
)

var update = flag.Bool("update", false, "write what this major of Postgres makes of the shapes into testdata")

// shape is a USING expression of a policy on messages, or several, and what is proposed for tables because of them.
type shape struct {
	name  string
	also  string // statements before
	using []string
	want  map[string]string // "subject@topic : columns", or "none: " and a part of the reason
}

const members, rooms = "app.members", "app.rooms"

func one(table, want string) map[string]string { return map[string]string{table: want} }

// where is the usual policy, with one condition.
func where(condition string) []string {
	return []string{"topic = realtime.topic() and exists (select from app.members m where " + condition + ")"}
}

var subjectOnly = one(members, "user_id@ : user_id")

var shapes = []shape{
	{"uid", "", where("m.user_id = auth.uid()"), subjectOnly},
	{"uid, the other way round", "", where("auth.uid() = m.user_id"), subjectOnly},
	{"uid in a subquery", "", where("m.user_id = (select auth.uid())"), subjectOnly},
	{"claims by hand", "", where("m.user_id = (auth.jwt() ->> 'sub')::uuid"), subjectOnly},
	{"claims by hand, in a subquery", "", where("m.user_id = ((select auth.jwt()) ->> 'sub')::uuid"), subjectOnly},
	{"the setting as json", "", where("m.user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid"), subjectOnly},
	{"the older setting", "", where("m.user_id = nullif(current_setting('request.jwt.claim.sub', true), '')::uuid"), subjectOnly},
	{"either setting", "", where("m.user_id = coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid"), subjectOnly},
	{"a function of one's own", "", where("m.user_id = app.me()"), subjectOnly},
	{"a function that calls another", "", where("m.login = app.login()"), one(members, "login@ : login")},
	{"text", "", where("m.login = auth.jwt() ->> 'sub'"), one(members, "login@ : login")},
	{"text of a uuid", "", where("m.login = auth.uid()::text"), one(members, "login@ : login")},
	{"a uuid as text", "", where("m.user_id::text = auth.jwt() ->> 'sub'"), subjectOnly},
	{"varchar", "", where("m.tag = auth.jwt() ->> 'sub'"), one(members, "tag@ : tag")},
	{"topic and uid", "", where("m.user_id = auth.uid() and 'room:' || m.room_id = realtime.topic()"), one(members, "user_id@room:{room_id} : room_id user_id")},
	{"topic in a subquery", "", where("'room:' || m.room_id = (select realtime.topic())"), one(members, "@room:{room_id} : room_id")},
	{"topic of messages", "", where("m.slug = messages.topic"), one(members, "@{slug} : slug")},
	{"topic of messages, without a table", "", where("m.slug = topic"), one(members, "@{slug} : slug")},
	{"topic with a suffix", "", where("'org:' || m.org || ':' || m.tag || '!' = realtime.topic()"), one(members, "@org:{org}:{tag}! : org tag")},
	{"more conditions", "", where("m.user_id = auth.uid() and not m.muted and m.hits > 3 and m.level = 'member' and 'x' = any (m.grants) and m.until > now() and m.slug like 'a%'"),
		one(members, "user_id@ : grants hits level muted slug until user_id")},
	{"a right that ends", "", where("m.user_id = auth.uid() and realtime.valid_until(m.until)"), one(members, "user_id@ : until user_id")},
	{"a list", "", where("m.user_id = auth.uid() and m.slug in ('a', 'b')"), one(members, "user_id@ : slug user_id")},
	{"a part of the topic", "", where("m.user_id = auth.uid() and m.room_id::text = split_part(realtime.topic(), ':', 2)"), one(members, "user_id@ : room_id user_id")},
	{"a join", "", []string{"exists (select from app.members m join app.rooms r on r.id = m.room_id where 'room:' || r.slug = realtime.topic() and m.user_id = auth.uid())"},
		map[string]string{members: "user_id@ : room_id user_id", rooms: "@room:{slug} : id slug"}},
	{"a join by comma", "", []string{"exists (select from app.members m, app.rooms r where r.id = m.room_id and m.user_id = auth.uid() and r.owner_id = auth.uid())"},
		map[string]string{members: "user_id@ : room_id user_id", rooms: "owner_id@ : id owner_id"}},
	{"one in the other", "", []string{"exists (select from app.rooms r where r.slug = topic and exists (select from app.members m where m.room_id = r.id and m.user_id = auth.uid()))"},
		map[string]string{members: "user_id@ : room_id user_id", rooms: "@{slug} : id slug"}},
	{"not exists", "", []string{"not exists (select from app.bans b where b.login = auth.jwt() ->> 'sub' and b.topic = realtime.topic())"}, one("app.bans", "login@{topic} : login topic")},
	{"a scalar", "", []string{"(select m.level from app.members m where m.user_id = auth.uid()) = 'member'"}, one(members, "user_id@ : level user_id")},
	{"a scalar with a limit", "", []string{"(select m.muted from app.members m where m.user_id = auth.uid() order by m.hits desc limit 1) is not true"}, one(members, "user_id@ : all")},
	{"a count", "", []string{"(select count(*) from app.members m where m.user_id = auth.uid() group by m.room_id having max(m.hits) > 1) > 0"}, one(members, "user_id@ : hits room_id user_id")},
	{"a limit that does not matter", "", where("m.user_id = auth.uid() limit 1"), subjectOnly},
	{"an array in order", "", []string{"array(select m.slug from app.members m where m.user_id = auth.uid()) = array['a']"}, one(members, "user_id@ : all")},
	{"an aggregate in order", "", []string{"(select array_agg(m.slug) from app.members m where m.user_id = auth.uid()) = array['a']"}, one(members, "user_id@ : all")},
	{"a nested limit", "", where("m.user_id = auth.uid() and m.slug in (select r.slug from app.rooms r where r.owner_id = auth.uid() limit 1)"), map[string]string{members: "user_id@ : all", rooms: "owner_id@ : all"}},
	{"an array", "", []string{"realtime.topic() = any (array(select m.slug from app.members m where m.user_id = auth.uid()))"}, one(members, "user_id@ : slug user_id")},
	{"in", "", []string{"auth.uid() in (select m.user_id from app.members m)"}, subjectOnly},
	{"topic in", "", []string{"realtime.topic() in (select 'room:' || m.room_id from app.members m where m.user_id = (select auth.uid()))"}, one(members, "user_id@room:{room_id} : room_id user_id")},
	{"topic in, or else", "", []string{"topic = 'lobby' or topic in (select m.slug from app.members m)"}, one(members, "@{slug} : slug")},
	{"a union", "", []string{"exists (select m.room_id from app.members m where m.user_id = auth.uid() union all select r.id from app.rooms r where r.owner_id = auth.uid())"},
		map[string]string{members: "user_id@ : room_id user_id", rooms: "owner_id@ : id owner_id"}},
	{"two policies", "", append(where("m.user_id = auth.uid() and m.slug = topic"), where("m.user_id = auth.uid() and m.muted")...), one(members, "user_id@ : muted slug user_id")},
	{"two policies, different columns", "", append(where("m.user_id = auth.uid() and m.slug = topic"), where("m.owner_id = auth.uid() and m.slug = topic")...), one(members, "@{slug} : owner_id slug user_id")},
	{"two policies, different templates", "", append(where("m.slug = topic"), where("'x' || m.slug = topic")...), one(members, "none: do not all compare")},
	{"two columns", "", where("m.user_id = auth.uid() and m.owner_id = auth.uid()"), one(members, "owner_id@ : owner_id user_id")},
	{"its own policies", "alter table app.members enable row level security; create policy own on app.members using (owner_id = auth.uid() or not muted)", where("m.user_id = auth.uid()"), one(members, "user_id@ : muted owner_id user_id")},
	{"the policies of another table", "alter table app.rooms enable row level security; create policy own on app.rooms using (exists (select from app.members m where m.user_id = auth.uid() and m.room_id = rooms.id))",
		[]string{"exists (select from app.rooms r where r.slug = topic)"}, map[string]string{members: "user_id@ : room_id user_id", rooms: "none: its own policies read tables"}},
	{"a raised error of the session alone", "", []string{"split_part(topic, ':', 2)::integer > 0 and exists (select from app.members m where m.user_id = auth.uid())"}, subjectOnly},
	{"a partitioned table", "", []string{"exists (select from app.parted p where p.user_id = auth.uid() and p.topic = realtime.topic())"}, one("app.parted", "user_id@{topic} : topic user_id")},
	{"columns alone", "", []string{"exists (select from app.rooms r where r.open)"}, one(rooms, "none: do not all compare : open")},

	{"or", "", where("m.user_id = auth.uid() or m.slug = topic"), one(members, "none: do not all compare")},
	{"not", "", where("not (m.user_id = auth.uid())"), one(members, "none: do not all compare")},
	{"is not true", "", where("(m.user_id = auth.uid()) is not true"), one(members, "none: do not all compare")},
	{"not distinct", "", where("m.user_id is not distinct from auth.uid()"), one(members, "none: do not all compare")},
	{"unequal", "", where("m.user_id <> auth.uid()"), one(members, "none: do not all compare")},
	{"any", "", where("m.user_id = any (array[auth.uid(), m.owner_id])"), one(members, "none: do not all compare")},
	{"outside", "", []string{"(select m.user_id from app.members m limit 1) = auth.uid()"}, one(members, "none: do not all compare")},
	{"not in", "", []string{"auth.uid() not in (select m.user_id from app.members m)"}, one(members, "none: do not all compare")},
	{"in, within a case", "", []string{"case when auth.uid() in (select m.user_id from app.members m) then false else true end"}, one(members, "none: do not all compare")},
	{"in, limited", "", []string{"auth.uid() in (select m.user_id from app.members m limit 1)"}, one(members, "none: do not all compare")},
	{"in, of an aggregate", "", []string{"auth.uid()::text in (select max(m.login) from app.members m)"}, one(members, "none: do not all compare")},
	{"in, of several", "", []string{"auth.uid() in (select m.user_id from app.members m union select m.owner_id from app.members m)"}, one(members, "none: do not all compare")},
	{"a left join", "", []string{"exists (select from app.members m left join app.rooms r on r.id = m.room_id and r.owner_id = auth.uid() where m.user_id = auth.uid())"},
		map[string]string{members: "none: outer join", rooms: "none: outer join"}},
	{"another claim", "", where("m.login = auth.jwt() ->> 'email'"), one(members, "none: do not all compare")},
	{"lower", "", where("m.login = lower(auth.jwt() ->> 'sub')"), one(members, "none: do not all compare")},
	{"lower of the column", "", where("lower(m.login) = auth.jwt() ->> 'sub'"), one(members, "none: do not all compare")},
	{"a suffix of the id", "", where("m.login || 'x' = auth.jwt() ->> 'sub'"), one(members, "none: do not all compare")},
	{"a column of the other table", "", []string{"exists (select from app.members m join app.rooms r on true where m.owner_id = r.owner_id and r.owner_id = auth.uid())"},
		map[string]string{members: "none: do not all compare", rooms: "owner_id@ : owner_id"}},
	{"a template of two tables", "", []string{"exists (select from app.members m, app.rooms r where m.tag || r.slug = topic)"}, one(members, "none: do not all compare")},
	{"a column named with braces", "", where(`m."odd {name}" = topic`), one(members, "none: do not all compare")},
	{"braces in the topic", "", where("'{' || m.slug = topic"), one(members, "none: do not all compare")},
	{"a number that is not an integer", "", where("m.until::text = topic"), one(members, "none: do not all compare")},

	{"a cast that may fail", "", where("m.user_id = auth.uid() and m.slug::integer = 1"), one(members, "none: a cast to integer : all")},
	{"a cast of the topic", "", where("m.user_id = auth.uid() and m.room_id = split_part(topic, ':', 2)::integer"), one(members, "none: a cast to integer")},
	{"a cast of the column", "", where("m.login::uuid = auth.uid()"), one(members, "none: a cast to uuid")},
	{"arithmetic", "", where("m.user_id = auth.uid() and 1 / m.hits = 1"), one(members, "none: the operator /")},
	{"arithmetic around it", "", []string{"exists (select from app.rooms r where 1 / r.id = 1 and exists (select from app.members m where m.user_id = auth.uid()))"}, map[string]string{members: "none: the operator /", rooms: "none: the operator /"}},
	{"a subquery that may raise", "", where("m.user_id = auth.uid() and m.room_id = (select r.id from app.rooms r)"), one(members, "none: several rows")},
	{"a domain", "", where("m.user_id = auth.uid() and m.who = auth.uid()"), one(members, "none: a cast to uuid")},
	{"another collation", "", where("m.loose = auth.jwt() ->> 'sub'"), one(members, "none: the type or collation of column loose")},
	{"the collation C", "", where("m.strict = auth.jwt() ->> 'sub'"), one(members, "none: the type or collation of column strict")},
	{"padded", "", where("m.padded = auth.jwt() ->> 'sub'"), one(members, "none: the type or collation of column padded")},
	{"a collation by hand", "", where(`m.login = (auth.jwt() ->> 'sub') collate app.nocase`), one(members, "none: not written as expected")},
	{"its own policies read", "alter table app.members enable row level security; create policy own on app.members using (exists (select from app.rooms r where r.owner_id = auth.uid()))",
		where("m.user_id = auth.uid()"), map[string]string{members: "none: its own policies read tables", rooms: "owner_id@ : owner_id"}},
	{"its own policies may fail", "alter table app.members enable row level security; create policy own on app.members using (1 / hits > 0)", where("m.user_id = auth.uid()"), one(members, "none: the operator /")},

	{"a function", "", append(where("m.user_id = auth.uid()"), "app.opaque()"), one(members, "none: calls app.opaque()")},
	{"a traced function", "", append(where("m.user_id = auth.uid()"), "app.traced()"), one(members, "none: calls app.traced()")},
	{"a function of another", "", where("m.user_id = app.definer()"), one(members, "none: calls app.definer()")},
	{"a function that cuts", "", where("m.login = app.cut()"), one(members, "none: calls app.cut()")},
	{"functions that call each other", "", where("m.login = app.ping()"), one(members, "none: calls app.ping()")},
	{"a setting that is changed", "", []string{"set_config('request.jwt.claims', '{}', true) is not null and exists (select from app.members m where m.user_id = auth.uid())"}, one(members, "none: calls set_config()")},
	{"a query in a string", "", append(where("m.user_id = auth.uid()"), "query_to_xml('select 1 from app.members', true, true, '') is not null"), one(members, "none: calls query_to_xml()")},
	{"a view", "", append(where("m.user_id = auth.uid()"), "exists (select from app.seen s where s.user_id = auth.uid())"), one(members, "none: reads app.seen")},
	{"an operator", "", append(where("m.user_id = auth.uid()"), "topic operator(app.===) 'x'"), one(members, "none: not written as expected")},
	{"a with query", "", []string{"exists (with x as (select * from app.members) select from x where x.user_id = auth.uid())"}, one(members, "none: not written as expected")},
	{"a subquery in from", "", []string{"exists (select from (select * from app.members limit 1) x where x.user_id = auth.uid())"}, one(members, "none: not written as expected")},
	{"lateral", "", []string{"exists (select from app.rooms r, lateral (select * from app.members) x where x.user_id = auth.uid())"}, one(members, "none: not written as expected")},
	{"only", "", []string{"exists (select from only app.members m where m.user_id = auth.uid())"}, one(members, "none: not written as expected")},
	{"using", "", []string{"exists (select from app.members m join app.rooms r using (org) where m.user_id = auth.uid())"}, one(members, "none: not written as expected")},
	{"a whole row", "", where("m.user_id = auth.uid() and m.* is not null"), one(members, "none: not written as expected")},
	{"a partition", "", []string{"exists (select from app.part p where p.user_id = auth.uid())", "exists (select from app.parted p where p.user_id = auth.uid())"},
		map[string]string{"app.part": "none: it is a partition", "app.parted": "none: its partition app.part is read by itself"}},
	{"children", "", []string{"exists (select from app.parent p where p.user_id = auth.uid())"}, one("app.parent", "none: it has children")},
	{"a child", "", []string{"exists (select from app.child p where p.user_id = auth.uid())"}, one("app.child", "none: it is a partition, or a child")},
	{"messages itself", "", append(where("m.user_id = auth.uid()"), "exists (select from realtime.messages x where x.topic = 'a')"), one(members, "none: reads realtime.messages itself")},
	{"a trigger on messages", "create function app.look() returns trigger language plpgsql as $$ begin return new; end $$; create trigger look before insert on realtime.messages for each row execute function app.look()",
		where("m.user_id = auth.uid()"), one(members, "none: a trigger of its own, look")},
	{"a check on messages", "alter table realtime.messages add check (event <> 'x')", where("m.user_id = auth.uid()"), one(members, "none: a check of its own")},
}

// told writes a proposal as the table above does.
func told(p aim.Proposal) string {
	columns := strings.Join(p.Columns, " ")
	if p.Columns == nil {
		columns = "all"
	}
	if p.Subject == "" && p.Topic == "" {
		return "none: " + p.Reason + " : " + columns
	}
	return p.Subject + "@" + p.Topic + " : " + columns
}

func check(t *testing.T, s shape, f aim.Facts) {
	t.Helper()
	all := aim.Propose(f)
	for table, want := range s.want {
		p, found := all[name(table)]
		got := told(p)
		ok := got == want
		if rest, none := strings.CutPrefix(want, "none: "); none {
			reason, columns, _ := strings.Cut(rest, " : ")
			ok = strings.HasPrefix(got, "none: ") && strings.Contains(got, reason) && strings.HasSuffix(got, columns)
		}
		if !found || !ok {
			t.Errorf("%s: %s: %+v, want %+v (found: %v)\n%+v", s.name, table, got, want, found, f.Policies)
		}
	}
}

// What is proposed for policies as this Postgres prints them. With -update, it becomes a file for those that run another.
func TestShapes(t *testing.T) {
	t.Parallel()
	_, admin := setUp(t)
	seen := map[string]aim.Facts{}
	for _, s := range shapes {
		exec(t, admin, "begin", s.also)
		for i, using := range s.using {
			exec(t, admin, fmt.Sprintf("create policy p%d on realtime.messages for select using (%s)", i, using))
		}
		f := facts(t, admin)
		exec(t, admin, "rollback")
		check(t, s, f)
		seen[s.name] = f
	}
	if *update {
		var major int
		if err := admin.QueryRow(t.Context(), "select current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
			t.Fatal(err)
		}
		write(t, major, seen)
	}
}

// print is what a major of Postgres made of the shapes. Of the tables, the shapes have the names alone.
type print struct {
	Tables map[string]aim.Table
	Shapes map[string]aim.Facts
}

func file(major int) string {
	return filepath.Join("testdata", fmt.Sprintf("postgres-%d.json", major))
}

func write(t *testing.T, major int, seen map[string]aim.Facts) {
	t.Helper()
	all := print{map[string]aim.Table{}, map[string]aim.Facts{}}
	for shape, f := range seen {
		tables := f.Tables
		f.Tables = nil
		for _, table := range tables {
			all.Tables[table.String()] = table
			f.Tables = append(f.Tables, aim.Table{Name: table.Name})
		}
		all.Shapes[shape] = f
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`,("[^"]*":\{"(policies|schema)")`).ReplaceAll(text, []byte(",\n$1")) // a line for each
	if err := os.WriteFile(file(major), append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What other majors print leads to the same proposals.
func TestShapesOfOtherMajors(t *testing.T) {
	t.Parallel()
	for _, major := range []int{14, 18} { // those between print the same as 18
		text, err := os.ReadFile(file(major))
		if err != nil {
			t.Fatal(err)
		}
		var all print
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		for _, s := range shapes {
			f, found := all.Shapes[s.name]
			if !found {
				t.Errorf("Postgres %d: %s is missing; go test -update writes it", major, s.name)
			}
			for i := range f.Tables {
				f.Tables[i] = all.Tables[f.Tables[i].String()]
			}
			check(t, s, f)
		}
	}
}
