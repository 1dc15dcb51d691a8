package changes

import (
	"slices"
	"strconv"
	"strings"

	"rowcast/server/wal"
)

// source is a relation that the stream has named: itself, and the partitioned tables above it under whose names and rights
// its rows may be wanted, too.
type source struct {
	relation *wal.Relation
	tables   []*table
}

// table is what the catalogs know of a relation, and who wants what of it.
type table struct {
	*Table
	relation *wal.Relation // which its rows come from
	place    []int         // of each of the relation's columns in Columns; -1: it is not there any more
	policies *policies     // by which groups are made
	blind    bool          // somebody may not read all columns that they look at

	audiences  map[string]*audience
	conditions map[string]*condition
	groups     map[string]*group
	byValue    map[int]map[string][]*audience // by a column, and the one value of it that they want
	others     []*audience
	ties       map[string]map[*audience]struct{} // by role, those that are filed by what their group may see
	roles      map[string]int                    // how many groups there are of each
	visit      uint64                            // of the last row that was matched
	logged     map[string]saying                 // what the log said of a role
}

// audience are those who are given the identical frame for each change: on one topic, with the same entries, and in one
// group.
type audience struct {
	topic   string
	wants   []want
	columns []string // that they selected; nil: all
	texts   bool     // numbers as text
	group   *group
	seats   []*seat
	keys    []valueKey // where it is in the table's byValue
	other   bool       // it is among the others
	visited uint64
	key     string
}

// want is what one entry wants of a table.
type want struct {
	id     int
	events Events
	filter []*condition
}

// seat is a subscription's place in an audience.
type seat struct {
	sub      *Subscription
	table    *table
	audience *audience
	at       int
}

// group are those who cannot differ in what they see of a table.
type group struct {
	Group
	key       string
	audiences int
	slow      bool // its policies took too long the last time
	most      int  // how many rows they were done with then in the time of a question; 0: any number
	tied      bool // policies hide from it every row that has none of the values
	values    []valueKey
}

func newTable(r *wal.Relation, is *Table) *table {
	t := &table{
		Table: is, relation: r, place: make([]int, len(r.Columns)),
		audiences: map[string]*audience{}, conditions: map[string]*condition{}, groups: map[string]*group{},
		byValue: map[int]map[string][]*audience{}, ties: map[string]map[*audience]struct{}{}, roles: map[string]int{}, logged: map[string]saying{},
	}
	for i, c := range r.Columns {
		t.place[i] = is.column(c.Name)
	}
	return t
}

// column is the place of a column; -1: there is none of this name.
func (t *Table) column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
}

// wanted tells whether anybody wants anything of it.
func (s *source) wanted() bool {
	return slices.ContainsFunc(s.tables, func(t *table) bool { return len(t.audiences) > 0 })
}

// tableOf is the table that an entry means: the relation itself, if it does; nil: none.
func (s *source) tableOf(e Entry) *table {
	for _, t := range s.tables {
		if e.Matches(t.Schema, t.Name) {
			return t
		}
	}
	return nil
}

// add seats a subscription wherever its entries want the relation. The error is that of a filter which does not fit it.
func (s *source) add(sub *Subscription) error {
	parts := map[string]*audience{} // its entries, by what must be equal in a frame
	tables := map[string]*table{}
	var order []string
	for _, e := range sub.Entries {
		t := s.tableOf(e)
		if t == nil {
			continue
		}
		w, err := t.want(e)
		if err != nil {
			return err
		}
		key := frameKey(t, e)
		if parts[key] == nil {
			parts[key], tables[key] = &audience{topic: sub.Topic, columns: e.Select, texts: e.NumbersAsText, key: key}, t
			order = append(order, key)
		}
		parts[key].wants = append(parts[key].wants, w)
	}
	for _, key := range order {
		tables[key].seat(sub, parts[key])
	}
	return nil
}

// frameKey is equal where frames of two entries of a channel are.
func frameKey(t *table, e Entry) string {
	var b strings.Builder
	writeText(&b, t.Schema, t.Name, strconv.FormatBool(e.NumbersAsText), strconv.FormatBool(e.Select == nil))
	writeText(&b, e.Select...)
	return b.String()
}

// writeText writes texts so that different ones never make the same whole.
func writeText(b *strings.Builder, texts ...string) {
	for _, text := range texts {
		b.WriteString(strconv.Itoa(len(text)))
		b.WriteByte(':')
		b.WriteString(text)
	}
}

func (t *table) want(e Entry) (want, error) {
	w := want{id: e.ID, events: e.Events}
	for _, c := range e.Filter {
		condition, err := t.condition(c)
		if err != nil {
			return want{}, err
		}
		w.filter = append(w.filter, condition)
	}
	return w, nil
}

// seat puts a subscription into the audience that is like this one, or makes this one it.
func (t *table) seat(s *Subscription, like *audience) {
	g := t.groupOf(s)
	var b strings.Builder
	writeText(&b, like.topic, like.key, g.key)
	for _, w := range like.wants {
		writeText(&b, strconv.Itoa(w.id), strconv.Itoa(int(w.events)), strconv.Itoa(len(w.filter)))
		for _, c := range w.filter {
			writeText(&b, c.key)
		}
	}
	like.key = b.String()
	a := t.audiences[like.key]
	if a == nil {
		a, like.group = like, g
		t.audiences[a.key] = a
		if g.audiences++; g.audiences == 1 {
			t.groups[g.key] = g
			t.roles[g.Role]++
		}
		t.file(a)
	}
	place := &seat{sub: s, table: t, audience: a, at: len(a.seats)}
	a.seats = append(a.seats, place)
	s.seats = append(s.seats, place)
}

// groupOf is the group that a subscription belongs to.
func (t *table) groupOf(s *Subscription) *group {
	key := groupKey(s.Role, s.Claims, t.policies.Claims)
	if g := t.groups[key]; g != nil {
		return g
	}
	g := &group{Group: Group{Role: s.Role, Claims: append([]byte{}, s.Claims...)}, key: key}
	g.values, g.tied = t.tied(g.Group)
	return g
}

// file makes an audience findable: by values, if each of its entries wants one value of a column, which only changes with
// this value can match; or if there are only some that rows can have which it may see.
func (t *table) file(a *audience) {
	unfiled := false
	for _, w := range a.wants {
		for _, c := range w.filter {
			c.uses++
		}
		if key, ok := w.onlyValue(); !ok {
			unfiled = true
		} else if !slices.Contains(a.keys, key) {
			a.keys = append(a.keys, key)
		}
	}
	switch {
	case unfiled && a.group.tied:
		a.keys = a.group.values
		t.tie(a)
	case unfiled:
		a.keys, a.other = nil, true
		t.others = append(t.others, a)
	}
	for _, k := range a.keys {
		if t.byValue[k.column] == nil {
			t.byValue[k.column] = map[string][]*audience{}
		}
		t.byValue[k.column][k.value] = append(t.byValue[k.column][k.value], a)
	}
}

// onlyValue is a value that a row must have for this entry, if there is one.
func (w want) onlyValue() (valueKey, bool) {
	for _, c := range w.filter {
		if value, ok := c.only(); ok {
			return valueKey{c.column, value}, true
		}
	}
	return valueKey{}, false
}

// valueKey is a value that one of a table's columns may have.
type valueKey struct {
	column int
	value  string
}

// unseat takes a subscription from all its seats.
func (s *Subscription) unseat() {
	for _, place := range s.seats {
		a := place.audience
		last := a.seats[len(a.seats)-1]
		a.seats[place.at] = last
		last.at = place.at
		a.seats[len(a.seats)-1] = nil
		if a.seats = a.seats[:len(a.seats)-1]; len(a.seats) == 0 {
			place.table.drop(a)
		}
	}
	s.seats = nil
}

// drop forgets an audience of nobody.
func (t *table) drop(a *audience) {
	delete(t.audiences, a.key)
	if a.group.audiences--; a.group.audiences == 0 {
		delete(t.groups, a.group.key)
		if t.roles[a.group.Role]--; t.roles[a.group.Role] == 0 {
			delete(t.roles, a.group.Role)
		}
	}
	delete(t.ties[a.group.Role], a)
	for _, w := range a.wants {
		for _, c := range w.filter {
			if c.uses--; c.uses == 0 {
				delete(t.conditions, c.key)
			}
		}
	}
	if a.other {
		t.others = removed(t.others, a)
	}
	for _, k := range a.keys {
		left := removed(t.byValue[k.column][k.value], a)
		if t.byValue[k.column][k.value] = left; len(left) > 0 {
			continue
		}
		if delete(t.byValue[k.column], k.value); len(t.byValue[k.column]) == 0 {
			delete(t.byValue, k.column)
		}
	}
}

// removed is a list without one of its elements; the order does not matter.
func removed(list []*audience, a *audience) []*audience {
	i := slices.Index(list, a)
	if i < 0 {
		return list
	}
	list[i] = list[len(list)-1]
	list[len(list)-1] = nil
	return list[:len(list)-1]
}

// candidates calls do for each audience that may want a row with these values, each once.
func (t *table) candidates(row []wal.Value, do func(*audience)) {
	t.visit++
	for _, a := range t.others {
		do(a)
	}
	for column, byValue := range t.byValue {
		switch v := row[column]; v.Kind {
		case wal.Text:
			t.each(byValue[string(v.Text)], do)
		case wal.Null:
		default: // it is not known, and may be any
			for _, list := range byValue {
				t.each(list, do)
			}
		}
	}
}

func (t *table) each(list []*audience, do func(*audience)) {
	for _, a := range list {
		if a.visited != t.visit {
			a.visited = t.visit
			do(a)
		}
	}
}
