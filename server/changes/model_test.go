package changes

import (
	"context"
	"fmt"
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
	laws    []modelLaw // in order
	settled int        // of these, the last that was made
	known   int        // settled, when the last batch was judged
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
				random: rand.New(rand.NewPCG(seed, seed)), faults: name != "quiet", progress: make(chan struct{}, 1), laws: []modelLaw{firstLaw()},
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
		member.awaitChecked()
	}
}

// awaitChecked waits until the member is told of changes, or why it is not: as a role may not read a column.
func (m *modelMember) awaitChecked() {
	for limit := time.After(askPatience); ; {
		m.mu.Lock()
		checked := slices.ContainsFunc(m.told, func(text string) bool {
			return strings.HasPrefix(text, "+Subscribed") || strings.Contains(text, "invalid column")
		})
		m.mu.Unlock()
		if checked {
			return
		}
		select {
		case <-m.more:
		case <-limit:
			m.t.Fatalf("%+v is not told anything", m.modelPerson)
		}
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
	b.end, _ = snapshot.ParseXID(strings.Split(b.front.String(), ":")[1])
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
	b.laws = slices.Clone(m.laws[m.known:])
	m.known = m.settled
	m.batches = append(m.batches, b)
	signal(m.progress)
}

func (m *model) write(size int) {
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{Conn: m.dial(), number: i, state: noState()}
	}
	for done := 0; done < size; {
		done += m.step(all[m.random.IntN(writers)])
		if m.random.IntN(40) == 0 { // somebody leaves, and another comes
			m.invite(m.random.IntN(people))
		}
		if m.random.IntN(100) == 0 {
			m.alter(all)
		}
		if m.random.IntN(60) == 0 {
			m.grant()
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

// finish waits until everybody is told of everything.
func (m *model) finish() {
	for i := range m.history.writers {
		for j := range m.history.writers[i] {
			t := &m.history.writers[i][j]
			m.history.byXID[t.xid] = t
		}
	}
	m.exec("create table done (id int primary key); alter publication supabase_realtime add table done; grant select on done to service_role")
	m.engine.Publications()
	m.awaitMembers()
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

// awaitMembers waits until whoever may have what its entries ask for is told of changes.
func (m *model) awaitMembers() {
	in := noState().under(m.laws[len(m.laws)-1])
	for limit := time.Now().Add(askPatience); ; time.Sleep(10 * time.Millisecond) {
		wrong := make(chan *modelMember, 1)
		m.engine.mail.post(func() {
			for _, member := range m.members {
				if member.sub.active != member.permitted(in) {
					wrong <- member
					return
				}
			}
			wrong <- nil
		})
		member := <-wrong
		if member == nil {
			return
		}
		if time.Now().After(limit) {
			m.Fatalf("%+v with %+v: permitted is %t, and it is not so", member.modelPerson, member.entries, member.permitted(in))
		}
	}
}
