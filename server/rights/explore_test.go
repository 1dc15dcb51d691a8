package rights

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rowcast/server/snapshot"
)

// The exploration holds Counts against a small database in every order of events: the policy is altered, to read another
// table, and back; writers change rows of that table; somebody drops its trigger; a discovery watches it; a decision
// is made. Of a verdict that counts, all that changes afterwards must be noticed: a row by a trigger, anything else by a
// digest that is another one.
//
// Table 0 is watched from the beginning, table 1 is not. The policy reads the table of its version's number, modulo two.

const (
	exploredVersions  = 3 // of the policy
	exploredWriters   = 1 // of table 1
	exploredDecisions = 1
	exploredDrops     = 1 // of the trigger of table 1
	firstExplored     = 100
)

// rules are what a verdict must satisfy, and where it takes its digest from.
type rules struct {
	anyDigest, anySnapshot bool
	digestOf               digestTime
	returning              bool // the digest of a version that comes again is the same
}

type digestTime uint8

const (
	digestAfter  digestTime = iota // by a snapshot taken when the decision has committed
	digestInside                   // by the decision's snapshot
	digestBefore                   // by a snapshot taken before it
)

// world is a moment: of the database, of the discovery and of the decisions.
type world struct {
	next      int   // transaction id
	ended     []int // those that committed, in any order
	version   int   // of the policy
	versions  []int // by which transaction each version but the first came
	trigger   int   // the transaction that made the trigger of table 1; 0: there is none
	drops     int
	writers   []writer
	search    discovery
	kept      known // in the database
	state     known // the Watcher's
	decisions []decision
}

// known is what a discovery left behind, and of which version of the policy it is.
type known struct {
	found
	version int
}

// writer changes a row of table 1. It locks the table, and then the trigger is there or not.
type writer struct {
	xid   int
	fires bool
	over  bool
}

// discovery is one under way: it looks, watches what is not watched, looks again, and keeps what it saw last.
type discovery struct {
	step  searchStep
	xid   int
	found known
}

type searchStep uint8

const (
	searchNone searchStep = iota
	searchLooked
	searchToWatch // the lock on the table is waited for
	searchWatching
	searchWatched
)

type decision struct {
	step     decisionStep
	snapshot string
	applied  int // the version of the policy
	digest   string
	counts   bool
	blind    bool // it counts, and the policy was not the one that all is watched for
}

type decisionStep uint8

const (
	decisionNone decisionStep = iota
	decisionBegun
	decisionSeeing  // has its snapshot
	decisionApplied // holds a lock on messages
	decisionCommitted
	decisionOver
)

func (w *world) clone() *world {
	n := *w
	n.ended, n.versions = slices.Clone(w.ended), slices.Clone(w.versions)
	n.writers, n.decisions = slices.Clone(w.writers), slices.Clone(w.decisions)
	return &n
}

func (w *world) begin() int {
	w.next++
	return w.next - 1
}

// snapshot sees those that have ended.
func (w *world) snapshot() string {
	top := firstExplored - 1
	for _, x := range w.ended {
		top = max(top, x)
	}
	xmin, running := top+1, []string{}
	for x := top; x >= firstExplored; x-- {
		if !slices.Contains(w.ended, x) {
			xmin, running = x, append([]string{fmt.Sprint(x)}, running...)
		}
	}
	return fmt.Sprintf("%d:%d:%s", xmin, top+1, strings.Join(running, ","))
}

func parse(s string) snapshot.Snapshot {
	snap, err := snapshot.Parse(s)
	if err != nil {
		panic(err)
	}
	return snap
}

// digest of what a snapshot sees; a table that the policy does not read is no part of it. Every change is another row
// version, unless the rules have it come back.
func (w *world) digest(seen string, r rules) string {
	snap, version := parse(seen), 0
	for i, x := range w.versions {
		if snap.Sees(snapshot.XID(x)) {
			version = i + 1
		}
	}
	trigger := 0
	if version%2 == 1 && w.trigger != 0 && snap.Sees(snapshot.XID(w.trigger)) {
		trigger = w.trigger
	}
	if r.returning {
		return fmt.Sprintf("%d/%t", version%2, trigger != 0)
	}
	return fmt.Sprintf("%d/%d", version, trigger)
}

// event is what can happen next, and what it does.
type event struct {
	name string
	do   func(*world)
}

func (w *world) events(r rules) (events []event) {
	add := func(name string, do func(*world)) { events = append(events, event{name, do}) }
	locked := slices.ContainsFunc(w.decisions, func(d decision) bool { return d.step == decisionApplied })
	if w.version+1 < exploredVersions && !locked {
		add("the policy is altered", func(n *world) {
			x := n.begin()
			n.version++
			n.versions, n.ended = append(n.versions, x), append(n.ended, x)
		})
	}
	writing := slices.ContainsFunc(w.writers, func(a writer) bool { return !a.over })
	if len(w.writers) < exploredWriters && w.search.step != searchWatching {
		add("a writer locks the table", func(n *world) { n.writers = append(n.writers, writer{xid: n.begin(), fires: n.trigger != 0}) })
	}
	for i, a := range w.writers {
		if !a.over {
			add(fmt.Sprint("writer ", i, " commits"), func(n *world) {
				n.writers[i].over = true
				n.ended = append(n.ended, a.xid)
			})
		}
	}
	if w.trigger != 0 && w.drops < exploredDrops && !writing && w.search.step != searchWatching {
		add("the trigger is dropped", func(n *world) {
			n.drops++
			n.trigger = 0
			n.ended = append(n.ended, n.begin())
		})
	}
	events = append(events, w.searches(r, writing)...)
	for i, d := range w.decisions {
		if d.step != decisionOver {
			add(fmt.Sprint("decision ", i, " ", decisionSteps[d.step]), func(n *world) { n.decide(i, r) })
		}
	}
	return events
}

// searches are the next steps of a discovery. One begins when a poll, or a verdict, finds another digest.
func (w *world) searches(r rules, writing bool) []event {
	look := func(n *world) {
		n.search = discovery{step: searchLooked, found: n.kept}
		if digest := n.digest(n.snapshot(), r); digest != n.kept.Digest {
			n.search.xid = n.begin()
			n.search.found = known{found{Digest: digest, xid: snapshot.XID(n.search.xid)}, n.version}
		}
	}
	switch s := w.search; {
	case s.step == searchNone && w.digest(w.snapshot(), r) != w.state.Digest, s.step == searchWatched:
		return []event{{"the discovery looks", look}}
	case s.step == searchLooked:
		return []event{{"the discovery's look commits", func(n *world) {
			if s.xid != 0 {
				n.ended = append(n.ended, s.xid)
				n.kept = s.found
			}
			if n.trigger == 0 && s.found.version%2 == 1 {
				n.search.step = searchToWatch
				return
			}
			if n.state.Digest != n.kept.Digest { // everybody is decided again
				for i := range n.decisions {
					n.decisions[i].counts = false
				}
			}
			n.state, n.search = n.kept, discovery{}
		}}}
	case s.step == searchToWatch && !writing:
		return []event{{"the discovery locks the table", func(n *world) { n.search = discovery{step: searchWatching, xid: n.begin()} }}}
	case s.step == searchWatching:
		return []event{{"the trigger is there", func(n *world) {
			n.ended = append(n.ended, s.xid)
			n.trigger, n.search = s.xid, discovery{step: searchWatched}
		}}}
	}
	return nil
}

var decisionSteps = [...]string{"begins", "takes its snapshot", "applies the policy", "commits", "is judged"}

// decide takes a decision one step further.
func (w *world) decide(i int, r rules) {
	d := &w.decisions[i]
	switch d.step++; d.step {
	case decisionBegun:
		if r.digestOf == digestBefore {
			d.digest = w.digest(w.snapshot(), r)
		}
	case decisionSeeing:
		d.snapshot = w.snapshot()
		if r.digestOf == digestInside {
			d.digest = w.digest(d.snapshot, r)
		}
	case decisionApplied:
		d.applied = w.version // not by the snapshot: the relcache is newer
	case decisionOver:
		if r.digestOf == digestAfter {
			d.digest = w.digest(w.snapshot(), r)
		}
		judge := Watcher{state: w.state.found}
		digest, seen := d.digest, parse(d.snapshot)
		if r.anyDigest {
			digest = w.state.Digest
		}
		if r.anySnapshot {
			seen = parse(fmt.Sprintf("%d:%d:", w.next+1, w.next+1))
		}
		d.counts = judge.Counts(digest, seen)
		d.blind = d.counts && !r.same(d.applied, w.state.version)
	}
}

// same tells whether two versions of the policy are.
func (r rules) same(a, b int) bool { return a == b || r.returning && a%2 == b%2 }

// violation says what nobody will notice. Where the digest is another than the one that is known, a poll does.
func (w *world) violation(r rules) string {
	for i, d := range w.decisions {
		if d.blind {
			return fmt.Sprintf("decision %d counts, by a policy for which nothing is watched", i)
		}
	}
	if w.digest(w.snapshot(), r) != w.state.Digest {
		return ""
	}
	for i, d := range w.decisions {
		switch {
		case !d.counts:
			continue
		case !r.same(d.applied, w.version):
			return fmt.Sprintf("decision %d counts, by a policy that is not in force", i)
		}
		for n, a := range w.writers {
			if w.version%2 == 1 && a.over && !a.fires && !parse(d.snapshot).Sees(snapshot.XID(a.xid)) {
				return fmt.Sprintf("decision %d counts, and did not see what writer %d changed without a trigger", i, n)
			}
		}
	}
	return ""
}

// explorer goes through all states, depth first, each once.
type explorer struct {
	rules
	seen   map[string]bool
	counts int // states in which a verdict counts
	way    []string
	found  string
}

func explore(r rules) *explorer {
	e := &explorer{rules: r, seen: map[string]bool{}}
	w := &world{next: firstExplored + 1, ended: []int{firstExplored}, decisions: make([]decision, exploredDecisions)}
	w.kept = known{found: found{Digest: w.digest(w.snapshot(), r), xid: firstExplored}}
	w.state = w.kept
	e.visit(w)
	return e
}

func (e *explorer) visit(w *world) {
	slices.Sort(w.ended)
	if key := fmt.Sprint(*w); e.found != "" || e.seen[key] {
		return
	} else {
		e.seen[key] = true
	}
	if slices.ContainsFunc(w.decisions, func(d decision) bool { return d.counts }) {
		e.counts++
	}
	if found := w.violation(e.rules); found != "" {
		e.found = found + "\n\t" + strings.Join(e.way, "\n\t")
		return
	}
	for _, next := range w.events(e.rules) {
		n := w.clone()
		next.do(n)
		e.way = append(e.way, next.name)
		e.visit(n)
		e.way = e.way[:len(e.way)-1]
	}
}

func TestVerdictsCountInEveryOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		rules rules
		holds bool
	}{
		{"as it is", rules{}, true},
		{"any digest will do", rules{anyDigest: true}, false},
		{"any snapshot will do", rules{anySnapshot: true}, false},
		{"the digest is of the deciding snapshot", rules{digestOf: digestInside}, false},
		{"the digest is of before the decision", rules{digestOf: digestBefore}, false},
		{"a digest that was there before comes again", rules{returning: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := explore(tt.rules)
			t.Logf("%d states, in %d of which a verdict counts: %s", len(e.seen), e.counts, e.found)
			if holds := e.found == ""; holds != tt.holds {
				t.Errorf("holds: %v, want %v", holds, tt.holds)
			}
			if e.counts == 0 {
				t.Error("no verdict ever counts")
			}
		})
	}
}
