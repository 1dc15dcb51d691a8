package hub

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"rowcast/server/snapshot"
)

// commit is a transaction of the model's database.
type commit struct {
	xid     snapshot.XID
	place   int // in the order of sending
	message bool
	allowed bool // whether the subject has the right after it
	sees    bool // and that to who is present
	open    bool // and DDL had not shut everybody out
	mark    Mark
	told    *told // the last time

	straggles bool // nobody says that it was committed: it is looked for
}

func (c *commit) String() string {
	if c == nil {
		return "a client's frame"
	}
	return fmt.Sprint(c.xid)
}

// opened is a transaction that has begun, and perhaps sent already.
type opened struct {
	xid   snapshot.XID
	place int

	straggles bool
}

// database commits transactions in another order than it began them, and gives some up.
type database struct {
	commits []*commit
	open    []opened
	sent    int // places given out
	next    snapshot.XID
	ended   snapshot.XID // the highest that was committed or rolled back
	allowed bool
	sees    bool

	shut    bool   // by DDL, which no mark tells of: the digest is looked at from time to time
	digest  uint64 // of the DDL so far
	noticed uint64 // when it was last looked at; no verdict made under another counts

	straggling bool // some transactions straggle
}

// define shuts everybody out, or lets them in again.
func (d *database) define() {
	d.shut = !d.shut
	d.digest++
}

// opens tells whether who has the right may use it. What DDL takes away is gone when that is noticed.
func (d *database) opens() bool { return !d.shut || d.noticed != d.digest }

func (d *database) begin() { *d = database{next: 100, ended: 99, allowed: true, sees: true} }

func (d *database) commit(rng *rand.Rand) {
	for len(d.open) == 0 || rng.IntN(2) == 0 {
		d.open = append(d.open, opened{xid: d.next, straggles: d.straggling && rng.IntN(4) == 0})
		d.next++
	}
	for _, i := range rng.Perm(len(d.open)) {
		if d.open[i].place == 0 && rng.IntN(2) == 0 {
			d.sent++
			d.open[i].place = d.sent
		}
	}
	i := rng.IntN(len(d.open))
	x, place, straggles := d.open[i].xid, d.open[i].place, d.open[i].straggles
	if place == 0 {
		d.sent++
		place = d.sent
	}
	d.open = slices.Delete(d.open, i, i+1)
	d.ended = max(d.ended, x)
	if rng.IntN(3) == 0 {
		return // rolled back
	}
	c := &commit{xid: x, place: place, straggles: straggles}
	switch rng.IntN(8) {
	case 0:
		d.allowed = false
		c.mark = Mark{XID: x, Subject: modelSubject, Topic: modelTopic}
	case 1, 2:
		d.allowed = true
		d.sees = rng.IntN(3) > 0
		c.mark = Mark{XID: x, Subject: modelSubject}
	case 3:
		c.mark = Mark{XID: x, Topic: modelTopic, Lenient: true} // touches nothing
	default:
		c.message = true
	}
	c.allowed, c.sees, c.open = d.allowed, d.allowed && d.sees, d.opens()
	d.commits = append(d.commits, c)
}

// snapshot is one taken now.
func (d *database) snapshot() snapshot.Snapshot {
	xmax := d.ended + 1
	var running []string
	for _, o := range slices.SortedFunc(slices.Values(d.open), func(a, b opened) int { return cmp.Compare(a.xid, b.xid) }) {
		if o.xid < xmax {
			running = append(running, fmt.Sprint(o.xid))
		}
	}
	xmin := fmt.Sprint(xmax)
	if len(running) > 0 {
		xmin = running[0]
	}
	snap, err := snapshot.Parse(fmt.Sprintf("%s:%d:%s", xmin, xmax, strings.Join(running, ",")))
	if err != nil {
		panic(err)
	}
	return snap
}

// crash loses everything under way. Ids behind old that no commit has are given out again.
func (d *database) crash(old snapshot.XID) {
	d.open = nil
	d.ended = old
	for _, c := range d.commits {
		d.ended = max(d.ended, c.xid)
	}
	d.next = d.ended + 1
}

// moment is one up to which the feed had told everything.
type moment struct {
	snapshot snapshot.Snapshot
	commits  int // that it sees
	ended    snapshot.XID
	allowed  bool
}

func (d *database) now() moment { return moment{d.snapshot(), len(d.commits), d.ended, d.allowed} }

// hearer is what is heard of the database.
type hearer struct {
	connected  bool
	heard      int // commits that the connection has said
	moments    []moment
	catchingUp bool
	to         moment           // of the connection, where the backlog ends
	backlog    []*commit        // messages that were missed, in the order of sending
	late       []*commit        // heard while there was a backlog
	base       map[*commit]bool // told in a backlog that was not told to its end, or given up
}

func (l *hearer) begin(d *database) {
	l.connected, l.moments = true, []moment{d.now()}
	l.base = map[*commit]bool{}
}

// turn is the next step of an outage: the connection is lost, one is made, it is proven to hear.
func (m *model) turn() {
	switch {
	case m.connected && !m.worker.deaf:
		m.lose()
	case m.connected && m.rng.IntN(4) == 0:
		m.lose()
	case m.rng.IntN(8) == 0:
		stillDeaf{m.worker.silences, refuseJoins}.apply(m.worker)
	case m.connected:
		hearing{}.apply(m.worker)
	default:
		m.connect()
	}
}

func (m *model) lose() {
	m.connected = false
	deaf{}.apply(m.worker)
	m.backlog, m.late = nil, nil
	m.questions = slices.DeleteFunc(m.questions, func(q *question) bool { return !q.first && q.asked >= 0 }) // fences are gone
}

// poll looks at the digest, whether or not the database is heard.
func (m *model) poll() {
	if m.noticed != m.digest {
		m.noticed, m.marked = m.digest, true
		m.mark(Mark{Seen: m.snapshot()})
	}
}

// connect begins to catch up: the marks at once.
func (m *model) connect() {
	m.connected = true
	from := m.moments[len(m.moments)-1]
	switch {
	case m.hopeless && m.rng.IntN(4) == 0:
		rewound{}.apply(m.worker)
		catchingUp{}.apply(m.worker)
		missed{}.apply(m.worker)
		m.marked = true
		m.heard, m.to, m.moments = len(m.commits), m.now(), nil
		m.finish()
		return
	case m.crashes && m.rng.IntN(2) == 0:
		from = m.moments[0]
		m.moments = m.moments[:1]
		m.crash(from.ended)
		for i, c := range m.commits {
			m.base[c] = i < from.commits
		}
		rewound{from.snapshot}.apply(m.worker)
		m.marked = true // rights that changed before the admission are told of again
	}
	catchingUp{}.apply(m.worker)
	m.catchingUp, m.heard, m.to = true, len(m.commits), m.now()
	for i, c := range m.commits {
		switch {
		case i < from.commits || m.base[c]:
		case c.message && c.told == nil:
			m.backlog = append(m.backlog, c)
		case !c.message && !c.mark.Lenient:
			m.mark(c.mark)
			m.marked = m.marked || m.sub.gate.state != gateEnded && !m.sub.gate.since.Sees(c.xid)
		}
	}
	slices.SortFunc(m.backlog, func(a, b *commit) int { return cmp.Compare(a.place, b.place) })
}

// hear takes the next notification: marks at once, messages behind the backlog.
func (m *model) hear() {
	if !m.connected || m.heard == len(m.commits) {
		return
	}
	c := m.commits[m.heard]
	m.heard++
	switch {
	case !c.message:
		m.marked = m.marked || !c.mark.Lenient
		m.mark(c.mark)
	case c.straggles:
	case m.catchingUp:
		m.late = append(m.late, c)
	default:
		m.give(c, false)
	}
	if !m.catchingUp && !m.worker.deaf && m.heard == len(m.commits) {
		m.find(m.heard)
	}
	if !m.catchingUp && !m.worker.deaf && m.heard == len(m.commits) {
		m.moments = append(m.moments, m.now()) // a heartbeat, heard at once
	}
}

// catchUp tells the next late message.
func (m *model) catchUp() {
	switch {
	case !m.catchingUp || !m.connected:
	case len(m.backlog) > 0:
		c := m.backlog[0]
		m.backlog = m.backlog[1:]
		for _, other := range m.commits[:m.to.commits] { // after an outage in the middle of it this goes on from here
			m.base[other] = m.base[other] || other.place < c.place
		}
		m.give(c, false)
	case len(m.late) > 0:
		c := m.late[0]
		m.late = m.late[1:]
		m.give(c, false)
	default:
		m.finish()
	}
}

// find tells what stragglers among the first commits said, late.
func (m *model) find(among int) {
	var found []*commit
	for _, c := range m.commits[:among] {
		if c.straggles && c.message && c.told == nil && !m.base[c] {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return
	}
	catchingUp{}.apply(m.worker)
	for _, c := range found {
		m.give(c, false)
	}
	if !m.catchingUp {
		caughtUp{}.apply(m.worker)
	}
}

// overtaken is what a mark may overtake while there are stragglers.
func (m *model) overtaken() (seen snapshot.Snapshot) {
	straggles := func(x snapshot.XID) bool {
		return slices.ContainsFunc(m.open, func(o opened) bool { return o.xid == x && o.straggles })
	}
	return m.snapshot().Without(straggles)
}

func (m *model) finish() {
	m.find(m.heard)
	caughtUp{}.apply(m.worker)
	m.catchingUp = false
	m.moments = append(m.moments, m.to)
}
