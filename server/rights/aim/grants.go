package aim

// OnlyGrants tells whether rows of the tables that policies read can only give rights: then a row that goes takes some away, and gives
// none. Into functions nobody looks.
//
// A subquery that a condition needs to find something (EXISTS, IN, = ANY, an equality with a column of it) finds less where there is
// less; AND and OR of such conditions are like them. Under anything else (NOT, an aggregate, an outer join) it may be the other way
// round.
func OnlyGrants(f Facts) bool {
	for _, p := range f.Policies {
		for _, text := range p.Expressions {
			n, err := parse(text)
			if err != nil || !onlyGrants(n) {
				return false
			}
		}
	}
	return true
}

func onlyGrants(n *node) bool {
	if !hasTables(n) {
		return true
	}
	switch {
	case n.kind == kOperator && (n.text == "and" || n.text == "or"):
		for _, kid := range n.kids {
			if !onlyGrants(kid) {
				return false
			}
		}
		return true
	case n.kind == kOperator && (n.text == "=" || n.text == "= any") && len(n.kids) == 2:
		return finds(n.kids[0]) && finds(n.kids[1])
	case n.kind == kSubquery && (n.text == "exists" || n.text == "in" || n.text == "= any"):
		return finds(n)
	}
	return false
}

// finds tells of a subquery whether it finds the less the less there is; of what reads no table, that it does not matter.
func finds(n *node) bool {
	if !hasTables(n) {
		return true
	}
	if n.kind != kSubquery {
		return false
	}
	for _, kid := range n.kids {
		if hasTables(kid) {
			return false
		}
	}
	for _, s := range n.query.selects {
		if !s.plain || s.outer || s.limited {
			return false
		}
		for _, out := range s.outputs {
			for out.kind == kCast {
				out = out.kids[0]
			}
			if n.text != "exists" && out.kind != kColumn {
				return false
			}
		}
		for _, c := range s.conditions {
			if !onlyGrants(c) {
				return false
			}
		}
	}
	return true
}
