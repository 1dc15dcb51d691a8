package aim

import "slices"

// Tie is something without which no policy shows a row to a user: a column of it that equals what is made of his claims.
type Tie struct {
	Column string
	Is     *Made
}

// Ties are read out of the policies of one table, to tell which rows cannot concern a user without asking about them.
//
// A tie is a wrong answer away from a change that is lost in silence. So there is one only where this can be shown: whatever else is
// in the policies, and in the row, for a user whose claims make something else than the column holds they say false, null or an error.
//
//   - One permissive policy that applies has to be true, and every restrictive one. So there are ties where all permissive policies
//     have some, or a restrictive one has; and of a policy, where its expression is an equality, an AND of which one part has ties, or
//     an OR of which all parts have.
//   - The equality is the one of uuid, of integers, or of texts: two types of which Postgres has an = of its own, so that nobody else's
//     is meant. Others are written with their schema, and not understood. (That the column's collation is deterministic is for those to
//     make sure who compare.)
//   - What is made of claims is worked out from the claims as they were put on, through functions whose bodies are known. What could
//     put on others (set_config, functions that are not known) is not understood, and then there are no ties at all.
//   - Bodies of functions that are kept as text are read as if nobody had put functions of his own before those of pg_catalog, as by
//     ReadClaims.
//   - A claim of which it is not plain what Postgres makes of it may be equal to anything.
type Ties struct {
	policies []tiedPolicy
	known    bool
}

type tiedPolicy struct {
	restrictive bool
	roles       []string // of those that were asked about, whom it applies to
	ties        []Tie
	tied        bool // a row without all of the ties is hidden by it
}

// ReadTies reads the policies of the facts' root.
func ReadTies(f Facts) Ties {
	if f.Root == nil || ReadClaims(f).All {
		return Ties{}
	}
	r := newReading(f)
	root := r.tables[*f.Root]
	if root == nil {
		return Ties{}
	}
	v := &visit{reading: r, root: root}
	t := Ties{known: true}
	for _, p := range f.Policies {
		if p.Table != *f.Root {
			continue
		}
		made := tiedPolicy{restrictive: p.Restrictive, roles: p.AppliesTo}
		if len(p.Expressions) == 1 {
			if n, err := parse(p.Expressions[0]); err == nil {
				made.ties, made.tied = v.ties(n)
			}
		}
		t.policies = append(t.policies, made)
	}
	return t
}

// Of tells for a role that was asked about: a row to which none of the ties applies is hidden from its users. Without ties, every row is.
func (t Ties) Of(role string) (ties []Tie, known bool) {
	if !t.known {
		return nil, false
	}
	known = true
	var narrow *tiedPolicy
	for i := range t.policies {
		p := &t.policies[i]
		switch {
		case !slices.Contains(p.roles, role):
		case !p.restrictive:
			ties, known = append(ties, p.ties...), known && p.tied
		case p.tied && (narrow == nil || len(p.ties) < len(narrow.ties)):
			narrow = p
		}
	}
	if narrow != nil && (!known || len(narrow.ties) < len(ties)) {
		return narrow.ties, true
	}
	return ties, known
}

// ties finds what must be so for a condition to be true: any of them.
func (v *visit) ties(n *node) (ties []Tie, tied bool) {
	switch {
	case n.kind == kWord && n.text == "false":
		return nil, true
	case n.kind != kOperator:
		return nil, false
	case n.text == "and":
		for _, kid := range n.kids {
			if of, ok := v.ties(kid); ok && (!tied || len(of) < len(ties)) {
				ties, tied = of, true
			}
		}
		return ties, tied
	case n.text == "or":
		for _, kid := range n.kids {
			of, ok := v.ties(kid)
			if !ok {
				return nil, false
			}
			ties = append(ties, of...)
		}
		return ties, true
	case n.text == "=" && len(n.kids) == 2:
		for i, side := range n.kids {
			if tie, ok := v.tie(side, n.kids[1-i]); ok {
				return []Tie{tie}, true
			}
		}
	}
	return nil, false
}

// Families of types among which Postgres has = of its own.
const (
	familyText = "text"
	familyUUID = "uuid"
	familyInt  = "integer"
)

// tie reads an equality of a column and claims.
func (v *visit) tie(column, claims *node) (Tie, bool) {
	c, family := v.tiedColumn(column)
	if c == nil {
		return Tie{}, false
	}
	is := v.made(claims)
	if is == nil || is.family() != family {
		return Tie{}, false
	}
	return Tie{c.Name, is}, true
}

// tiedColumn is a column of the row itself, and what it is compared as. Its text as Postgres prints it stands for its value either way.
func (v *visit) tiedColumn(n *node) (c *Column, family string) {
	casts := 0
	cast := ""
	for n.kind == kCast && n.schema == "" && !n.sized {
		casts, cast, n = casts+1, n.text, n.kids[0]
	}
	if n.kind != kColumn || n.schema != "" || casts > 1 {
		return nil, ""
	}
	if c = v.root.column(n.text); c == nil {
		return nil, ""
	}
	switch c.Type {
	case "text", "varchar":
		family = familyText
	case "uuid":
		family = familyUUID
	case "int2", "int4", "int8":
		family = familyInt
	default:
		return nil, ""
	}
	switch {
	case cast == "":
	case cast == "text":
		family = familyText
	case family == familyInt && (cast == "integer" && c.Type == "int2" || cast == "bigint"):
	default:
		return nil, ""
	}
	return c, family
}
