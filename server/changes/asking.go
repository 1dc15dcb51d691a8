package changes

import (
	"cmp"
	"slices"
)

// asking is who is asked in one question, and about which of its rows.
type asking struct {
	groups []*group
	number map[*group]int   // in groups
	about  map[*group][]int // places of the only keys that concern a group; nil: all
}

func newAsking() asking { return asking{number: map[*group]int{}, about: map[*group][]int{}} }

// include has a group asked about a row, at the place of its key. Whoever is not tied is asked about all.
func (a *asking) include(g *group, place int) {
	if _, known := a.number[g]; !known {
		a.number[g] = len(a.groups)
		a.groups = append(a.groups, g)
	}
	if !g.tied {
		return
	}
	if about := a.about[g]; len(about) == 0 || about[len(about)-1] != place {
		a.about[g] = append(about, place)
	}
}

// sort has those asked about last whose policies took too long before: whoever comes behind them may not be. Scouts are the first of
// their role.
func (a *asking) sort() {
	first := func(one, other bool) int {
		switch {
		case one == other:
			return 0
		case one:
			return -1
		}
		return 1
	}
	slices.SortFunc(a.groups, func(one, other *group) int {
		return cmp.Or(first(!one.slow, !other.slow), cmp.Compare(one.Role, other.Role), first(one.scout(), other.scout()))
	})
	for i, g := range a.groups {
		a.number[g] = i
	}
}
