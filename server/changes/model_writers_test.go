package changes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/snapshot"
)

// writer is a connection, and what it owns.
type writer struct {
	*pgx.Conn
	number int
	state  modelState
	open   *modelTransaction // under way
	saved  *modelState       // at its savepoint
	kept   int               // changes before it
}

// do has a writer execute a statement.
func (m *model) do(w *writer, statement string, args ...any) {
	if _, err := w.Exec(m.Context(), statement, args...); err != nil {
		m.Fatalf("%s: %v", statement, err)
	}
}

// step has a writer do something, and gives how many rows that changed.
func (m *model) step(w *writer) int {
	if w.open == nil {
		m.do(w, "begin")
		var xid string
		if err := w.QueryRow(m.Context(), "select pg_current_xact_id()::text").Scan(&xid); err != nil {
			m.Fatal(err)
		}
		id, _ := snapshot.ParseXID(xid)
		w.open = &modelTransaction{xid: id, after: w.state.clone()}
	}
	switch n := m.random.IntN(100); {
	case n < 20:
		m.commit(w)
	case n < 24:
		m.do(w, "rollback")
		w.open, w.saved = nil, nil
	case n < 28 && w.saved == nil:
		saved := w.open.after.clone()
		w.saved, w.kept = &saved, len(w.open.changes)
		m.do(w, "savepoint s")
	case n < 31 && w.saved != nil:
		m.do(w, "rollback to s")
		w.open.after, w.open.changes = w.saved.clone(), w.open.changes[:w.kept]
	case n < 37:
		who, team := fmt.Sprintf("u%d", w.number+4*m.random.IntN(2)), 1+m.random.IntN(3)
		key := fmt.Sprintf("%s|%d", who, team)
		if w.open.after.members[key] {
			m.do(w, "delete from members where who = $1 and team = $2", who, team)
			w.open.after.members[key] = false
		} else {
			m.do(w, "insert into members values ($1, $2)", who, team)
			w.open.after.members[key] = true
		}
	case n < 41 && w.number == 0:
		t := modelTables[2+m.random.IntN(3)].name
		mode := m.random.IntN(policyModes)
		m.do(w, "update modes set mode = $2 where tab = $1", t, mode)
		w.open.after.modes[t] = mode
	default:
		return m.change(w, &modelTables[m.random.IntN(len(modelTables))])
	}
	return 0
}

func (m *model) commit(w *writer) {
	m.do(w, "commit")
	w.state, w.saved = w.open.after, nil
	m.history.writers[w.number] = append(m.history.writers[w.number], *w.open)
	w.open = nil
	if m.random.IntN(2) == 0 { // the writers are to be ahead of the judge, but not all of the time
		select {
		case <-m.progress:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *model) randomRow(w *writer) modelRow {
	return modelRow{
		id: w.number*1000 + m.random.IntN(keysOf), team: 1 + m.random.IntN(3), owner: fmt.Sprintf("u%d", m.random.IntN(10)),
		body: fmt.Sprintf("b%d", m.random.IntN(30)), pub: m.random.IntN(2) == 0,
	}
}

// change writes to a table.
func (m *model) change(w *writer, t *modelTable) int {
	var own []rowKey
	for _, k := range slices.SortedFunc(maps.Keys(w.open.after.rows), func(a, b rowKey) int { return strings.Compare(a.table+a.key, b.table+b.key) }) {
		if k.table == t.name {
			own = append(own, k)
		}
	}
	r := m.randomRow(w)
	w.open.locks = w.open.locks || t.altered
	switch n := m.random.IntN(20); {
	case n < 7 || len(own) == 0:
		if _, there := w.open.after.rows[t.keyOf(r)]; there {
			return 0
		}
		m.insert(w, t, r)
		return 1
	case n < 12:
		old := w.open.after.rows[own[m.random.IntN(len(own))]]
		made := old
		made.owner, made.body, made.pub = r.owner, r.body, r.pub
		if t.name != "rls_pair" {
			made.team = r.team
		}
		m.update(w, t, old, made)
		return 1
	case n < 14: // another key
		old := w.open.after.rows[own[m.random.IntN(len(own))]]
		if _, there := w.open.after.rows[t.keyOf(r)]; there {
			return 0
		}
		m.update(w, t, old, r)
		return 1
	case n < 17:
		m.delete(w, t, w.open.after.rows[own[m.random.IntN(len(own))]])
		return 1
	case n < 18: // deleted and there again
		old := w.open.after.rows[own[m.random.IntN(len(own))]]
		m.delete(w, t, old)
		old.owner, old.body = r.owner, r.body
		m.insert(w, t, old)
		return 2
	}
	return m.updateAll(w, t)
}

func (m *model) insert(w *writer, t *modelTable, r modelRow) {
	m.do(w, fmt.Sprintf("insert into %s values ($1, $2, $3, $4, $5)", t.name), r.id, r.owner, r.team, r.pub, r.body)
	w.note(t, nil, &r)
}

func (m *model) update(w *writer, t *modelTable, old, made modelRow) {
	m.do(w, fmt.Sprintf("update %s set id = $1, owner = $2, team = $3, pub = $4, body = $5 where id = $6 and team = $7", t.name), made.id, made.owner, made.team, made.pub, made.body, old.id, old.team)
	w.note(t, &old, &made)
}

func (m *model) delete(w *writer, t *modelTable, old modelRow) {
	m.do(w, fmt.Sprintf("delete from %s where id = $1 and team = $2", t.name), old.id, old.team)
	w.note(t, &old, nil)
}

// updateAll changes all of a writer's rows by one statement, in the order that Postgres chooses.
func (m *model) updateAll(w *writer, t *modelTable) (changed int) {
	rows, err := w.Query(m.Context(), fmt.Sprintf("update %s set pub = not pub where id between $1 and $2 returning id, team", t.name), w.number*1000, w.number*1000+999)
	if err != nil {
		m.Fatal(err)
	}
	var ids, teams []int
	for rows.Next() {
		var id, team int
		if err := rows.Scan(&id, &team); err != nil {
			m.Fatal(err)
		}
		ids, teams = append(ids, id), append(teams, team)
	}
	if rows.Err() != nil {
		m.Fatal(rows.Err())
	}
	for i := range ids {
		old := w.open.after.rows[t.keyOf(modelRow{id: ids[i], team: teams[i]})]
		made := old
		made.pub = !old.pub
		w.note(t, &old, &made)
	}
	return len(ids)
}

// note writes down what was done.
func (w *writer) note(t *modelTable, old, made *modelRow) {
	if old != nil {
		delete(w.open.after.rows, t.keyOf(*old))
	}
	if made != nil {
		w.open.after.rows[t.keyOf(*made)] = *made
	}
	w.open.changes = append(w.open.changes, modelChange{t, old, made})
}
