package changes

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/postgres"
	"rowcast/server/snapshot"
	"rowcast/server/wal"
	"rowcast/sql"
)

// A row that is gone is asked about in an older view. What was committed since that view may have taken the right away before the
// row went: then the answer counts only if the policies would still let the row through.

// contested tells whether between a view and the front something was committed that may have come before the row's transaction.
// What the batch has behind it came after it; what the server writes for itself takes no rights.
func (t *trial) contested(view *epoch, r *row) bool {
	key := contest{view, r.xid}
	known, ok := t.contests[key]
	if ok {
		return known
	}
	for x := range view.snapshot.Gained(t.front.snapshot) {
		place, here := t.order[x]
		if x != r.xid && !(here && place > t.order[r.xid]) && !t.own.has(x) {
			known = true
			break
		}
	}
	t.contests[key] = known
	return known
}

// contest is a question of contested.
type contest struct {
	view *epoch
	xid  snapshot.XID
}

// since are the rows of which transactions that a view does not see have written versions: of each the last of them, and the last
// other one.
type since map[uint64][2]snapshot.XID

// maxSince is how many a view remembers. Beyond that nothing is known of any.
const maxSince = 1 << 16

var rowSeed = maphash.MakeSeed()

// rowHash is the same for the same row of a table, by its values of some columns.
func (t *table) rowHash(by, key []string) uint64 {
	var h maphash.Hash
	h.SetSeed(rowSeed)
	for _, list := range [][]string{{strconv.FormatUint(uint64(t.OID), 10)}, by, key} {
		for _, text := range list {
			_, _ = h.WriteString(strconv.Itoa(len(text)))
			_ = h.WriteByte(':')
			_, _ = h.WriteString(text)
		}
	}
	return h.Sum64()
}

// follow notes a version of a row, and finds out whether the row before is the one that the view has in which it is looked for.
func (t *trial) follow(table *table, r *row, s *state) {
	if !t.keepsViews() || r.change.Relation.Identity == wal.IdentityFull {
		return
	}
	if s.oldKey != nil {
		view := t.views.before(r.xid)
		s.changed = view == nil || !view.whole || view.since.byOthers(table.rowHash(s.oldBy, s.oldKey), r.xid)
	}
	if s.new == nil {
		return
	}
	known := [][]string{table.Key}
	if r.change.Relation.Identity == wal.IdentityIndex {
		known = append(known, identityOf(r.change.Relation))
	}
	for _, by := range known {
		if len(by) == 0 {
			continue
		}
		key := table.keyOf(s.new, by)
		for _, e := range t.views.open {
			switch {
			case !e.whole || e.snapshot.Sees(r.xid):
			case key == nil || len(e.since) >= maxSince:
				e.whole, e.since = false, nil
			default:
				e.since.note(table.rowHash(by, key), r.xid)
			}
		}
	}
}

func (s since) note(row uint64, x snapshot.XID) {
	if last := s[row]; last[0] != x {
		s[row] = [2]snapshot.XID{x, last[0]}
	}
}

func (s since) byOthers(row uint64, than snapshot.XID) bool {
	for _, x := range s[row] {
		if x != 0 && x != than {
			return true
		}
	}
	return false
}

// deciding are the columns whose values policies are told of a row that is gone: those that they name, and those of domains, some
// of which take no null for a value that is not known.
func (h *hearing) deciding() (names []string) {
	for _, c := range h.Columns {
		if slices.Contains(h.policies.own, c.Name) || c.Type.Base != c.Type.OID {
			names = append(names, c.Name)
		}
	}
	return names
}

// stillOf is a row as it was, and a group.
type stillOf struct {
	state *state
	group *group
}

// askStill asks which of the rows that are gone everyone concerned would see now, where the view in which he could see them does not
// tell enough.
func (t *trial) askStill(h *hearing) error {
	if s := t.suspects.known[suspectOf{h.OID, ""}]; s != nil && time.Now().Before(s.until) {
		return nil
	}
	columns := h.deciding()
	var values []*string
	var states []*state
	var groups []*group
	for _, r := range h.rows {
		s := r.stateIn(h)
		if s.rear == nil || !s.contested {
			continue
		}
		if r.change.Kind == wal.Update && h.alike(s) { // who sees the row now would see the one before
			s.contested = false
			continue
		}
		if r.change.Kind == wal.Delete && h.policies.lifts {
			continue
		}
		var concerned []*group
		for _, g := range s.rear.groups {
			then := s.rear.sights[g]
			if now := h.sightOf(g); then.sees(s.oldPlace) && !then.failedAt(s.oldPlace) && (r.change.Kind == wal.Delete || now.sees(s.place)) && t.suspects.known[suspectOf{h.OID, g.key}] == nil {
				concerned = append(concerned, g)
			}
		}
		if len(concerned) == 0 {
			continue
		}
		row, known := h.before(r, s, columns)
		if !known {
			continue
		}
		values, states = append(values, row...), append(states, s)
		for _, g := range concerned {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
	}
	h.still = map[stillOf]bool{}
	for slow := 0; len(groups) > 0 && len(states) > 0 && slow < maxSlow; {
		asked := groups[:min(len(groups), maxGroups)]
		groups = groups[len(asked):]
		t.asked("still")
		began := time.Now()
		answers, err := t.front.still(t.ctx, h.Table, h.policies, columns, values, len(states), asked)
		if t.front.closed() && errors.Is(err, context.DeadlineExceeded) && t.ctx.Err() == nil {
			t.abandon(t.ctx, t.front.view, err)
			t.suspects.lost(suspectOf{h.OID, ""}, true)
		}
		if err != nil && !postgres.IsSlow(err) { // else nothing is told of them
			return err
		}
		if time.Since(began) > askLimits.Statement*9/10 { // then not all were asked about, and of the others as little is told
			slow++
		}
		for i, places := range answers {
			for _, place := range places {
				h.still[stillOf{states[place], asked[i]}] = true
			}
		}
	}
	return nil
}

// alike tells whether what policies look at is in the new row as it was in the old one.
func (h *hearing) alike(s *state) bool {
	for _, name := range h.policies.own {
		i := h.column(name)
		if i < 0 || s.old[i].Kind != s.new[i].Kind || string(s.old[i].Text) != string(s.new[i].Text) || s.old[i].Kind != wal.Text && s.old[i].Kind != wal.Null {
			return false
		}
	}
	return true
}

// before are a row's values of columns, before it was changed; false: one that policies look at is not known. What the WAL has not
// is taken from the older view, if the row has not been another since then.
func (h *hearing) before(r *row, s *state, columns []string) (values []*string, known bool) {
	texts := map[int]*string{}
	if !s.changed {
		for _, g := range s.rear.groups {
			sight := s.rear.sights[g]
			for i, text := range sight.places[s.oldPlace] {
				if column := h.column(s.rear.wanted[i]); sight.columns[column] {
					texts[column] = text
				}
			}
		}
	}
	if !r.change.KeyOnly {
		for column, text := range texts {
			if differs(s.old[column], text) {
				clear(texts)
				break
			}
		}
	}
	for _, name := range columns {
		column := h.column(name)
		v := s.old[column]
		text, read := texts[column]
		switch {
		case v.Kind == wal.Text:
			whole := string(v.Text)
			values = append(values, &whole)
		case v.Kind == wal.Null, read:
			values = append(values, text)
		case slices.Contains(h.policies.own, name):
			return nil, false
		default:
			values = append(values, nil)
		}
	}
	return values, true
}

// still asks which of rows that are gone each group would see, if the policies are these in the view: places of rows. values are
// those of columns, row by row.
func (v *view) still(ctx context.Context, t *Table, p *policies, columns []string, values []*string, rows int, groups []*group) ([][]int, error) {
	seen := make([][]int, len(groups))
	roles, claims := make([]string, len(groups)), make([]string, len(groups))
	for i, g := range groups {
		roles[i], claims[i] = g.Role, string(g.Claims)
	}
	args := []any{int64(t.OID), orEmpty(columns), append([]*string{}, values...), rows, roles, claims, append([]int64{}, p.Relations...), append([]int64{}, p.Functions...), p.digest}
	err := v.read(ctx, sql.ChangesStill, args, func(answers pgx.Rows) error {
		var place int
		var visible []int32
		err := answers.Scan(&place, &visible)
		if err == nil {
			seen[place-1] = fromOne(visible)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask who would see rows of %s.%s: %w", t.Schema, t.Name, err)
	}
	return seen, nil
}
