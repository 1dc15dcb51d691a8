package changes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
	"rowcast/server/snapshot"
)

const (
	writers = 4
	keysOf  = 12 // that a writer has in each table
	people  = 50
)

// model is a run: writers who change a world, members who are told of it, and what was judged how.
type model struct {
	*theater
	random   *rand.Rand
	faults   bool            // connections are lost, servers are started anew
	private  *pgtest.Cluster // which is, too; nil: it is shared
	history  *history
	progress chan struct{} // holds one after a batch

	mu      sync.Mutex // guards those below
	members []*modelMember
	batches []*modelBatch
	altered []int // modes by DDL, in order
	settled int   // of these, the last that was done
	known   int   // settled, when the last batch was judged
}

// TestChangesAreWhatRowSecuritySays has random transactions under policies that change, and compares what everybody was told with
// what a second implementation says, which knows only what was written and which snapshots were taken.
func TestChangesAreWhatRowSecuritySays(t *testing.T) {
	t.Parallel()
	size, seed := 10000, uint64(time.Now().UnixNano())
	if text := os.Getenv("CHANGES"); text != "" {
		size, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("CHANGES_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	for _, name := range []string{"quiet", "faults", "crashes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("CHANGES=%d CHANGES_SEED=%d", size, seed)
			m := &model{
				random: rand.New(rand.NewPCG(seed, seed)), faults: name != "quiet", progress: make(chan struct{}, 1), altered: []int{byOwner},
				history: &history{writers: make([][]modelTransaction, writers), byXID: map[snapshot.XID]*modelTransaction{}},
			}
			var db *pgtest.DB
			if name == "crashes" {
				m.private = pgtest.NewCluster(t, pgtest.Options{})
				db = m.private.DB(t)
			} else {
				db = pgtest.New(t)
			}
			m.theater = newTheaterOn(newStageOn(t, db, append([]string{"create publication supabase_realtime"}, modelSQL()...)...), func(o *Options) { o.judged = m.judged })
			m.inviteAll()
			m.write(size / 3)
			m.finish()
			m.compare()
		})
	}
}

// inviteAll subscribes everybody, and waits until they are.
func (m *model) inviteAll() {
	for i := range people {
		m.invite(i)
	}
	for _, member := range m.members {
		member.await("Subscribed")
	}
}

// invite subscribes somebody with random entries.
func (m *model) invite(i int) {
	p := modelPerson{"authenticated", fmt.Sprintf("u%d", i%10), 1 + i%3}
	switch {
	case i%12 == 11:
		p.role = "service_role"
	case i%12 == 10:
		p.role = "anon"
	}
	member := &modelMember{modelPerson: p, spectator: &spectator{t: m.TB, more: make(chan struct{}, 1)}}
	var texts []string
	for id := range 1 + m.random.IntN(3) {
		e := randomEntry(m.random, id+1, p)
		member.entries, texts = append(member.entries, e), append(texts, e.json())
	}
	topic := fmt.Sprintf("realtime:%d", i%5)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i < len(m.members) {
		m.members[i].sub.End()
		m.members[i] = member
	} else {
		m.members = append(m.members, member)
	}
	member.sub = m.engine.Subscribe(Subscriber{Topic: topic, Role: p.role, Claims: p.group().Claims, Entries: entries(m.TB, texts...), Member: member})
}

// judged writes down a batch, on the loop.
func (m *model) judged(t *trial, _ *batch) {
	b := &modelBatch{front: t.front.snapshot}
	for _, r := range t.rows {
		j := modelJudged{xid: r.xid}
		for _, s := range r.states {
			if s.rear != nil {
				j.rear, j.has = s.rear.view.snapshot, true
			}
		}
		b.rows = append(b.rows, j)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, member := range m.members {
		member.mu.Lock()
		said := member.told
		member.told = nil
		member.mu.Unlock()
		b.told = append(b.told, modelTold{member, member.modelPerson, member.sub.active, member.sub.since, said})
	}
	b.modes = slices.Clone(m.altered[m.known:])
	m.known = m.settled
	m.batches = append(m.batches, b)
	signal(m.progress)
}

// writer is a connection, and what it owns.
type writer struct {
	*pgx.Conn
	number int
	state  modelState
	open   *modelTransaction // under way
	saved  *modelState       // at its savepoint
	kept   int               // changes before it
}

func (m *model) write(size int) {
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{Conn: m.dial(), number: i, state: modelState{map[rowKey]modelRow{}, map[string]bool{}, map[string]int{}}}
	}
	for done := 0; done < size; {
		done += m.step(all[m.random.IntN(writers)])
		if m.random.IntN(40) == 0 { // somebody leaves, and another comes
			m.invite(m.random.IntN(people))
		}
		if m.random.IntN(100) == 0 {
			m.alter(all)
		}
		if m.faults {
			m.disturb(all, m.random.IntN(1200))
		}
	}
	m.commitAll(all)
}

func (m *model) dial() *pgx.Conn {
	conn, err := pgx.Connect(m.Context(), m.db.AdminURL)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (m *model) commitAll(all []*writer) {
	for _, w := range all {
		if w.open != nil {
			m.commit(w)
		}
	}
}

// alter chooses another policy by DDL. Whoever has written to the table has to be done before.
func (m *model) alter(all []*writer) {
	for _, w := range all {
		if w.open != nil && w.open.locks {
			m.commit(w)
		}
	}
	mode := m.random.IntN(policyModes + 1)
	m.mu.Lock()
	m.altered = append(m.altered, mode)
	m.mu.Unlock()
	m.exec(modelTables[len(modelTables)-1].alteration(mode))
	m.mu.Lock()
	m.settled = len(m.altered) - 1
	m.mu.Unlock()
}

// disturb has connections lost, another server take the place of ours, and Postgres crash.
func (m *model) disturb(all []*writer, fault int) {
	switch {
	case fault < 2:
		m.kill("backend_type = 'walsender'")
	case fault < 6:
		m.kill("application_name = 'rowcast changes'")
	case fault < 8:
		m.commitAll(all)
		m.stop()
		for range 20 { // nobody hears this
			m.step(all[m.random.IntN(writers)])
		}
		m.commitAll(all)
		m.theater = startTheater(m.stage, m.engine.options)
		m.inviteAll()
	case fault < 10 && m.private != nil:
		m.commitAll(all)
		end := m.private.Kill
		if fault == 8 {
			end = m.private.Halt
		}
		if err := end(m.Context()); err != nil {
			m.Fatal(err)
		}
		if err := m.private.Resume(m.Context()); err != nil {
			m.Fatal(err)
		}
		m.admin = m.dial()
		for _, w := range all {
			w.Conn = m.dial()
		}
	}
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

// finish waits until everybody is told of everything.
func (m *model) finish() {
	for i := range m.history.writers {
		for j := range m.history.writers[i] {
			t := &m.history.writers[i][j]
			m.history.byXID[t.xid] = t
		}
	}
	m.exec("create table done (id int primary key); alter publication supabase_realtime add table done; grant select on done to service_role")
	last := m.seat(service, `{"event":"INSERT","schema":"public","table":"done"}`)
	last.await("Subscribed")
	for i := 0; ; i++ { // a gap may swallow one
		m.exec(fmt.Sprintf("insert into done values (%d)", i))
		deadline := time.Now().Add(5 * time.Second)
		for time.Now().Before(deadline) {
			last.mu.Lock()
			told := len(last.told) > 0 && strings.Contains(last.told[len(last.told)-1], fmt.Sprintf(`"id":%d`, i))
			last.mu.Unlock()
			if told {
				m.stop()
				return
			}
			select {
			case <-last.more:
			case <-time.After(time.Until(deadline)):
			}
		}
		if i > 20 {
			m.Fatal("never told of the last change")
		}
	}
}
