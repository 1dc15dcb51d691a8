package aim_test

import (
	"fmt"
	"strings"
)

// What policies are made of here: shapes that people write, and shapes that look like them and are not.

// uid is the id of who asks.
func (w *world) uid() string {
	return w.pick("auth.uid()", "(select auth.uid())", "app.me()", "nullif(current_setting('request.jwt.claim.sub', true), '')::uuid", "nullif(auth.jwt() ->> 'sub', '')::uuid")
}

func (w *world) uidText() string {
	return w.pick("auth.uid()::text", "auth.jwt() ->> 'sub'", "(select auth.jwt() ->> 'sub')", "app.login()")
}

func (w *world) topic() string {
	return w.pick("realtime.topic()", "messages.topic", "(select realtime.topic())")
}

// decision is the expression of a policy.
func (w *world) decision(depth int) string {
	if depth > 0 {
		switch w.rand.IntN(8) {
		case 0:
			return fmt.Sprintf("(%s or %s)", w.decision(depth-1), w.decision(depth-1))
		case 1:
			return fmt.Sprintf("(%s and %s)", w.decision(depth-1), w.decision(depth-1))
		case 2:
			return fmt.Sprintf("(not coalesce(%s, false))", w.decision(depth-1))
		case 3:
			return fmt.Sprintf("(realtime.topic() = 'lobby' or %s)", w.decision(depth-1))
		}
	}
	nasty := 0 // these spoil every proposal, so they are kept for some of the policies
	if w.nasty {
		nasty = 2
	}
	switch w.rand.IntN(16 + nasty) {
	default:
		return fmt.Sprintf("%s (select from app.members m where %s%s)", w.pick("exists", "exists", "not exists"), w.member(2), w.pick("", "", " limit 1"))
	case 0:
		return fmt.Sprintf("%s %s (select m.%s from app.members m%s)", w.uid(), w.pick("in", "not in"), w.pick("user_id", "user_id", "owner_id"), w.pick("", " where m.muted", " where "+w.member(1)))
	case 1:
		return fmt.Sprintf("topic %s (select 'room:' || m.room_id from app.members m where %s)", w.pick("in", "in", "not in"), w.member(1))
	case 2:
		return fmt.Sprintf("(select m.muted from app.members m where %s order by m.hits %s limit 1) %s", w.member(1), w.pick("asc", "desc"), w.pick("", "is not true", "is null"))
	case 3:
		return fmt.Sprintf("(select count(*) from app.members m where %s) %s 1", w.member(1), w.pick(">", "=", "<"))
	case 4:
		return fmt.Sprintf("'x' = any (array(select m.slug from app.members m where %s))", w.member(1))
	case 5, 6:
		return fmt.Sprintf("exists (select from app.members m join app.rooms r on r.id = m.room_id%s where %s and %s)", w.pick("", "", " and r.open"), w.member(1), w.room(1))
	case 7:
		return fmt.Sprintf("exists (select from app.members m %s join app.rooms r on r.id = m.room_id and %s where %s)", w.pick("left", "right", "full", "left"), w.room(0), w.member(1))
	case 8:
		return fmt.Sprintf("exists (select m.room_id from app.members m where %s union select r.id from app.rooms r where %s)", w.member(1), w.room(1))
	case 9:
		return fmt.Sprintf("exists (select from app.rooms r where %s and exists (select from app.members m where m.room_id = r.id and %s))", w.room(1), w.member(1))
	case 10, 11:
		return fmt.Sprintf("%s (select from app.bans b where %s)", w.pick("exists", "not exists"), w.ban())
	case 16:
		return "app.opaque()"
	case 12:
		return fmt.Sprintf("(select bool_or(m.muted) from app.members m where %s group by m.room_id having max(m.hits) >= 0 limit 1)", w.member(1))
	}
}

// member is a condition on app.members m.
func (w *world) member(depth int) string {
	// Postgres does first what it takes for cheap: the division, before the id is read out of the claims.
	if w.nasty && w.chance(20) {
		return fmt.Sprintf("(m.user_id = auth.uid() and %s)", w.pick("6 / m.hits > 1", "m.login::uuid is not null", "m.slug::integer > 0"))
	}
	if depth > 0 && w.chance(50) {
		return fmt.Sprintf("(m.user_id = %s and %s)", w.uid(), w.member(depth-1))
	}
	if depth > 0 {
		switch w.rand.IntN(7) {
		case 0:
			return fmt.Sprintf("(%s or %s)", w.member(depth-1), w.member(depth-1))
		case 1:
			return fmt.Sprintf("(not %s)", w.member(depth-1))
		case 2, 3:
			return fmt.Sprintf("(%s and %s)", w.member(depth-1), w.member(depth-1))
		}
	}
	if w.chance(45) {
		return "m.user_id = " + w.uid()
	}
	nasty := 0
	if w.nasty {
		nasty = 6
	}
	switch w.rand.IntN(18 + nasty) {
	default:
		return "'room:' || m.room_id = " + w.topic()
	case 0:
		return "m.owner_id = " + w.uid()
	case 1:
		return "m.user_id is not distinct from " + w.uid()
	case 2:
		return "m.user_id <> " + w.uid()
	case 3:
		return "(m.user_id = auth.uid()) is not true"
	case 4:
		return "m.login = " + w.uidText()
	case 5:
		return "m.tag = " + w.uidText()
	case 18:
		return "m.loose = " + w.uidText()
	case 19:
		return "m.login::uuid = auth.uid()"
	case 8:
		return "m.muted"
	case 9:
		return "m.hits > 1"
	case 20:
		return "6 / m.hits > 1"
	case 7, 10:
		return "realtime.valid_until(m.until)"
	case 12:
		return "m.until > now()"
	case 11:
		return "m.room_id::text = split_part(realtime.topic(), ':', 2)"
	case 21:
		return "m.room_id = split_part(realtime.topic(), ':', 2)::integer"
	case 13:
		return "m.room_id::text = " + w.topic()
	case 14:
		return "m.slug = " + w.topic()
	case 15:
		return "m.room_id in (select r.id from app.rooms r where " + w.room(1) + ")"
	case 16:
		return "m.room_id not in (select r.id from app.rooms r where " + w.room(0) + ")"
	case 17:
		return "auth.uid() in (m.user_id, m.owner_id)"
	case 22:
		return "m.slug = (select r.slug from app.rooms r where r.id = m.room_id" + w.pick("", " limit 1") + ")"
	case 6:
		return "m.user_id is null"
	}
}

// room is a condition on app.rooms r.
func (w *world) room(depth int) string {
	if depth > 0 && w.chance(30) {
		return fmt.Sprintf("(%s %s %s)", w.room(depth-1), w.pick("and", "and", "or"), w.room(depth-1))
	}
	if w.nasty && w.chance(10) {
		return "r.slug::integer = r.id"
	}
	return w.pick("r.open", "r.owner_id = "+w.uid(), "'room:' || r.slug = "+w.topic(), "'room:' || r.id = "+w.topic(), "r.slug = "+w.topic(), "not r.open")
}

func (w *world) ban() string {
	who := "b.login = " + w.uidText()
	what := "b.topic = " + w.topic()
	return w.pick(who, who+" and "+what, what, what+" or "+who, "lower(b.login) = "+w.uidText(), who+" and b.topic like 'room:%'", what+" and b.login is not null")
}

// value is a random value for a column, often null.
func (w *world) value(column string) string {
	if w.chance(12) {
		return "null"
	}
	switch column {
	case "user_id", "owner_id":
		return quote(w.pick(people...))
	case "login", "tag", "loose":
		// varchar(20) takes no uuid whole; it has short ones, and those of the others are as text can be.
		if column == "tag" {
			return quote(w.pick("x", "", "lobby"))
		}
		return quote(w.pick(append([]string{"C3333333-3333-4333-8333-333333333333", "", "no-one"}, people...)...))
	case "room_id", "id":
		return w.pick("1", "2", "3")
	case "hits":
		return w.pick("0", "1", "2", "6")
	case "until":
		return quote(w.pick("2000-01-01", "2200-01-01", "2300-01-01", "infinity"))
	case "muted", "open":
		return w.pick("true", "false")
	}
	return quote(w.pick("x", "1", "2", "lobby", "room:1", "room:2"))
}

var columns = map[string][]string{
	members:    {"user_id", "owner_id", "room_id", "slug", "login", "tag", "loose", "muted", "hits", "until"},
	rooms:      {"id", "slug", "owner_id", "open"},
	"app.bans": {"login", "topic"},
}

func (w *world) table() string { return w.pick(members, members, members, rooms, rooms, "app.bans") }

func (w *world) insert() string {
	table := w.table()
	names, values := "", ""
	for i, column := range columns[table] {
		if i > 0 {
			names, values = names+", ", values+", "
		}
		names, values = names+column, values+w.value(column)
	}
	return fmt.Sprintf("insert into %s (%s) values (%s)", table, names, values)
}

// change is a change of one row; sometimes of more, by which more marks are made.
func (w *world) change() string {
	table := w.table()
	some := fmt.Sprintf("where ctid = (select ctid from %s order by random() limit 1)", table)
	if w.chance(25) {
		some = ""
	}
	column := w.pick(columns[table]...)
	switch w.rand.IntN(9) { // tables are often empty, which is a case of its own
	case 0, 1, 2:
		return w.insert()
	case 3, 4, 5:
		return fmt.Sprintf("delete from %s %s", table, some)
	}
	value := w.value(column)
	set, changed := column+" = "+value, column+" is distinct from "+value
	if other := w.pick(columns[table]...); other != column {
		value := w.value(other)
		set, changed = set+", "+other+" = "+value, changed+" or "+other+" is distinct from "+value
	}
	// An UPDATE that changes nothing moves the row, and no watch tells of it: what goes by the order of rows is no right.
	return fmt.Sprintf("update %s set %s where (%s)%s", table, set, changed, strings.Replace(some, "where", " and", 1))
}
