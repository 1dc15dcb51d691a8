package hub

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// The model plays a database, a feed and a decider against the worker, without goroutines, in random interleavings:
// transactions commit, are heard later, are asked about in between; answers arrive later still. Then it looks at what
// was delivered: each message must have been committed while its receiver had the right.

const modelSubject, modelTopic = "u1", "room"

// modelRuns takes a few seconds with the race detector on.
const modelRuns = uint64(50000)

// modelMetrics is shared by all runs: making metrics is most of what a run costs.
var modelMetrics = metrics.New()

// commit is a transaction of the model's database.
type commit struct {
	xid     snapshot.XID
	message bool
	allowed bool // whether the subject has the right after it
	mark    Mark
}

// question is an Ask under way.
type question struct {
	sub     *Subscription
	round   uint64
	first   bool
	asked   int // commits when Postgres looked; -1: it has not yet
	allowed bool
}

type model struct {
	rng       *rand.Rand
	worker    *worker
	commits   []commit
	heard     int // commits that the feed has told
	allowed   bool
	questions []*question

	sub       *Subscription
	admitted  int // commits when the admission looked
	ended     bool
	delivered map[snapshot.XID]bool
	last      snapshot.XID
	withheld  int
	frames    map[*protocol.Frame]snapshot.XID
	withMarks bool
	found     []string // violations

	deeds       int // what can happen: 10; 11 with interruptions; 12 with forgeries as well
	interrupted bool
}

func newModel(seed uint64, withMarks bool, deeds int) *model {
	m := &model{
		deeds: deeds,
		rng:   rand.New(rand.NewPCG(seed, 1)), allowed: true, withMarks: withMarks,
		worker: newWorker(Options{Metrics: modelMetrics}, 0),
		frames: map[*protocol.Frame]snapshot.XID{},
	}
	m.worker.deaf = false
	m.join()
	return m
}

func (m *model) join() {
	m.sub = NewSubscription(Room{modelTopic, true}, 0, modelSubject, m)
	m.ended, m.admitted, m.last, m.withheld = false, -1, 0, 0
	m.delivered = map[snapshot.XID]bool{}
	join{m.sub}.apply(m.worker)
}

// The model is its own Member.

func (m *model) Ask(sub *Subscription, round uint64, first bool) {
	m.questions = append(m.questions, &question{sub: sub, round: round, first: first, asked: -1})
}
func (m *model) Admitted(Rights)    {}
func (m *model) Paused()            {}
func (m *model) Held()              {}
func (m *model) Decided(Rights)     {}
func (m *model) Withheld(n int)     { m.withheld += n }
func (m *model) Ended(End, Verdict) { m.ended = true }
func (m *model) Deliver(f *protocol.Frame) Outlet {
	xid := m.frames[f]
	if m.delivered[xid] {
		m.found = append(m.found, fmt.Sprintf("%d delivered twice", xid))
	}
	if xid < m.last {
		m.found = append(m.found, fmt.Sprintf("%d delivered after %d", xid, m.last))
	}
	m.delivered[xid], m.last = true, xid
	if c := m.commits[xid-100]; !c.allowed {
		m.found = append(m.found, fmt.Sprintf("%d delivered, committed without the right", xid))
	}
	return nil
}

// step does one thing that can happen next.
func (m *model) step() {
	switch m.rng.IntN(m.deeds) {
	case 0, 1, 2:
		m.commit()
	case 3, 4, 5, 6:
		m.hear()
	case 7, 8:
		m.look()
	case 9:
		m.answer()
	case 10:
		m.interrupt()
	case 11:
		m.forge()
	}
	if m.ended && m.rng.IntN(4) == 0 {
		m.join()
	}
}

// forge is a mark that means nothing, of a transaction that was, will be, or never is.
func (m *model) forge() {
	if m.withMarks {
		x := snapshot.XID(m.rng.IntN(100 + len(m.commits) + 50))
		(&marking{mark: Mark{XID: x, Lenient: m.rng.IntN(2) == 0}}).apply(m.worker)
	}
}

// interrupt loses what is said for a while. Some is said after the listener is back and before it is proven to hear.
func (m *model) interrupt() {
	deaf{}.apply(m.worker)
	m.interrupted = true
	for range m.rng.IntN(4) {
		m.commit()
	}
	m.heard = len(m.commits)
	for range m.rng.IntN(4) {
		m.commit()
		m.hear()
	}
	m.hear()
	hearing{}.apply(m.worker)
}

func (m *model) commit() {
	c := commit{xid: snapshot.XID(100 + len(m.commits))}
	switch m.rng.IntN(8) {
	case 0:
		m.allowed = false
		c.mark = Mark{XID: c.xid, Subject: modelSubject, Topic: modelTopic}
	case 1, 2:
		m.allowed = true
		c.mark = Mark{XID: c.xid, Subject: modelSubject}
	case 3:
		c.mark = Mark{XID: c.xid, Topic: modelTopic, Lenient: true} // touches nothing
	default:
		c.message = true
	}
	c.allowed = m.allowed
	m.commits = append(m.commits, c)
}

func (m *model) hear() {
	if m.heard == len(m.commits) {
		return
	}
	c := m.commits[m.heard]
	m.heard++
	if c.message {
		f := protocol.TextBroadcast("realtime:"+modelTopic, []byte(`{}`))
		m.frames[f] = c.xid
		(&Publication{Room: Room{modelTopic, true}, Frame: f, XID: c.xid}).apply(m.worker)
	} else if m.withMarks {
		(&marking{mark: c.mark}).apply(m.worker)
	}
}

// look has Postgres answer a question, with what is committed now.
func (m *model) look() {
	for _, q := range m.questions {
		if q.asked < 0 {
			q.asked, q.allowed = len(m.commits), m.allowed
			return
		}
	}
}

// answer brings an answer to the hub; all but first ones only when the feed has told what they saw.
func (m *model) answer() {
	for i, q := range m.questions {
		if q.asked < 0 || !q.first && m.heard < q.asked {
			continue
		}
		m.questions = append(m.questions[:i], m.questions[i+1:]...)
		snap, _ := snapshot.Parse(fmt.Sprintf("%d:%d:", 100+q.asked, 100+q.asked))
		v := Verdict{Round: q.round, Snapshot: snap}
		if q.allowed {
			v.Rights.Broadcast = Right{Receive: true, Send: true}
		}
		joining := q.sub.gate.state == gateJoining
		if q.sub == m.sub && joining {
			m.admitted = q.asked
		}
		answer{q.sub, v}.apply(m.worker)
		return
	}
}

// settle lets everything under way arrive.
func (m *model) settle() {
	for range 10 * len(m.commits) {
		m.hear()
		m.look()
		m.answer()
	}
	for len(m.questions) > 0 {
		m.look()
		m.answer()
	}
}

// complete checks that a session that lives lost nothing but what it was told of.
func (m *model) complete() {
	if m.ended {
		if m.allowed && m.sub.gate.state != gateEnded {
			m.found = append(m.found, "ended, and yet not out of the hub")
		}
		return
	}
	if m.sub.gate.state != gateOpen {
		m.found = append(m.found, fmt.Sprintf("state %d after everything was answered", m.sub.gate.state))
	}
	if !m.allowed && m.withMarks {
		m.found = append(m.found, "open without the right")
	}
	missing := 0
	for i, c := range m.commits {
		if c.message && c.allowed && i >= m.admitted && !m.delivered[c.xid] {
			missing++
		}
	}
	if missing > m.withheld && !m.interrupted {
		m.found = append(m.found, fmt.Sprintf("%d messages missing, %d withheld", missing, m.withheld))
	}
}

func play(seed uint64, withMarks bool, deeds int) []string {
	m := newModel(seed, withMarks, deeds)
	for range 60 {
		m.step()
	}
	m.settle()
	m.complete()
	return m.found
}

func TestNothingIsDeliveredWithoutTheRight(t *testing.T) {
	t.Parallel()
	for seed := range modelRuns {
		if found := play(seed, true, 10+int(seed%3)); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found)
		}
	}
}

// The model must be able to fail: without marks it has to find what marks prevent.
func TestModelFindsMissingMarks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		if len(play(seed, false, 10)) > 0 {
			return
		}
	}
	t.Fatal("200 runs without marks, and no violation found")
}
