package aim

import "slices"

// visit is the reading of one expression.
type visit struct {
	*reading
	root    *Table // whose row the policy is about
	unknown string
}

// scope is the tables that an expression sees, from the inside outwards.
type scope struct {
	sources []source
	outer   *scope
}

func (v *visit) fail(why string) {
	if v.unknown == "" {
		v.unknown = why
	}
}

// place is one table in one FROM; column finds out which one a reference is to.
type place struct {
	in     *scope
	index  int
	table  *Table
	column *Column
}

// find resolves a column; in is nil for the policy's own row. ok is false when it is not known.
func (v *visit) find(n *node, in *scope) (p place, ok bool) {
	if n.schema == "" { // Postgres writes the table to every column inside a subquery, and to none outside
		if in != nil {
			return p, false
		}
		p = place{table: v.root, column: v.root.column(n.text)}
		return p, p.column != nil
	}
	for ; in != nil; in = in.outer {
		for i, s := range in.sources {
			if s.alias != n.schema {
				continue
			}
			p = place{in: in, index: i, table: v.tables[s.table]}
			if p.table != nil {
				p.column = p.table.column(n.text)
			}
			return p, p.column != nil
		}
	}
	if n.schema != v.root.Name.Name {
		return p, false
	}
	p = place{table: v.root, column: v.root.column(n.text)}
	return p, p.column != nil
}

// value goes through an expression. lax: it is at a place where false and null mean the same.
func (v *visit) value(n *node, in *scope, lax bool) {
	switch n.kind {
	case kColumn:
		p, ok := v.find(n, in)
		if !ok {
			v.fail("names a column that is not known")
			return
		}
		v.seen[p.table.Name].column(p.column.Name)
	case kCall:
		if !v.known(n) {
			v.fail("calls " + callName(n) + "(), which is not understood")
		}
	case kCast:
		if n.schema != "" && !slices.Contains(v.enums, Name{n.schema, n.text}) {
			v.fail("uses the type " + n.schema + "." + n.text + ", which is not understood")
		}
	case kSubquery:
		v.query(n, in, lax)
	case kOperator:
		lax = lax && (n.text == "and" || n.text == "or")
		if right := n.kids[len(n.kids)-1]; n.text == "= any" && right.kind == kSubquery && right.text == "array" {
			right.text = "list"
		}
	}
	for _, kid := range n.kids {
		v.value(kid, in, lax && n.kind == kOperator)
	}
}

// query goes through a subquery. For each table in it, it notes what all rows are compared with.
func (v *visit) query(n *node, in *scope, lax bool) {
	outermost := in == nil
	for _, s := range n.query.selects {
		inner := &scope{sources: s.from, outer: in}
		var conditions []*node
		for _, c := range s.conditions {
			conditions = conjuncts(conditions, c)
			v.value(c, inner, true)
		}
		for _, part := range slices.Concat(s.outputs, s.rest) {
			v.value(part, inner, false)
		}
		for i, f := range s.from {
			t := v.tables[f.table]
			switch {
			case t == nil || t.Kind != "r" && t.Kind != "p":
				v.fail("reads " + f.table.String() + ", which is not a table that is known")
				return
			case t.Name == messages:
				v.fail("reads " + messages.String() + " itself")
				return
			case slices.ContainsFunc(s.from[:i], func(other source) bool { return other.alias == f.alias }):
				v.fail("names two tables alike")
				return
			case s.outer:
				v.seen[t.Name].refuse("it is in an outer join")
			}
			at := place{in: inner, index: i, table: t}
			subjects, topics := v.filters(conditions, at, inner)
			if n.text == "in" && lax && s.plain && len(n.query.selects) == 1 && len(s.outputs) == 1 && len(n.kids) == 1 {
				// The left side belongs to the query around this one.
				if v.isSubject(n.kids[0]) {
					subjects = append(subjects, v.subjectColumn(s.outputs[0], at, inner)...)
				}
				if v.isTopic(n.kids[0], in) {
					topics = append(topics, v.template(s.outputs[0], at, inner)...)
				}
			}
			v.seen[t.Name].meet(subjects, topics)
		}
	}
	if !outermost || v.unknown != "" {
		return
	}
	why, ordered := v.raises(n, in), isOrdered(n)
	eachSelection(n, func(_ *node, s *selection) {
		for _, f := range s.from {
			u := v.seen[f.table]
			u.ordered = u.ordered || ordered || why != "" // EXISTS ends with the first row: what lies behind does not raise
			if why != "" {
				u.refuse("a policy may raise an error while it reads it: " + why)
			}
		}
	})
}

// isOrdered tells whether the order of rows may make a difference to what a subquery yields.
func isOrdered(n *node) bool {
	ordered := false
	walk(n, func(n *node) {
		ordered = ordered || n.text == "array" && n.kind == kSubquery || isCall(n, "", "array_agg", 1)
	})
	eachSelection(n, func(n *node, s *selection) {
		ordered = ordered || s.limited && (n.text != "exists" || len(n.query.selects) > 1)
	})
	return ordered
}

// conjuncts appends what is joined by AND.
func conjuncts(all []*node, n *node) []*node {
	if n.kind != kOperator || n.text != "and" {
		return append(all, n)
	}
	for _, kid := range n.kids {
		all = conjuncts(all, kid)
	}
	return all
}

// filters are the columns of a table that conditions compare with the user's id, and the templates that they compare with
// the topic.
func (v *visit) filters(conditions []*node, at place, in *scope) (subjects, topics []string) {
	for _, c := range conditions {
		if c.kind != kOperator || c.text != "=" {
			continue
		}
		for i, side := range c.kids {
			other := c.kids[1-i]
			if v.isSubject(other) {
				subjects = append(subjects, v.subjectColumn(side, at, in)...)
			}
			if v.isTopic(other, in) {
				topics = append(topics, v.template(side, at, in)...)
			}
		}
	}
	return subjects, topics
}

// own returns a column of this very table in this very FROM.
func (v *visit) own(n *node, at place, in *scope) *Column {
	if n.kind != kColumn {
		return nil
	}
	p, ok := v.find(n, in)
	if !ok || p.in != at.in || p.index != at.index || !p.column.Plain {
		return nil
	}
	return p.column
}

// subjectColumn returns the name of a column that may hold a user's id, if that is what a node is.
func (v *visit) subjectColumn(n *node, at place, in *scope) []string {
	if n.kind == kCast && n.schema == "" && n.text == "text" && !n.sized {
		n = n.kids[0]
	}
	if c := v.own(n, at, in); c != nil && slices.Contains([]string{"uuid", "text", "varchar"}, c.Type) {
		return []string{c.Name}
	}
	return nil
}

// template returns what a node makes of columns of this table, if that is all it is made of.
func (v *visit) template(n *node, at place, in *scope) []string {
	text, columns, ok := v.pieces(n, at, in)
	if !ok || columns == 0 {
		return nil
	}
	return []string{text}
}

func (v *visit) pieces(n *node, at place, in *scope) (text string, columns int, ok bool) {
	switch {
	case n.kind == kOperator && n.text == "||" && len(n.kids) == 2:
		left, l, ok := v.pieces(n.kids[0], at, in)
		if !ok {
			return "", 0, false
		}
		right, r, ok := v.pieces(n.kids[1], at, in)
		return left + right, l + r, ok
	case n.kind == kCast && n.schema == "" && n.text == "text" && !n.sized:
		return v.pieces(n.kids[0], at, in)
	case n.kind == kString:
		return n.text, 0, !braces(n.text)
	}
	c := v.own(n, at, in)
	if c == nil || !slices.Contains([]string{"uuid", "text", "varchar", "int2", "int4", "int8"}, c.Type) || braces(c.Name) {
		return "", 0, false
	}
	return "{" + c.Name + "}", 1, true
}
