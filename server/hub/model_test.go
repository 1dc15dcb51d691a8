package hub

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"rowcast/server/metrics"
	"rowcast/server/protocol"
	"rowcast/server/snapshot"
)

// The model plays a database, a feed and a decider against the worker, without goroutines, in random interleavings:
// transactions commit, are heard later, are asked about in between; answers arrive later still; the listener is lost and
// catches up. Then it looks at what was delivered: each message must have been committed while its receiver had the right.

const modelSubject, modelTopic = "u1", "room"

// modelRuns takes a few seconds with the race detector on; MODEL_RUNS is another number.
const modelRuns = uint64(50000)

// modelMetrics is shared by all runs: making metrics is most of what a run costs.
var modelMetrics = metrics.New()

// question is an Ask under way.
type question struct {
	sub      *Subscription
	round    uint64
	first    bool
	asked    int // commits when Postgres looked; -1: it has not yet
	digest   uint64
	allowed  bool
	sees     bool // who is present
	snapshot snapshot.Snapshot
}

// play is what can happen in a run.
type play struct {
	mute     bool // marks are forgotten
	forgery  bool
	outages  bool
	crashes  bool // outages in which transaction ids are lost
	hopeless bool // outages that cannot be caught up
	watching bool // there is presence, with a right of its own
	replays  bool // half of the members want what was before them
	barriers bool
	hasty    bool // barriers wait for nobody
	straggle bool // some messages are found late
	alarms   bool // marks are told ahead of their place as well, as lenient ones
	defines  bool // DDL takes rights away and gives them back
}

type model struct {
	play
	rng    *rand.Rand
	worker *worker
	database
	hearer
	questions []*question

	sub       *Subscription
	admitted  int // commits when the admission looked; -1: not yet
	ended     bool
	delivered map[*told]bool
	last      int // the place of the last frame delivered
	withheld  int
	marked    bool // the member's rights may have changed since the admission, as far as the hub can know
	warned    bool // the member was told that something is missing
	frames    map[*protocol.Frame]*told
	members   members
	past      past
	barrier   *modelBarrier // that is not passed yet
	found     []string      // violations
}

// told is a frame that the hub was given.
type told struct {
	place   int // in the order of telling
	commit  *commit
	allowed bool // of a client's, which has no commit
}

func newModel(seed uint64, p play) *model {
	m := &model{
		play: p, rng: rand.New(rand.NewPCG(seed, 1)),
		worker:  newWorker(Options{Metrics: modelMetrics}, 0),
		frames:  map[*protocol.Frame]*told{},
		members: newMembers(),
	}
	m.database.begin()
	m.straggling = p.straggle
	m.hearer.begin(&m.database)
	m.worker.deaf = false
	m.join()
	return m
}

func (m *model) join() {
	m.sub = NewSubscription(Room{modelTopic, true}, 0, modelSubject, m)
	m.ended, m.admitted, m.withheld, m.marked, m.warned = false, -1, 0, false, false
	m.delivered = map[*told]bool{}
	m.members.leave()
	m.wish()
	join{m.sub}.apply(m.worker)
}

// The model is its own Member.

func (m *model) Ask(sub *Subscription, round uint64, first bool) {
	m.questions = append(m.questions, &question{sub: sub, round: round, first: first, asked: -1})
}
func (m *model) Admitted(r Rights)  { m.members.decided(r); m.remember(r) }
func (m *model) Paused()            {}
func (m *model) Held()              {}
func (m *model) StillHeld(Rights)   {}
func (m *model) Decided(r Rights)   { m.members.decided(r) }
func (m *model) Withheld(n int)     { m.withheld += n }
func (m *model) Outdated()          { m.members.outdated() }
func (m *model) Missed(Loss)        { m.warned = true }
func (m *model) Ended(End, Verdict) { m.ended = true }
func (m *model) Deliver(f *protocol.Frame) Outlet {
	if f.Extension() == protocol.ExtensionPresence {
		m.hearsOfMembers(f)
		return nil
	}
	if m.replayed(f) {
		return nil
	}
	this := m.frames[f]
	if m.delivered[this] {
		m.violation("%v delivered twice", this.commit)
	}
	if this.place < m.last {
		m.violation("%v delivered out of turn", this.commit)
	}
	m.delivered[this], m.last = true, this.place
	switch {
	case this.commit == nil && !this.allowed:
		m.violation("a client's frame delivered, sent while the server was deaf and the right gone")
	case this.commit != nil && !(this.commit.allowed && this.commit.open):
		m.violation("%v delivered, committed without the right", this.commit)
	}
	return nil
}

func (m *model) violation(format string, args ...any) {
	m.found = append(m.found, fmt.Sprintf(format, args...))
}

// step does one thing that can happen next.
func (m *model) step() {
	if m.watching && m.rng.IntN(3) == 0 {
		m.changeMembers()
	}
	if m.barriers && m.rng.IntN(8) == 0 {
		m.setBarrier()
	}
	if m.defines && m.rng.IntN(4) == 0 {
		if m.rng.IntN(2) == 0 {
			m.define()
		} else {
			m.poll()
		}
	}
	if m.alarms && m.rng.IntN(4) == 0 {
		m.alarm()
	}
	switch m.rng.IntN(13) {
	case 0, 1, 2:
		m.commit(m.rng)
	case 3, 4, 5:
		m.hear()
	case 6, 7:
		m.look()
	case 8:
		m.answer()
	case 9:
		m.catchUp()
	case 10:
		if m.outages && m.rng.IntN(2) == 0 {
			m.turn()
		}
	case 11:
		m.disturb()
	case 12:
		m.replay()
	}
	if m.ended && m.rng.IntN(4) == 0 || !m.ended && m.rng.IntN(20) == 0 {
		leave{m.sub}.apply(m.worker)
		m.join()
	}
	m.worker.pass()
}

// alarm tells a mark that is on its way.
func (m *model) alarm() {
	if !m.connected || m.heard == len(m.commits) {
		return
	}
	if c := m.commits[m.heard+m.rng.IntN(len(m.commits)-m.heard)]; !c.message {
		mark := c.mark
		mark.Lenient = true
		m.mark(mark)
	}
}

// disturb is what others do: clients send, and forge marks of transactions that were, will be, or never are.
func (m *model) disturb() {
	if m.rng.IntN(2) == 0 || !m.forgery {
		lost := !m.opens() || !m.allowed && (!m.connected || !m.to.allowed) // when the connection is there, only what comes next is unknown
		m.give(nil, !m.worker.deaf || !lost)
		return
	}
	x := snapshot.XID(m.rng.IntN(int(m.next) + 50))
	(&marking{mark: Mark{XID: x, Lenient: m.rng.IntN(2) == 0}}).apply(m.worker)
	m.marked = true
}

// give publishes a frame, of a commit or of a client.
func (m *model) give(c *commit, allowed bool) {
	f := protocol.TextBroadcast("realtime:"+modelTopic, []byte(`{}`))
	m.frames[f] = &told{place: len(m.frames), commit: c, allowed: allowed}
	p := &Publication{Room: Room{modelTopic, true}, Frame: f}
	if c != nil {
		p.XID = c.xid
		c.told = m.frames[f]
	}
	p.apply(m.worker)
}

func (m *model) mark(mark Mark) {
	if m.straggling && !mark.Lenient && mark.Seen.IsZero() {
		mark.Seen = m.overtaken()
	}
	if !m.mute {
		(&marking{mark: mark}).apply(m.worker)
	}
}

// look has Postgres answer a question, with what is committed now.
func (m *model) look() {
	for _, q := range m.questions {
		if q.asked < 0 {
			q.asked, q.digest, q.allowed, q.sees, q.snapshot = len(m.commits), m.digest, m.allowed && !m.shut, m.sees, m.snapshot()
			return
		}
	}
}

// answer brings an answer to the hub; all but first ones only when the feed has come as far as they saw.
func (m *model) answer() {
	for _, q := range m.questions {
		if q.asked < 0 || !q.first && (m.heard < q.asked && q.allowed || !m.connected) {
			continue
		}
		if q.digest != m.noticed {
			q.asked = -1 // it does not count
			m.poll()
			return
		}
		if !q.first && m.heard >= q.asked && !m.catchingUp {
			m.find(q.asked) // it is fenced
		}
		m.questions = slices.Delete(m.questions, slices.Index(m.questions, q), slices.Index(m.questions, q)+1)
		v := Verdict{Round: q.round, Snapshot: q.snapshot}
		if q.allowed {
			v.Rights.Broadcast = Right{Receive: true, Send: true}
			v.Rights.Presence.Receive = m.watching && q.sees
		}
		joining := q.sub.gate.state == gateJoining
		answer{q.sub, v}.apply(m.worker)
		if q.sub == m.sub && joining && q.sub.gate.state == gateOpen {
			m.admitted = q.asked
		}
		return
	}
}

// settle lets everything under way arrive.
func (m *model) settle() {
	for !m.connected || m.worker.deaf {
		m.turn()
	}
	m.poll()
	for range 10*len(m.commits) + 1 {
		m.hear()
		m.catchUp()
		m.look()
		m.answer()
	}
	for len(m.questions) > 0 {
		m.look()
		m.answer()
	}
	for range len(m.past.pages) {
		m.replay()
	}
	m.tellMembers()
	m.worker.pass()
}

// complete checks that a session that lives lost nothing but what it was told of.
func (m *model) complete() {
	if m.barrier != nil {
		m.violation("a barrier not passed after everything was answered")
	}
	if m.ended {
		if m.allowed && m.sub.gate.state != gateEnded {
			m.violation("ended, and yet not out of the hub")
		}
		return
	}
	if m.sub.gate.state != gateOpen {
		m.violation("state %d after everything was answered", m.sub.gate.state)
	}
	if !(m.allowed && !m.shut) && !m.mute {
		m.violation("open without the right")
	}
	if m.watching && m.allowed && !m.shut && m.sees {
		m.completeMembers()
	}
	if len(m.past.missing) > 0 {
		m.violation("%d messages of the past not given", len(m.past.missing))
	}
	missing := 0
	for i, c := range m.commits {
		if c.message && c.allowed && c.open && i >= m.admitted && !m.delivered[c.told] {
			missing++
		}
	}
	if missing > m.withheld && !m.warned {
		m.violation("%d messages missing, %d withheld", missing, m.withheld)
	}
	if !m.marked && !m.warned && (missing > 0 || m.withheld > 0) {
		m.violation("%d messages missing, %d withheld, though nothing said that rights changed", missing, m.withheld)
	}
}

func (p play) run(seed uint64) []string {
	m := newModel(seed, p)
	for range 80 {
		m.step()
	}
	m.settle()
	m.complete()
	return m.found
}

var plays = []play{
	{}, {outages: true}, {watching: true}, {watching: true, outages: true, forgery: true}, {outages: true, forgery: true}, {outages: true, crashes: true}, {outages: true, crashes: true, hopeless: true, forgery: true},
	{barriers: true}, {barriers: true, outages: true, crashes: true}, {barriers: true, outages: true, forgery: true, hopeless: true}, {barriers: true, replays: true},
	{alarms: true}, {alarms: true, outages: true}, {alarms: true, outages: true, crashes: true, forgery: true}, {alarms: true, watching: true, replays: true}, {alarms: true, defines: true, barriers: true},
	{straggle: true}, {straggle: true, forgery: true}, {straggle: true, outages: true}, {straggle: true, defines: true}, {straggle: true, outages: true, crashes: true, forgery: true},
	{defines: true}, {defines: true, outages: true}, {defines: true, outages: true, crashes: true, forgery: true}, {defines: true, barriers: true, outages: true},
	{replays: true}, {replays: true, outages: true, forgery: true}, {replays: true, outages: true, crashes: true, hopeless: true}, {replays: true, watching: true, outages: true},
}

func TestNothingIsDeliveredWithoutTheRight(t *testing.T) {
	t.Parallel()
	runs := modelRuns
	if n, err := strconv.ParseUint(os.Getenv("MODEL_RUNS"), 10, 64); err == nil {
		runs = n
	}
	t.Logf("%d runs of the model", runs)
	for seed := range runs {
		if found := plays[seed%uint64(len(plays))].run(seed); len(found) > 0 {
			t.Fatalf("seed %d: %v", seed, found)
		}
	}
}

// The model must be able to fail: without marks it has to find what marks prevent.
func TestModelFindsMissingMarks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		if len(play{mute: true}.run(seed)) > 0 {
			return
		}
	}
	t.Fatal("200 runs without marks, and no violation found")
}
