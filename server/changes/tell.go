package changes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/wal"
)

// tell gives every change of a batch, in the order of the WAL, to those who want it and may see it.
func (t *trial) tell(b *batch) {
	d := newDelivery(t.loop)
	for _, r := range t.rows {
		if r.truncate != nil {
			t.tellTruncate(d, r)
			continue
		}
		if len(r.source.tables) == 0 { // it was dropped before anything was known of it
			t.missedOf(r.change.Relation)
		}
		for i, h := range r.hearing {
			s := r.states[i]
			if h.gone {
				for _, a := range h.audiences {
					if a.mayWant(r.change.Kind, s) {
						t.missedBy(a, r.xid)
					}
				}
				continue
			}
			h.hearers(s.filtered(r.change.Kind), func(a *audience) { t.tellAudience(d, h, r, s, a) })
		}
		t.Metrics.ChangesSeconds.Observe(max(0, time.Since(r.begin.Committed).Seconds())) // the clocks may differ
		d.relieve()
	}
	t.Metrics.ChangesBatch.Observe(float64(len(b.items)))
	d.end()
	t.tellGaps()
	if t.judged != nil {
		t.judged(t, b)
	}
}

// tellTruncate tells those who may read the table at all.
func (t *trial) tellTruncate(d *delivery, r *row) {
	for _, relation := range r.truncate {
		if len(t.sources[relation].tables) == 0 {
			t.missedOf(relation)
		}
		for _, table := range t.sources[relation].tables {
			h := t.of[table]
			if h == nil {
				continue
			}
			if h.gone {
				for _, a := range table.audiences {
					t.missedBy(a, r.xid)
				}
				continue
			}
			text := fmt.Sprintf(protocol.TextTruncated, table.Schema, table.Name)
			for _, a := range table.audiences {
				sight := h.sightOf(a.group)
				if sight == nil || sight.failed() || len(sight.Columns) == 0 || sight.Missing != "" && len(table.Key) > 0 {
					continue
				}
				for _, seat := range a.seats {
					if seat.sub.hears(r.xid) {
						d.notice(seat.sub, text)
					}
				}
			}
		}
	}
}

// tellAudience gives a row to an audience, if it is to have it.
func (t *trial) tellAudience(d *delivery, h *hearing, r *row, s *state, a *audience) {
	sight := h.sightOf(a.group)
	if sight == nil || h.hides(a.group, s.filtered(r.change.Kind)) {
		return
	}
	ids, undecided, illegible := a.idsFor(r.change.Kind, s, sight)
	if illegible {
		t.Metrics.ChangesRefused.WithLabelValues(refusedFilter).Inc()
	}
	if len(ids) == 0 && !undecided || !slices.ContainsFunc(a.seats, func(seat *seat) bool { return seat.sub.hears(r.xid) }) {
		return
	}
	if !t.mayHear(h, r, a, sight) {
		return
	}
	shown, ok := t.shownTo(h, r, s, a, sight)
	switch {
	case !ok:
		return
	case shown.refused != "" && sight.RowSecurity:
		if ids = a.unfiltered(r.change.Kind); len(ids) == 0 {
			return
		}
	case shown.undecided, undecided:
		t.missedBy(a, r.xid)
		if shown.undecided || len(ids) == 0 {
			return
		}
	}
	data := s.frames[shown.key]
	if data == nil {
		var err error
		if data, err = h.render(r, s, a, shown); err != nil {
			t.Logger.Error("a change could not be written", "table", h.Schema+"."+h.Name, "err", err)
			t.missedBy(a, r.xid)
			return
		}
		s.frames[shown.key] = data
	}
	h.works(a.group.Role)
	frame := protocol.TextEvent(a.topic, protocol.EventPostgresChanges, Payload(ids, data))
	for _, seat := range a.seats {
		if seat.sub.hears(r.xid) {
			delete(seat.sub.warnings, warningOf{warningPolicy, h.OID}) // what it warned of is over
			d.give(seat.sub, frame)
		}
	}
}

// idsFor are the entries that a row matches. undecided: of some that cannot be told. illegible: of some the filter looks at a column
// that the role may not read. They match nothing, and nobody is told so because of a row: it would tell what is in that column. Once
// the grants are noticed, all entries are checked again.
func (a *audience) idsFor(k wal.Kind, s *state, now *sight) (ids []int, undecided, illegible bool) {
	event, values := eventOf(k), s.filtered(k)
	for _, w := range a.wants {
		if w.events&event == 0 || !w.mayHold(k, values) {
			continue
		}
		if !now.failed() && !w.legible(now) {
			illegible = true
			continue
		}
		if w.holds(values) == unknown {
			undecided = true
		} else if !slices.Contains(ids, w.id) {
			ids = append(ids, w.id)
		}
	}
	return ids, undecided, illegible
}

// legible tells whether a role may read all columns that the filter looks at.
func (w want) legible(now *sight) bool {
	return !slices.ContainsFunc(w.filter, func(c *condition) bool { return !now.columns[c.column] })
}

// unfiltered are the entries that want every row. Of one that cannot be looked for as the user no filter may tell, or it would tell
// him what policies hide.
func (a *audience) unfiltered(k wal.Kind) (ids []int) {
	for _, w := range a.wants {
		if w.events&eventOf(k) != 0 && len(w.filter) == 0 && !slices.Contains(ids, w.id) {
			ids = append(ids, w.id)
		}
	}
	return ids
}

// mayHear refuses those who cannot be asked about, and says so: to them that, to the log why.
func (t *trial) mayHear(h *hearing, r *row, a *audience, s *sight) bool {
	if s.Undecided && s.Code == "" { // by the fault of others
		t.Metrics.ChangesRefused.WithLabelValues(refusedSlow).Inc()
		t.missedBy(a, r.xid)
		return false
	}
	if s.failedAt(r.stateIn(h).place) {
		t.refuse(h, a, s)
		return false
	}
	if s.Missing != "" && len(h.Key) > 0 {
		t.warnAll(h, a, warningGrant, fmt.Sprintf(protocol.TextChangesGrant, h.Schema, h.Name, s.Missing))
	}
	return true
}

// refuse keeps a row from those whose policies could not be asked about it, and says so.
func (t *trial) refuse(h *hearing, a *audience, s *sight) {
	reason := refusedPolicy
	switch {
	case s.Refusal != "":
		reason = refusedRole
	case s.Undecided, s.Code == "57014":
		reason = refusedSlow
	}
	t.Metrics.ChangesRefused.WithLabelValues(reason).Inc()
	t.warnAll(h, a, warningPolicy, fmt.Sprintf(protocol.TextChangesUndecided, h.Schema, h.Name), "sqlstate", s.Code, "detail", s.Refusal+s.Reason, "table", h.Schema+"."+h.Name, "role", a.group.Role)
}

// Why changes were kept from somebody; labels of the metric.
const (
	refusedPolicy = "policy" // the policies ended in an error
	refusedSlow   = "slow"   // they took too long
	refusedRole   = "role"   // no such role, or one that bypasses row level security and may not
	refusedFilter = "filter" // the role may not read a column of the filter
	refusedGrant  = "grant"  // the role may not read the primary key
	refusedKey    = "key"    // there is no primary key to look for the row by

	refusedReplaced = "replaced" // by the time it was asked about, the row had other values where policies look
)

// warning is what somebody is told once, until it is over.
type warning uint8

const (
	warningPolicy warning = iota
	warningGrant
)

// warningOf is a warning about a table.
type warningOf struct {
	warning
	table uint32
}

// warnAll tells an audience, and the log: of each role once until it works again, and not again soon.
func (t *trial) warnAll(h *hearing, a *audience, w warning, text string, why ...any) {
	for _, seat := range a.seats {
		if sub := seat.sub; sub.active && !sub.ended.Load() {
			sub.warn(warningOf{w, h.OID}, text)
		}
	}
	if len(why) == 0 {
		return
	}
	said := h.logged[a.group.Role]
	if !said.at.IsZero() && (!said.over || time.Since(said.at) < logAgain) {
		said.over = false
		h.logged[a.group.Role] = said
		return
	}
	h.logged[a.group.Role] = saying{at: time.Now()}
	t.Logger.Warn("changes are kept from subscribers", why...)
}

// logAgain is how long the log does not say again what was over in between.
const logAgain = time.Minute

// saying is when the log said that changes are kept from users of a role, and whether some were told since.
type saying struct {
	at   time.Time
	over bool
}

// works notes that changes reach users of a role.
func (t *table) works(role string) {
	if said, there := t.logged[role]; there {
		said.over = true
		t.logged[role] = said
	}
}

// shown is how a row is shown to an audience.
type shown struct {
	key       frameOf
	columns   []int
	old       []int // columns of the old row
	before    []wal.Value
	refused   string // instead of all that
	undecided bool
}

// frameOf is equal where the data of two frames of a row is.
type frameOf struct {
	columns, refused string
	texts            bool
	past             past
}

// shownTo decides what of a row an audience may see; false: nothing, it is not told.
func (t *trial) shownTo(h *hearing, r *row, s *state, a *audience, sight *sight) (shown, bool) {
	kind := r.change.Kind
	switch {
	case len(h.Key) == 0 && !sight.All && (sight.RowSecurity || len(sight.Columns) == 0):
		t.Metrics.ChangesRefused.WithLabelValues(refusedKey).Inc()
		return shown{refused: ErrorNoKey, key: frameOf{refused: ErrorNoKey}}, true
	case sight.Missing != "":
		t.Metrics.ChangesRefused.WithLabelValues(refusedGrant).Inc()
		return shown{refused: ErrorUnauthorized, key: frameOf{refused: ErrorUnauthorized}}, kind != wal.Delete
	case kind != wal.Delete && s.key == nil && !sight.All:
		return shown{undecided: true}, true
	case kind != wal.Delete && !sight.sees(s.place):
		return shown{}, false
	case kind != wal.Delete && h.replaced(s, sight):
		t.Metrics.ChangesRefused.WithLabelValues(refusedReplaced).Inc()
		return shown{}, false
	}
	columns := h.columnsOf(a, sight)
	made := shown{columns: columns}
	before := pastHidden
	switch kind {
	case wal.Delete:
		switch before = h.pastOf(r, s, a.group, sight); before {
		case pastRefused:
			t.refuse(h, a, s.rear.sights[a.group])
			return shown{}, false
		case pastHidden:
			return shown{}, false
		}
	case wal.Update:
		if before = h.pastOf(r, s, a.group, sight); before == pastUndecided || before == pastRefused {
			before = pastHidden
		}
	}
	made.undecided = before == pastUndecided
	h.showOld(&made, r, s, columns, before)
	made.key = frameOf{columns: fmt.Sprint(columns), texts: a.texts, past: before}
	return made, true
}

// showOld decides which columns of the old row are shown.
func (h *hearing) showOld(made *shown, r *row, s *state, columns []int, before past) {
	key := h.Key
	if r.change.KeyOnly || r.change.Relation.Identity == wal.IdentityIndex {
		key = identityOf(r.change.Relation)
	}
	switch {
	case r.change.Kind == wal.Insert:
	case before == pastWhole && s.old != nil:
		made.old, made.before = columns, s.old
	case before == pastKey:
		made.old, made.before = h.among(columns, key), s.old
	case r.change.Kind == wal.Update && (s.old == nil || slices.Equal(s.oldBy, h.Key) && slices.Equal(s.oldKey, s.key) && s.key != nil):
		made.old = h.among(columns, key) // as it is now
	}
}

// among are those of the columns that have one of these names.
func (h *hearing) among(columns []int, names []string) (found []int) {
	for _, c := range columns {
		if slices.Contains(names, h.Columns[c].Name) {
			found = append(found, c)
		}
	}
	return found
}

// columnsOf are the columns that an audience is shown: what its role may read, and its entries select, beside the key.
func (h *hearing) columnsOf(a *audience, s *sight) (columns []int) {
	for i, c := range h.Columns {
		known := c.Generated || slices.Contains(h.place, i)
		if known && s.columns[i] && h.selects(a.columns, i) {
			columns = append(columns, i)
		}
	}
	return columns
}

// selects tells whether a column is among those that were selected; nil: all are. Those of the key always are.
func (t *Table) selects(selected []string, column int) bool {
	name := t.Columns[column].Name
	return selected == nil || slices.Contains(selected, name) || slices.Contains(t.Key, name)
}

// render writes the data of a change.
func (h *hearing) render(r *row, s *state, a *audience, how shown) ([]byte, error) {
	name := Name{h.Schema, h.Name}
	if how.refused != "" {
		return AppendRefused(nil, name, r.change.Kind, how.refused), nil
	}
	c := DataChange{
		Table: h.Table, Name: name, Kind: r.change.Kind, Committed: r.begin.Committed, Columns: how.columns, OldColumns: how.old,
		New: s.new, Old: how.before, NumbersAsText: a.texts,
		Rendered: func(column int, old bool) []byte { return s.rendered[valueOf{column, old}] },
	}
	if r.change.Large {
		c.Errors = []string{ErrorTooLarge}
	}
	return AppendData(nil, c)
}

// valueOf is a value of a row.
type valueOf struct {
	column int
	old    bool
}

// render asks for what only Postgres can write: one question a table.
func (h *hearing) askRendered(ctx context.Context) error {
	var types []uint32
	var values []*string
	var whose []func(string)
	for i, c := range h.Columns {
		if !c.Type.exotic() {
			continue
		}
		for _, r := range h.rows {
			s := r.stateIn(h)
			for _, of := range []struct {
				values []wal.Value
				old    bool
			}{{s.new, false}, {s.old, true}} {
				if of.values == nil || of.values[i].Kind != wal.Text {
					continue
				}
				text := string(of.values[i].Text)
				types, values = append(types, c.Type.OID), append(values, &text)
				whose = append(whose, func(json string) { s.rendered[valueOf{i, of.old}] = []byte(json) })
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	h.asked("render")
	rendered, err := render(ctx, h.front, types, values)
	if err != nil {
		return err
	}
	for i, json := range rendered {
		whose[i](json)
	}
	return nil
}

// exotic tells whether only Postgres can write a value of the type, or of an array of it.
func (t *Type) exotic() bool {
	for ; t != nil; t = t.Elem {
		if t.Exotic {
			return true
		}
	}
	return false
}

// asked counts a question.
func (o *Options) asked(what string) { o.Metrics.ChangesQuestions.WithLabelValues(what).Inc() }

// named is a table's name as people write it.
func named(n Name) string { return strings.Join([]string{n.Schema, n.Name}, ".") }
