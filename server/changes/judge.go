package changes

import (
	"errors"
	"slices"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/server/wal"
)

// trial is one attempt to judge a batch: everything is asked first, then everything is told.
type trial struct {
	*loop
	front *epoch
	at    snapshotOf
	rows  []*row
	hears []*hearing // one of each table that somebody wants something of
	of    map[*table]*hearing
	stale []*wal.Relation            // whose groups are not right any more
	gaps  map[*Subscription]gapCause // who may have missed something

	pieces   int                  // questions about some rows of a group, so far
	order    map[snapshot.XID]int // of the batch's transactions
	contests map[contest]bool
}

// maxRefusals is how often Postgres, which answers otherwise, may leave the questions about a batch unanswered until it is given up.
const maxRefusals = 8

// snapshotOf gives the whole id of a transaction.
type snapshotOf func(low uint32) snapshot.XID

// row is a change in a trial.
type row struct {
	*item
	xid     snapshot.XID
	source  *source
	hearing []*hearing // the tables under whose names it is wanted
	states  []*state   // what it is to each
}

// state is a row as one table has it, its values in the order of the table's columns.
type state struct {
	new, old  []wal.Value
	key       []string // of the new row; nil: not known
	oldKey    []string // of the old row
	oldBy     []string // the columns of which it has the values
	place     int      // of key among those asked about in front; -1: nothing is asked
	rear      *rear    // where the old row is asked about; nil: nowhere
	oldPlace  int
	contested bool // others have written since that view, before this
	changed   bool // the old row, too, for all that is known
	rendered  map[valueOf][]byte
	frames    map[frameOf][]byte
}

// hearing is what is found out about one table.
type hearing struct {
	*table
	*Options
	front         asker
	rows          []*row
	keys          [][]string
	lacks         []int             // places of keys of rows of which the WAL lacks values
	who           asking            // is asked about them
	sights        []sight           // of each of the groups, now
	sightsOfRoles map[string]*sight // what all groups of a role have in common: everything but rows
	rears         []*rear
	wanted        []string         // columns of the rows as they are now: those that policies look at, and those of which the WAL lacks values
	still         map[stillOf]bool // who would see a row that is gone
	bound         bool             // policies decide what somebody sees
	gone          bool             // the table was dropped meanwhile
}

// judge has a batch asked about and told; false: it could not be, and is tried again.
func (l *loop) judge(b *batch) bool {
	if len(b.items) == 0 {
		return true
	}
	front, ok := l.front(xidsOf(b))
	if !ok {
		return false
	}
	t := &trial{loop: l, front: front, of: map[*table]*hearing{}, gaps: map[*Subscription]gapCause{}, order: map[snapshot.XID]int{}, contests: map[contest]bool{}}
	t.at = func(low uint32) snapshot.XID { return snapshot.Widen(low, front.snapshot) }
	if err := t.ask(b); err != nil {
		return t.unanswered(b, err)
	}
	l.tries.worked(l)
	t.tell(b)
	l.views.settle(b.at, l.keepsViews())
	return true
}

// unanswered decides what becomes of a batch about which not everything could be found out.
func (t *trial) unanswered(b *batch, err error) bool {
	l := t.loop
	if errors.Is(err, errPolicies) {
		for _, r := range t.stale {
			l.forgetSource(r)
		}
		l.retry(retryFirst)
		return false
	}
	lost := l.views.dropClosed()
	pause := l.tries.failed(l, "judge changes", err)
	if !lost || postgres.Answers(l.ctx, l.Pool, askLimits) { // else it is the database that is away
		l.tries.refusals++
	}
	if l.tries.refusals < maxRefusals {
		if !lost && t.front != nil { // another may do better
			l.views.drop(t.front)
		}
		l.retry(pause)
		return false
	}
	l.Logger.Error("changes cannot be judged, and are given up", "err", err)
	l.tries.worked(l)
	for i := range b.items {
		t.missedItem(&b.items[i])
	}
	t.tellGaps()
	return true
}

func xidsOf(b *batch) (xids []uint32) {
	for _, it := range b.items {
		if len(xids) == 0 || xids[len(xids)-1] != it.begin.XID {
			xids = append(xids, it.begin.XID)
		}
	}
	return xids
}

// ask finds out everything about a batch.
func (t *trial) ask(b *batch) error {
	if err := t.describe(b); err != nil {
		return err
	}
	for i := range b.items {
		t.enter(&b.items[i])
	}
	for _, h := range t.hears {
		if err := t.askFront(h); err != nil {
			return err
		}
		if h.gone {
			continue
		}
		if err := h.compare(t.ctx); err != nil {
			return err
		}
		if err := t.askRear(h); err != nil {
			return err
		}
		if err := h.askRendered(t.ctx); err != nil {
			return err
		}
	}
	return t.samePolicies()
}

// enter makes a row of an item, and finds out whose rights it takes to tell it.
func (t *trial) enter(it *item) {
	r := &row{item: it, xid: t.at(it.begin.XID)}
	t.order[r.xid] = len(t.rows)
	t.rows = append(t.rows, r)
	if it.truncate != nil {
		for _, relation := range it.truncate {
			for _, table := range t.sources[relation].tables {
				t.hearingOf(table)
			}
		}
		return
	}
	r.source = t.sources[it.change.Relation]
	for _, table := range r.source.tables {
		if len(table.audiences) == 0 {
			continue
		}
		s := table.stateOf(&it.change)
		t.follow(table, r, s)
		values := s.filtered(it.change.Kind)
		var h *hearing
		table.candidates(values, func(a *audience) {
			if !a.mayWant(it.change.Kind, s) {
				return
			}
			if h == nil {
				h = t.hearingOf(table)
				h.add(r, s)
			}
			if s.place >= 0 && a.group.concerns(values) {
				h.who.include(a.group, s.place)
			}
		})
		if h == nil && table.mayTie(it.change.Kind) {
			t.hearingOf(table).add(r, s)
		}
	}
}

func (t *trial) hearingOf(table *table) *hearing {
	h := t.of[table]
	if h == nil {
		h = &hearing{table: table, Options: t.Options, front: t.front.view, who: newAsking(), sightsOfRoles: map[string]*sight{}}
		t.of[table] = h
		t.hears = append(t.hears, h)
		for _, c := range table.conditions {
			c.asked = nil
		}
	}
	return h
}

// add has a row asked about.
func (h *hearing) add(r *row, s *state) {
	r.hearing, r.states = append(r.hearing, h), append(r.states, s)
	h.rows = append(h.rows, r)
	if s.key == nil {
		return
	}
	s.place = len(h.keys)
	h.keys = append(h.keys, s.key)
	for _, name := range h.compared() {
		h.want(name)
	}
	lacks := false
	for i, v := range s.new {
		if v.Kind == wal.Unchanged || v.Kind == NotThere && h.Columns[i].Generated {
			h.want(h.Columns[i].Name)
			lacks = true
		}
	}
	if lacks {
		h.lacks = append(h.lacks, s.place)
	}
}

// compared are the columns by which it is found out whether a row is still the version that is told: those that policies look at.
// Where somebody may not read one of these, all that he may read have to be as they were.
func (h *hearing) compared() []string {
	if h.blind {
		return columnNames(h.Table)
	}
	return h.policies.Columns
}

func (h *hearing) want(column string) {
	if !slices.Contains(h.wanted, column) {
		h.wanted = append(h.wanted, column)
	}
}

// stateOf has a change's values in the order of the table's columns.
func (t *table) stateOf(c *wal.Change) *state {
	s := &state{place: -1, oldPlace: -1, rendered: map[valueOf][]byte{}, frames: map[frameOf][]byte{}}
	s.new, s.old = t.arrange(c.New, nil), t.arrange(c.Old, keyOnly(c))
	for i, v := range s.new {
		if v.Kind == wal.Unchanged && s.old != nil && s.old[i].Kind != NotThere {
			s.new[i] = s.old[i]
		}
	}
	if s.new != nil {
		s.key = t.keyOf(s.new, t.Key)
	}
	if s.old == nil {
		return s
	}
	s.oldBy = t.Key
	if s.oldKey = t.keyOf(s.old, t.Key); s.oldKey == nil && c.KeyOnly { // another index tells rows apart
		s.oldBy = identityOf(c.Relation)
		s.oldKey = t.keyOf(s.old, s.oldBy)
	}
	return s
}

// identityOf are the columns that the old row is known by.
func identityOf(r *wal.Relation) (names []string) {
	for _, c := range r.Columns {
		if c.Key {
			names = append(names, c.Name)
		}
	}
	return names
}

// keyOnly are the relation's columns of which an old row has values; nil: all.
func keyOnly(c *wal.Change) func(column int) bool {
	if !c.KeyOnly {
		return nil
	}
	return func(column int) bool { return c.Relation.Columns[column].Key }
}

func (t *table) arrange(values []wal.Value, known func(column int) bool) []wal.Value {
	if values == nil {
		return nil
	}
	all := make([]wal.Value, len(t.Columns))
	for i, v := range values {
		if place := t.place[i]; place >= 0 && (known == nil || known(i)) {
			all[place] = v
		}
	}
	return all
}

// keyOf are a row's values of these columns, if all are known.
func (t *table) keyOf(values []wal.Value, columns []string) []string {
	if len(columns) == 0 {
		return nil
	}
	key := make([]string, len(columns))
	for i, name := range columns {
		column := t.column(name)
		if column < 0 {
			return nil
		}
		v := values[column]
		if v.Kind != wal.Text {
			return nil
		}
		key[i] = string(v.Text)
	}
	return key
}

// filtered are the values that filters look at.
func (s *state) filtered(k wal.Kind) []wal.Value {
	if k == wal.Delete {
		return s.old
	}
	return s.new
}

// mayWant tells whether any of the audience's entries may match.
func (a *audience) mayWant(k wal.Kind, s *state) bool {
	event := eventOf(k)
	for _, w := range a.wants {
		if w.events&event != 0 && w.mayHold(k, s.filtered(k)) {
			return true
		}
	}
	return false
}

// mayHold: what is not known of a DELETE will not be.
func (w want) mayHold(k wal.Kind, values []wal.Value) bool {
	for _, c := range w.filter {
		v := values[c.column]
		if k == wal.Delete && v.Kind == NotThere || c.holds(v) == no {
			return false
		}
	}
	return true
}
