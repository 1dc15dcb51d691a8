package changes

import (
	"slices"

	"rowcast/server/rights/aim"
	"rowcast/server/wal"
)

// What the catalogs say of the tables that rows come from.

// describe makes sources of relations that are new.
func (t *trial) describe(b *batch) error {
	var fresh []*wal.Relation
	named := map[*wal.Relation]bool{} // a table that is altered is named twice
	see := func(r *wal.Relation) {
		if t.sources[r] != nil && t.sources[r].outgrown() {
			t.forgetSource(r)
		}
		if r != nil && t.sources[r] == nil && !named[r] {
			fresh = append(fresh, r)
		}
		named[r] = true
	}
	for _, it := range b.items {
		see(it.change.Relation)
		for _, r := range it.truncate {
			see(r)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	for _, r := range fresh {
		s, err := t.describeOne(r)
		if err != nil {
			return err
		}
		for known := range t.sources {
			if known.OID == r.OID && !named[known] {
				t.forgetSource(known)
			}
		}
		t.sources[r] = s
		for sub := range t.seated {
			t.seatIn(s, sub)
		}
	}
	t.dirty = true
	t.publishInterest()
	return nil
}

// describeOne asks for a relation and the partitioned tables above it. One that is gone has no tables.
func (t *trial) describeOne(r *wal.Relation) (*source, error) {
	s := &source{relation: r}
	relations := []uint32{r.OID}
	for len(relations) > 0 {
		t.asked("describe")
		known, err := describe(t.ctx, t.front.view, t.Publication, relations[:1])
		if err != nil {
			return nil, err
		}
		relations = relations[1:]
		for _, is := range known {
			made, err := t.knownTable(r, is)
			if err != nil {
				return nil, err
			}
			s.tables = append(s.tables, made)
		}
		if len(s.tables) != 1 || len(known) == 0 {
			continue
		}
		for _, above := range known[0].Parents {
			t.asked("find")
			found, err := find(t.ctx, t.front.view, t.Publication, above.Schema, above.Name)
			if err != nil {
				return nil, err
			}
			relations = append(relations, found.Tables...)
		}
	}
	return s, nil
}

// knownTable is a table with what its policies can tell users apart by.
func (t *trial) knownTable(r *wal.Relation, is *Table) (*table, error) {
	t.asked("policies")
	by, err := readPolicies(t.ctx, t.Pool, is.OID, t.roles()...)
	if err != nil {
		return nil, err
	}
	is.reads = by.Relations
	by.own = by.Columns
	if by.lookElsewhere() {
		by.Columns = columnNames(is)
	}
	made := newTable(r, is)
	made.policies = by
	if !slices.Equal(by.names, columnNames(is)) || slices.Contains(made.place, -1) || !slices.IsSorted(made.place) {
		by.ties = aim.Ties{} // columns are renamed meanwhile: a name may mean another one to each
	}
	return made, nil
}

// roles are those of all subscribers.
func (l *loop) roles() (all []string) {
	for s := range l.subs {
		if !slices.Contains(all, s.Role) {
			all = append(all, s.Role)
		}
	}
	slices.Sort(all)
	return all
}
