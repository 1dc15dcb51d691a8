package changes

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"rowcast/server/wal"
)

// Who sees what now, and which filters hold: what is asked in the front view.

// askFront asks which of the rows everyone concerned sees, and fills in what the WAL lacks of them.
func (t *trial) askFront(h *hearing) error {
	h.addScouts()
	h.who.sort()
	seen, err := t.visible(t.front, h.Table, h.keys, h.who.groups, h.who.about, h.wanted)
	if err != nil {
		return err
	}
	if !h.blind && len(h.keys) > 0 && slices.ContainsFunc(seen, h.isBlind) { // it stays so, as a rule: this is asked once
		h.blind = true
		h.wanted = columnNames(h.Table)
		if seen, err = t.visible(t.front, h.Table, h.keys, h.who.groups, h.who.about, h.wanted); err != nil {
			return err
		}
	}
	if anyRewritten(seen) { // another view will do
		return errRewritten
	}
	h.sights = make([]sight, len(seen))
	for i := range seen {
		g := h.who.groups[i]
		h.sights[i] = newSight(h, &seen[i], h.wanted)
		g.slow = seen[i].Undecided && (seen[i].Code != "" || g.slow)
		h.bound = h.bound || seen[i].RowSecurity
		h.gone = h.gone || seen[i].Gone
		h.meet(g, &h.sights[i])
	}
	h.fill()
	return nil
}

// isBlind tells whether a group sees rows by policies that look at a column which it may not read.
func (h *hearing) isBlind(s Seen) bool {
	return s.RowSecurity && len(s.Visible) > 0 && slices.ContainsFunc(h.policies.Columns, func(c string) bool { return !slices.Contains(s.Columns, c) })
}

// errPolicies: what is known of policies is of others than there are now.
var errPolicies = errors.New("policies have changed")

// samePolicies makes sure that those who were asked about together could not differ, and that it is known which columns policies
// look at.
func (t *trial) samePolicies() error {
	var all []*policies
	var of []*hearing
	for _, h := range t.hears {
		if h.bound {
			all, of = append(all, h.policies), append(of, h)
		}
	}
	if len(all) == 0 {
		return nil
	}
	t.asked("policies")
	same, err := unchanged(t.ctx, t.Pool, all)
	if err != nil {
		return err
	}
	for i, h := range of {
		if !same[i] {
			t.stale = append(t.stale, h.relation)
		}
	}
	if len(t.stale) > 0 {
		return errPolicies
	}
	return nil
}

// sight is what a group sees of a table in one view.
type sight struct {
	*Seen
	columns map[int]bool
	places  map[int][]*string // of what is visible, the texts that were wanted
}

func newSight(h *hearing, s *Seen, wanted []string) sight {
	made := sight{Seen: s, columns: make(map[int]bool, len(s.Columns)), places: make(map[int][]*string, len(s.Visible))}
	for _, name := range s.Columns {
		if i := h.column(name); i >= 0 {
			made.columns[i] = true
		}
	}
	for i, place := range s.Visible {
		made.places[place] = nil
		if len(wanted) > 0 && i < len(s.Texts) {
			made.places[place] = s.Texts[i]
		}
	}
	return made
}

// sees tells whether a row is visible. place is -1 for one that cannot be asked about.
func (s *sight) sees(place int) bool {
	if s.All {
		return true
	}
	_, visible := s.places[place]
	return visible
}

// failed tells whether the policies could not be asked, about any row.
func (s *sight) failed() bool {
	return s.Refusal != "" || s.Undecided || s.Code != "" && s.Failed == nil
}

// failedAt tells it of one row.
func (s *sight) failedAt(place int) bool { return s.failed() || slices.Contains(s.Failed, place) }

// replaced tells whether a row that a group sees has other values by now, in columns that policies look at, than the change gave
// it. Then Postgres was asked about another version of it, and cannot be asked about this one. Where the role may not read one of
// these columns, it must have the same values in all that it may read: then it is shown nothing that it does not see.
func (h *hearing) replaced(s *state, now *sight) bool {
	texts := now.places[s.place]
	if !now.RowSecurity || texts == nil {
		return false
	}
	blind := h.isBlind(*now.Seen)
	for i, name := range h.wanted {
		column := h.column(name)
		if now.columns[column] && (blind || slices.Contains(h.policies.Columns, name)) && differs(s.new[column], texts[i]) {
			return true
		}
	}
	return false
}

// differs compares a value of the WAL with the text that a view gave; nil is NULL. What is not known differs from nothing.
func differs(v wal.Value, text *string) bool {
	switch v.Kind {
	case wal.Null:
		return text != nil
	case wal.Text:
		return text == nil || *text != string(v.Text)
	}
	return false
}

// fill takes what the WAL lacks from the rows as somebody sees them now. It is the same for all who see it, and shown to nobody
// else.
func (h *hearing) fill() {
	if len(h.wanted) == 0 {
		return
	}
	columns := make([]int, len(h.wanted))
	for i, name := range h.wanted {
		columns[i] = h.column(name)
	}
	for _, r := range h.rows {
		s := r.stateIn(h)
		for i := range h.sights {
			sight := &h.sights[i]
			texts := sight.places[s.place]
			for w, column := range columns {
				if texts == nil || !sight.columns[column] || s.new[column].Kind != wal.Unchanged && s.new[column].Kind != NotThere {
					continue
				}
				if texts[w] == nil {
					s.new[column] = wal.Value{Kind: wal.Null}
				} else {
					s.new[column] = wal.Value{Kind: wal.Text, Text: []byte(*texts[w])}
				}
			}
		}
	}
}

func (r *row) stateIn(h *hearing) *state {
	for i, other := range r.hearing {
		if other == h {
			return r.states[i]
		}
	}
	return nil
}

// slowFor is how long a condition that takes too long is not asked again. What it would have to decide is not known meanwhile.
const slowFor = time.Minute

// compare asks for what only Postgres can compare: one question a condition. Whoever subscribes writes them, regular expressions
// too, and what one takes is the time of all. So behind one that is slow none is asked; those that have served longest come first.
func (h *hearing) compare(ctx context.Context) error {
	conditions := slices.SortedFunc(maps.Values(h.conditions), func(a, b *condition) int { return cmp.Compare(b.decided, a.decided) })
	late := false
	for _, c := range conditions {
		if c.matches != nil {
			continue
		}
		var values []*string
		c.asked = map[string]truth{}
		if late || time.Since(c.slow) < slowFor {
			continue
		}
		for _, r := range h.rows {
			v := r.stateIn(h).filtered(r.change.Kind)[c.column]
			if _, known := c.asked[string(v.Text)]; v.Kind == wal.Text && !known {
				text := string(v.Text)
				c.asked[text] = no
				values = append(values, &text)
			}
		}
		if len(values) == 0 {
			continue
		}
		h.asked("matches")
		answers, err := matches(ctx, h.front, h.Table, c.Condition, values)
		c.decided++
		if errors.Is(err, errSlow) {
			late, c.slow, c.decided = true, time.Now(), 0
			clear(c.asked)
			values = nil
		}
		if errors.Is(err, errUndecided) {
			table := named(Name{h.Schema, h.Name})
			h.say(slog.LevelWarn, strings.Join([]string{table, c.Column, string(c.Op)}, " "), "a filter could not be decided, and does not match", "table", table, "column", c.Column, "op", string(c.Op), "err", err)
		} else if err != nil {
			return err
		}
		for i, text := range values {
			c.asked[*text] = truthOf(answers[i])
		}
	}
	return nil
}
