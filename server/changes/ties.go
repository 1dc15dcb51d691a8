package changes

import (
	"slices"

	"rowcast/server/wal"
)

// Who is not asked about a row, because it is proved that policies hide it from him.
//
// What is proved holds for whom policies bind, while they are what they were when they were read. So of each role somebody is asked, if
// only whether policies bind it, and what it may read: the sight of the role. It stands for all who are not asked themselves. And the
// policies are compared after the questions, as for groups.

// tied finds out which values a row must have, in columns that they are compared with, to be shown to a group. false: that is not known.
func (t *table) tied(g Group) ([]valueKey, bool) {
	if !slices.Contains(t.policies.Roles, g.Role) {
		return nil, false
	}
	ties, known := t.policies.ties.Of(g.Role)
	if !known {
		return nil, false
	}
	values := []valueKey{}
	for _, tie := range ties {
		column := t.column(tie.Column)
		if column < 0 || !t.Columns[column].Type.Exact {
			return nil, false
		}
		text, null, known := tie.Is.Of(g.Claims)
		if !known {
			return nil, false
		}
		if key := (valueKey{column, text}); !null && !slices.Contains(values, key) {
			values = append(values, key)
		}
	}
	return values, true
}

// concerns tells whether policies may show the group a row with these values. What is not known may be anything.
func (g *group) concerns(row []wal.Value) bool {
	return !g.tied || row == nil || slices.ContainsFunc(g.values, func(k valueKey) bool {
		v := row[k.column]
		return v.Kind != wal.Null && (v.Kind != wal.Text || string(v.Text) == k.value)
	})
}

// outgrown tells whether somebody has come of a role of which it is not known which policies apply to it.
func (s *source) outgrown() bool {
	return slices.ContainsFunc(s.tables, func(t *table) bool {
		for role := range t.roles {
			if !slices.Contains(t.policies.Roles, role) {
				return true
			}
		}
		return false
	})
}

// tie notes an audience that is filed by what its group may see, and not by a filter.
func (t *table) tie(a *audience) {
	role := a.group.Role
	if t.ties[role] == nil {
		t.ties[role] = map[*audience]struct{}{}
	}
	t.ties[role][a] = struct{}{}
}

// mayTie tells whether a change may be of interest to somebody who is found by the values that he may see, and would be told of others
// too if policies did not bind him.
func (t *table) mayTie(k wal.Kind) bool {
	event := eventOf(k)
	for _, audiences := range t.ties {
		for a := range audiences {
			if slices.ContainsFunc(a.wants, func(w want) bool { return w.events&event != 0 }) {
				return true
			}
		}
	}
	return false
}

// addScouts has somebody asked about each role of which there is somebody who is not asked himself. What the WAL lacks of rows a scout
// reads whom policies do not bind, for those like him.
func (h *hearing) addScouts() {
	asked := map[string]int{}
	for _, g := range h.who.groups {
		asked[g.Role]++
	}
	for role, n := range h.table.roles {
		if asked[role] < n || len(h.lacks) > 0 {
			scout := &group{Group: Group{Role: role}, key: role + "\x00scout", tied: true}
			h.who.groups, h.who.about[scout] = append(h.who.groups, scout), append([]int{}, h.lacks...)
		}
	}
}

// scout tells whether it stands for its role, and for no user.
func (g *group) scout() bool { return g.Claims == nil }

// meet takes in what somebody of a role sees, if it tells about the role.
func (h *hearing) meet(g *group, s *sight) {
	if known := h.sightsOfRoles[g.Role]; g.scout() || known == nil && !s.failed() {
		h.sightsOfRoles[g.Role] = s
	}
}

// sightOf is what a group sees, of whom nobody has to be asked whether it sees any row.
func (h *hearing) sightOf(g *group) *sight {
	if n, asked := h.who.number[g]; asked {
		return &h.sights[n]
	}
	return h.sightsOfRoles[g.Role]
}

// hides tells whether it is certain that policies hide a row from a group, and that this is all there is to tell about it.
func (h *hearing) hides(g *group, row []wal.Value) bool { return !g.concerns(row) && h.plain(g.Role) }

// plain tells of a role that policies decide which rows it sees, and nothing else does.
func (h *hearing) plain(role string) bool {
	s := h.sightsOfRoles[role]
	return s != nil && s.RowSecurity && !s.failed() && s.Missing == "" && len(h.Key) > 0
}

// hearers calls do for each audience that may have to be told of a row with these values, each once.
func (h *hearing) hearers(row []wal.Value, do func(*audience)) {
	h.candidates(row, do)
	for role, audiences := range h.ties {
		if h.plain(role) {
			continue
		}
		for a := range audiences {
			if a.visited != h.visit {
				do(a)
			}
		}
	}
}
