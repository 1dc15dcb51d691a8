package changes

import (
	"slices"

	"rowcast/server/wal"
)

// rear is what is asked about a table's rows as they were before, in a view that does not see the change yet.
type rear struct {
	view *epoch
	by   []string // columns that the rows are looked for by
	keys [][]string
	asking
	wanted []string // of which columns the texts: of all, if any old row is there as a whole
	sights map[*group]*sight
	lost   bool // it does not tell any more who could see them
}

// askRear asks who could see the rows before: of a DELETE those whom it may concern, of an UPDATE those who see the new row.
func (t *trial) askRear(h *hearing) error {
	for _, r := range h.rows {
		s := r.stateIn(h)
		if s.old == nil || s.oldKey == nil || r.change.Kind == wal.Insert {
			continue
		}
		view := t.views.before(r.xid)
		if view == nil {
			continue
		}
		values := s.filtered(r.change.Kind)
		h.candidates(values, func(a *audience) {
			now := h.sightOf(a.group)
			if now == nil || now.failed() || !now.RowSecurity || !a.mayWant(r.change.Kind, s) || !a.group.concerns(values) ||
				r.change.Kind == wal.Update && !now.sees(s.place) {
				return
			}
			if s.rear == nil {
				s.rear = h.rearIn(view, s.oldBy)
				s.oldPlace = len(s.rear.keys)
				s.rear.keys = append(s.rear.keys, s.oldKey)
				s.contested = h.policies.clock || t.contested(view, r) // the time stands still in a view
				switch {
				case !r.change.KeyOnly:
					s.rear.wanted = columnNames(h.Table)
				case s.contested && !s.changed && s.rear.wanted == nil:
					s.rear.wanted = h.deciding()
				}
			}
			s.rear.include(a.group, s.oldPlace)
		})
	}
	for _, asked := range h.rears {
		if err := t.askOld(h, asked); err != nil {
			return err
		}
	}
	return t.askStill(h)
}

func (h *hearing) rearIn(view *epoch, by []string) *rear {
	i := slices.IndexFunc(h.rears, func(r *rear) bool { return r.view == view && slices.Equal(r.by, by) })
	if i < 0 {
		i = len(h.rears)
		h.rears = append(h.rears, &rear{view: view, by: by, asking: newAsking(), sights: map[*group]*sight{}})
	}
	return h.rears[i]
}

func (t *trial) askOld(h *hearing, asked *rear) error {
	table := *h.Table
	table.Key = asked.by
	asked.sort()
	seen, err := t.visible(asked.view, &table, asked.keys, asked.groups, asked.about, asked.wanted)
	if err != nil {
		return err
	}
	asked.lost = anyRewritten(seen)
	for i, g := range asked.groups {
		s := newSight(h, &seen[i], asked.wanted)
		asked.sights[g] = &s
	}
	return nil
}

func columnNames(t *Table) []string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return names
}

// past is what a group may know of an old row.
type past uint8

const (
	pastHidden    past = iota // nothing: it could not see it
	pastKey                   // its key: it could see another version of it
	pastWhole                 // all that the WAL has of it
	pastRefused               // its policies could not be asked about it
	pastUndecided             // nobody can tell any more
)

// pastOf decides what a group may know of the old row.
func (h *hearing) pastOf(r *row, s *state, g *group, now *sight) past {
	if now.All {
		return pastWhole
	}
	if s.old == nil {
		return pastHidden
	}
	if s.rear == nil {
		return pastUndecided
	}
	then := s.rear.sights[g]
	switch {
	case then == nil:
		return pastHidden
	case s.rear.lost:
		return pastUndecided
	case then.failedAt(s.oldPlace):
		return pastRefused
	case then.Missing != "": // the role may not look for it by these columns
		return pastUndecided
	case !then.sees(s.oldPlace):
		return pastHidden
	case s.contested && !h.still[stillOf{s, g}]: // he may have lost the right before
		return pastUndecided
	case r.change.KeyOnly || then.places[s.oldPlace] == nil:
		return pastKey
	}
	for i, text := range then.places[s.oldPlace] {
		if now.columns[i] && !then.columns[i] || then.columns[i] && differs(s.old[i], text) { // grants may have changed between the questions
			return pastKey
		}
	}
	return pastWhole
}
