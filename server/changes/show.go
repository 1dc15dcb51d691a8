package changes

import (
	"context"
	"fmt"
	"slices"

	"rowcast/server/wal"
)

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
