package changes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"rowcast/server/snapshot"
)

// modelEntry is an entry of a join.
type modelEntry struct {
	id     int
	event  Events
	table  string // "" is every one
	column string // of the filter; "": none
	op     string
	value  string
	chosen []string // selected columns; nil: all
}

func (e modelEntry) json() string {
	event := e.event.String()
	text := fmt.Sprintf(`{"event":%q,"schema":"public"`, event)
	if e.table != "" {
		text += fmt.Sprintf(`,"table":%q`, e.table)
	}
	if e.column != "" {
		text += fmt.Sprintf(`,"filter":%q`, e.column+"="+e.op+"."+e.value)
	}
	if e.chosen != nil {
		text += fmt.Sprintf(`,"select":["%s"]`, strings.Join(e.chosen, `","`))
	}
	return text + "}"
}

// randomEntry is one that a role may ask for.
func randomEntry(random *rand.Rand, id int, p modelPerson) modelEntry {
	e := modelEntry{id: id, event: []Events{AnyEvent, AnyEvent, AnyEvent, Insert, Update, Delete}[random.IntN(6)]}
	if random.IntN(6) == 0 {
		return e
	}
	e.table = modelTables[random.IntN(len(modelTables))].name
	filters := []modelEntry{
		{}, {}, {}, {column: "id", op: "gt", value: strconv.Itoa(random.IntN(4000))}, {column: "id", op: "eq", value: strconv.Itoa(random.IntN(writers)*1000 + random.IntN(keysOf))},
		{column: "body", op: "like", value: "%" + strconv.Itoa(random.IntN(10)) + "%"}, {column: "team", op: "in", value: "(1,2)"},
		{column: "body", op: "neq", value: "b3"}, {column: "team", op: "not.eq", value: "2"},
	}
	if p.role != "anon" {
		filters = append(filters, modelEntry{column: "owner", op: "eq", value: p.name}, modelEntry{column: "pub", op: "is", value: "true"})
	}
	f := filters[random.IntN(len(filters))]
	e.column, e.op, e.value = f.column, f.op, f.value
	if random.IntN(4) == 0 {
		e.chosen = []string{"body"}
	}
	return e
}

// matches decides the entry about a row of which these columns are known.
func (e modelEntry) matches(t *modelTable, event Events, r modelRow, known []string) bool {
	if e.event&event == 0 || e.table != "" && e.table != t.name {
		return false
	}
	if e.column == "" {
		return true
	}
	if !slices.Contains(known, e.column) {
		return false
	}
	text := r.text(e.column)
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	switch e.op {
	case "gt":
		return number(text) > number(e.value)
	case "eq":
		return text == e.value
	case "neq", "not.eq":
		return text != e.value
	case "is":
		return text == "true"
	case "in":
		return text == "1" || text == "2"
	}
	return strings.Contains(text, strings.Trim(e.value, "%"))
}

// modelMember is a subscriber, and what it was told batch by batch.
type modelMember struct {
	*spectator
	modelPerson
	entries []modelEntry
}

// modelTold is what a member was told of a batch.
type modelTold struct {
	member *modelMember
	person modelPerson
	active bool
	since  snapshot.Snapshot
	said   []string
}

// modelBatch is a batch as it was judged.
type modelBatch struct {
	front snapshot.Snapshot
	end   snapshot.XID // beyond all that it sees
	rows  []modelJudged
	told  []modelTold
	laws  []modelLaw // that there may have been: from the one that was made when the last batch was judged, to what was begun when this was
}

// modelJudged is a row of a batch: which transaction changed it, and the view in which the old row was looked for.
type modelJudged struct {
	xid  snapshot.XID
	rear snapshot.Snapshot
	has  bool // there was such a view
}

// expectation is what a member is to be told of one change: frames in any order; or that nobody can tell.
type expectation struct {
	frames    []string
	gap       bool
	contested bool         // others have written since the row was looked for
	instead   *expectation // is as good; nil: nothing is
}

// permitted tells whether the member's entries are good under a law.
func (m *modelMember) permitted(in modelState) bool {
	for _, e := range m.entries {
		if e.table != "" && !m.reads(tableOf(e.table), in, e.named()) {
			return false
		}
	}
	return true
}

// named are the columns that an entry names.
func (e modelEntry) named() (columns []string) {
	if e.column != "" {
		columns = append(columns, e.column)
	}
	return append(columns, e.chosen...)
}

// expects says what a person is to be told of a change.
func (m *modelMember) expects(p modelPerson, c modelChange, front, rear modelState, hasRear bool, between modelBetween) expectation {
	t, event := c.table, c.event()
	subject, known := c.new, modelColumns
	if event == Delete {
		subject = c.old
		if !t.full {
			known = t.key
		}
	}
	type frame struct {
		ids    []int
		chosen []string
	}
	var frames []frame
	unkeyed := !p.reads(t, front, t.key)
	for _, e := range m.entries {
		if !e.matches(t, event, *subject, known) || e.column != "" && (!p.reads(t, front, []string{e.column}) || unkeyed && p.bound(t, front)) {
			continue
		}
		i := slices.IndexFunc(frames, func(f frame) bool { return slices.Equal(f.chosen, e.chosen) && (f.chosen == nil) == (e.chosen == nil) })
		if i < 0 {
			i = len(frames)
			frames = append(frames, frame{chosen: e.chosen})
		}
		frames[i].ids = append(frames[i].ids, e.id)
	}
	if len(frames) == 0 {
		return expectation{}
	}
	if unkeyed {
		return unauthorized(t, event, len(frames), func(i int) []int { return frames[i].ids })
	}
	if p.bound(t, front) && p.hidden(t, *subject, event != Delete || t.full, front) {
		return expectation{}
	}
	if event != Delete {
		if now, sees := p.find(t, t.keyOf(*c.new), front); p.bound(t, front) && (!sees || !p.judgedAs(t, now, *c.new, front)) {
			return expectation{}
		}
	}
	was, old := "", modelRow{} // "": hidden, "key", "whole"
	var x expectation
	if c.old != nil {
		old = *c.old
		switch {
		case !p.bound(t, front):
			was = "key"
			if t.full {
				was = "whole"
			}
		case !hasRear && event == Delete:
			return expectation{gap: true}
		case hasRear && !p.reads(t, rear, t.key):
			if event == Delete {
				return expectation{gap: true}
			}
		case hasRear:
			before, saw := p.find(t, t.keyOf(old), rear)
			if saw {
				was = "key"
				if t.full && p.equal(t, before, old, rear) && p.reads(t, rear, p.columns(t, front)) {
					was = "whole"
				}
			}
			if !saw || between.alone {
				break
			}
			last := before // the version that was there before the transaction; of its own, only the WAL knows
			if t.full {
				last = old
			}
			x.contested = true
			switch { // he may have lost the right before
			case !t.full && between.rewritten, !p.sees(t, last, front):
				if event == Delete {
					return expectation{gap: true}
				}
				was = ""
			case t.altered || !t.full && (p.role == "anon" || t.granted || between.perhaps): // what the policy looks at need not be known
				x.instead = &expectation{gap: event == Delete}
			}
		}
		if was == "" && event == Delete {
			return expectation{}
		}
	}
	tell := func(was string) (told []string) {
		for _, f := range frames {
			columns := p.columns(t, front)
			if f.chosen != nil {
				columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return !slices.Contains(f.chosen, c) && !slices.Contains(t.key, c) })
			}
			inKey := slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return !slices.Contains(t.key, c) })
			parts := []string{fmt.Sprint(f.ids), event.String(), t.name}
			if c.new != nil {
				parts = append(parts, c.new.json(columns))
			}
			if c.old != nil {
				shown := "{}"
				switch {
				case was == "whole":
					shown = old.json(columns)
				case was == "key":
					shown = old.json(inKey)
				case t.keyOf(old) == t.keyOf(*c.new): // he sees the new one's
					shown = old.json(inKey)
				}
				parts = append(parts, "was", shown)
			}
			told = append(told, strings.Join(parts, " "))
		}
		slices.Sort(told)
		return told
	}
	x.frames = tell(was)
	if x.instead != nil && event == Update {
		x.instead.frames = tell("")
	}
	return x
}

// unauthorized is what somebody is told of a row who may not read its key.
func unauthorized(t *modelTable, event Events, frames int, ids func(int) []int) (x expectation) {
	shown := map[Events]string{Insert: " {}", Update: " {} was {}"}
	if event == Delete {
		return x
	}
	for i := range frames {
		x.frames = append(x.frames, fmt.Sprintf("%v %s %s%s [%s]", ids(i), event, t.name, shown[event], ErrorUnauthorized))
	}
	slices.Sort(x.frames)
	return x
}
