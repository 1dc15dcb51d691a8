package changes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"rowcast/server/snapshot"
)

// The model's world: tables, policies, and what every transaction did to them. It knows nothing of how changes are judged;
// from a snapshot it makes the rows that the snapshot sees, and decides the policies by itself.

// Policies of the tables are chosen by rows of their own, so they change with transactions, too.
const (
	byOwner = iota
	byMembership
	byFlag
	byClaim
	everyone
	nobody
	policyModes
	unsecured = policyModes // row level security is off
)

// modelTable is a table of the world; all have the same columns.
type modelTable struct {
	name    string
	key     []string
	secured bool
	full    bool // REPLICA IDENTITY FULL
	fixed   int  // the one policy, by which groups can be made; -1: chosen by a row of modes
	altered bool // the policy is chosen by DDL
	granted bool // who may read which columns is
}

var modelTables = []modelTable{
	{name: "plain_default", key: []string{"id"}, fixed: -1},
	{name: "plain_full", key: []string{"id"}, full: true, fixed: -1},
	{name: "plain_granted", key: []string{"id"}, full: true, fixed: -1, granted: true},
	{name: "rls_default", key: []string{"id"}, secured: true, fixed: -1},
	{name: "rls_full", key: []string{"id"}, secured: true, full: true, fixed: -1},
	{name: "rls_pair", key: []string{"team", "id"}, secured: true, fixed: -1},
	{name: "rls_claim", key: []string{"id"}, secured: true, full: true, fixed: byClaim},
	{name: "rls_owner", key: []string{"id"}, secured: true, fixed: byOwner},
	{name: alteredTable, key: []string{"id"}, secured: true, full: true, fixed: -1, altered: true, granted: true},
}

// alteredTable is the one whose policy is chosen by DDL.
const alteredTable = "rls_altered"

func tableOf(name string) *modelTable {
	return &modelTables[slices.IndexFunc(modelTables, func(t modelTable) bool { return t.name == name })]
}

var modelColumns = []string{"id", "owner", "team", "pub", "body"}

// modelSQL makes the world.
func modelSQL() (statements []string) {
	const claims = "(current_setting('request.jwt.claims', true)::jsonb ->> %s)"
	sub, team := fmt.Sprintf(claims, "'sub'"), fmt.Sprintf(claims, "'team'")
	statements = append(statements,
		"create table modes (tab text primary key, mode int not null); grant select on modes to authenticated, anon",
		"create table members (who text, team int, primary key (who, team)); grant select on members to authenticated, anon")
	for _, t := range modelTables {
		statements = append(statements, fmt.Sprintf(
			"create table %s (id int, owner text, team int, pub boolean, body text, primary key (%s)); grant select on %[1]s to authenticated, service_role; grant select (id, team, body) on %[1]s to anon; alter publication supabase_realtime add table %[1]s",
			t.name, strings.Join(t.key, ", ")))
		if t.full {
			statements = append(statements, fmt.Sprintf("alter table %s replica identity full", t.name))
		}
		if !t.secured {
			continue
		}
		expression := []string{
			byOwner: "owner = " + sub,
			byClaim: "team::text = " + team,
		}
		using := ""
		switch {
		case t.altered:
			using = expression[byOwner]
		case t.fixed >= 0:
			using = expression[t.fixed]
		default:
			using = fmt.Sprintf(`case (select mode from modes where tab = '%s') when 0 then owner = %s when 1 then exists (select from members m where m.team = %s.team and m.who = %s)
				when 2 then pub when 3 then team::text = %s when 4 then true else false end`, t.name, sub, t.name, sub, team)
			statements = append(statements, fmt.Sprintf("insert into modes values ('%s', 0)", t.name))
		}
		statements = append(statements, fmt.Sprintf("alter table %s enable row level security; create policy p on %[1]s for select using (%s)", t.name, using))
	}
	return statements
}

// modelRow is a row of any of the tables.
type modelRow struct {
	id, team    int
	owner, body string
	pub         bool
}

func (r modelRow) text(column string) string {
	switch column {
	case "id":
		return strconv.Itoa(r.id)
	case "team":
		return strconv.Itoa(r.team)
	case "owner":
		return r.owner
	case "body":
		return r.body
	}
	return strconv.FormatBool(r.pub)
}

// json is the row as it is delivered, of these columns.
func (r modelRow) json(columns []string) string {
	var parts []string
	for _, c := range modelColumns {
		if !slices.Contains(columns, c) {
			continue
		}
		text := r.text(c)
		if c == "owner" || c == "body" {
			text = strconv.Quote(text)
		}
		parts = append(parts, strconv.Quote(c)+":"+text)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// place is where a row is.
type rowKey struct{ table, key string }

func (t *modelTable) keyOf(r modelRow) rowKey {
	var parts []string
	for _, c := range t.key {
		parts = append(parts, r.text(c))
	}
	return rowKey{t.name, strings.Join(parts, "|")}
}

// modelState is all that a policy may look at.
type modelState struct {
	rows    map[rowKey]modelRow
	members map[string]bool // who|team
	modes   map[string]int
	law     modelLaw // not of the history
}

func noState() modelState {
	return modelState{rows: map[rowKey]modelRow{}, members: map[string]bool{}, modes: map[string]int{}}
}

func (s modelState) clone() modelState {
	return modelState{rows: maps.Clone(s.rows), members: maps.Clone(s.members), modes: maps.Clone(s.modes)}
}

// under is the state with another law.
func (s modelState) under(l modelLaw) modelState {
	s.law = l
	return s
}

// modelChange is a row that was changed.
type modelChange struct {
	table    *modelTable
	old, new *modelRow
}

func (c modelChange) event() Events {
	switch {
	case c.old == nil:
		return Insert
	case c.new == nil:
		return Delete
	}
	return Update
}

// modelTransaction was committed.
type modelTransaction struct {
	xid     snapshot.XID
	changes []modelChange
	after   modelState // of what its writer owns
	locks   bool       // it has written to the table whose policy is altered
}

// history is what each writer committed, in order. What one writes belongs to him alone, so a snapshot of all is made of what it
// sees of each.
type history struct {
	writers [][]modelTransaction
	byXID   map[snapshot.XID]*modelTransaction
}

// at is the world as a snapshot sees it.
func (h *history) at(s snapshot.Snapshot) modelState {
	all := noState()
	for _, transactions := range h.writers {
		for i := len(transactions) - 1; i >= 0; i-- {
			if t := &transactions[i]; s.Sees(t.xid) {
				maps.Copy(all.rows, t.after.rows)
				maps.Copy(all.members, t.after.members)
				maps.Copy(all.modes, t.after.modes)
				break
			}
		}
	}
	return all
}

// modelPerson is whom a token names.
type modelPerson struct {
	role, name string
	team       int
}

func (p modelPerson) group() Group {
	return Group{p.role, fmt.Appendf(nil, `{"role":%q,"sub":%q,"team":"%d"}`, p.role, p.name, p.team)}
}

// bound tells whether policies bind the person on a table.
func (p modelPerson) bound(t *modelTable, in modelState) bool {
	return t.secured && p.role != "service_role" && !(t.altered && in.law.mode == unsecured)
}

// sees decides a table's policy.
func (p modelPerson) sees(t *modelTable, r modelRow, in modelState) bool {
	if !p.bound(t, in) {
		return true
	}
	mode := t.fixed
	switch {
	case t.altered:
		mode = in.law.mode
	case mode < 0:
		mode = in.modes[t.name]
	}
	switch mode {
	case byOwner:
		return r.owner == p.name
	case byMembership:
		return in.members[fmt.Sprintf("%s|%d", p.name, r.team)]
	case byFlag:
		return r.pub
	case byClaim:
		return r.team == p.team
	}
	return mode == everyone
}

// hidden tells whether the policy by itself, whatever else there is, hides this version of a row from the person: it hides all, or
// compares a column with a claim. whole: more of the row than its key is known.
func (p modelPerson) hidden(t *modelTable, r modelRow, whole bool, in modelState) bool {
	mode := t.fixed
	if t.altered {
		mode = in.law.mode
	}
	return (mode == nobody || whole && (mode == byOwner || mode == byClaim)) && !p.sees(t, r, in)
}

// find is the row with a key, if the person sees it.
func (p modelPerson) find(t *modelTable, key rowKey, in modelState) (modelRow, bool) {
	r, there := in.rows[key]
	return r, there && p.sees(t, r, in)
}

// equal tells whether two rows are equal as far as the person may read.
func (p modelPerson) equal(t *modelTable, a, b modelRow, in modelState) bool {
	return a.json(p.columns(t, in)) == b.json(p.columns(t, in))
}

// judgedAs tells whether what policies said of a row holds for another version of it, as far as the person may compare them.
func (p modelPerson) judgedAs(t *modelTable, a, b modelRow, in modelState) bool {
	columns := modelColumns // the policy looks at another table, too
	mode := t.fixed
	if t.altered {
		mode = in.law.mode
	}
	switch mode {
	case everyone, nobody:
		columns = nil
	case byFlag:
		columns = []string{"pub"}
	case byOwner:
		columns = []string{"owner"}
	case byClaim:
		columns = []string{"team"}
	}
	if !p.reads(t, in, columns) { // then all that he is shown has to be the same
		columns = modelColumns
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return !slices.Contains(p.columns(t, in), c) })
	return a.json(columns) == b.json(columns)
}
