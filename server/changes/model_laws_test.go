package changes

import (
	"fmt"
	"slices"
	"strings"
)

// What DDL decides about the model's tables: the policy of one, and which columns of some each role may read. It is not in the
// history, as no snapshot tells it: Postgres applies what there is when it is asked.

// modelLaw is what was so after a statement. It is never changed: another follows.
type modelLaw struct {
	mode   int                            // of the table whose policy is altered
	grants map[string]map[string][]string // by table and role, the columns of those whose grants change
}

var modelRoles = []string{"authenticated", "anon", "service_role"}

// firstLaw is what modelSQL makes.
func firstLaw() modelLaw {
	l := modelLaw{byOwner, map[string]map[string][]string{}}
	for i := range modelTables {
		if t := &modelTables[i]; t.granted {
			l.grants[t.name] = map[string][]string{}
			for _, role := range modelRoles {
				l.grants[t.name][role] = usuallyGranted(role)
			}
		}
	}
	return l
}

// usuallyGranted are the columns of all other tables.
func usuallyGranted(role string) []string {
	if role == "anon" {
		return []string{"id", "team", "body"}
	}
	return modelColumns
}

// granting is the law with other columns for a role.
func (l modelLaw) granting(table, role string, columns []string) modelLaw {
	made := modelLaw{l.mode, map[string]map[string][]string{}}
	for t, roles := range l.grants {
		made.grants[t] = map[string][]string{}
		for r, granted := range roles {
			made.grants[t][r] = granted
		}
	}
	made.grants[table][role] = columns
	return made
}

// columns are those of a table that the person may read.
func (p modelPerson) columns(t *modelTable, in modelState) []string {
	if t.granted {
		return in.law.grants[t.name][p.role]
	}
	return usuallyGranted(p.role)
}

// reads tells whether the person may read all of these columns.
func (p modelPerson) reads(t *modelTable, in modelState, columns []string) bool {
	readable := p.columns(t, in)
	return !slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(readable, c) })
}

// legislate has a law made by statements.
func (m *model) legislate(l modelLaw, statements string) {
	m.mu.Lock()
	m.laws = append(m.laws, l)
	m.mu.Unlock()
	m.exec(statements)
	m.mu.Lock()
	m.settled = len(m.laws) - 1
	m.mu.Unlock()
}

// alter chooses another policy. Whoever has written to the table has to be done before.
func (m *model) alter(all []*writer) {
	for _, w := range all {
		if w.open != nil && w.open.locks {
			m.commit(w)
		}
	}
	l := m.laws[len(m.laws)-1]
	l.mode = m.random.IntN(policyModes + 1)
	m.legislate(l, tableOf(alteredTable).alteration(l.mode, m.random.IntN(2) == 0))
}

// grant has a role read other columns of a table than before: all, some, or none.
func (m *model) grant() {
	var tables []string
	for _, t := range modelTables {
		if t.granted {
			tables = append(tables, t.name)
		}
	}
	table, role := tables[m.random.IntN(len(tables))], modelRoles[m.random.IntN(len(modelRoles))]
	columns := modelColumns
	statements := fmt.Sprintf("revoke select on %s from %s; ", table, role)
	switch n := m.random.IntN(10); {
	case n < 4:
		statements += fmt.Sprintf("grant select on %s to %s", table, role)
	case n < 9:
		columns = nil
		for _, c := range modelColumns {
			if m.random.IntN(4) > 0 {
				columns = append(columns, c)
			}
		}
		if columns != nil {
			statements += fmt.Sprintf("grant select (%s) on %s to %s", strings.Join(columns, ", "), table, role)
		}
	default:
		columns = nil
	}
	m.legislate(m.laws[len(m.laws)-1].granting(table, role, columns), statements)
	if m.random.IntN(2) == 0 { // the digest says so, soon or after the next
		m.engine.Publications()
	}
}

// alteration is the DDL that makes a mode a table's policy: another in its place, or the same altered.
func (t *modelTable) alteration(mode int, another bool) string {
	const claims = "(current_setting('request.jwt.claims', true)::jsonb ->> %s)"
	sub, team := fmt.Sprintf(claims, "'sub'"), fmt.Sprintf(claims, "'team'")
	using := []string{
		byOwner: "owner = " + sub, byMembership: fmt.Sprintf("exists (select from members m where m.team = %s.team and m.who = %s)", t.name, sub),
		byFlag: "pub", byClaim: "team::text = " + team, everyone: "true", nobody: "false",
	}
	switch {
	case mode == unsecured:
		return fmt.Sprintf("alter table %s disable row level security", t.name)
	case another:
		return fmt.Sprintf("begin; drop policy p on %s; create policy p on %[1]s for select using (%s); alter table %[1]s enable row level security; commit", t.name, using[mode])
	}
	return fmt.Sprintf("begin; alter policy p on %s using (%s); alter table %[1]s enable row level security; commit", t.name, using[mode])
}

// lawsOf are those by which a row may have been judged in a batch, which took some time: in front, and in the rear, where it was asked
// about later. The policy was one for everybody.
func lawsOf(mode int, during []modelLaw) (pairs [][2]modelLaw) {
	for i, front := range during {
		for _, rear := range during[i:] {
			pairs = append(pairs, [2]modelLaw{{mode, front.grants}, {mode, rear.grants}})
		}
	}
	return pairs
}
