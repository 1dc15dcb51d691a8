package changes

import (
	"fmt"
	"log/slog"
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
			table := named(Name{h.Schema, h.Name})
			t.say(slog.LevelError, table, "a change could not be written", "table", table, "err", err)
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

// asked counts a question.
func (o *Options) asked(what string) { o.Metrics.ChangesQuestions.WithLabelValues(what).Inc() }

// named is a table's name as people write it.
func named(n Name) string { return strings.Join([]string{n.Schema, n.Name}, ".") }
