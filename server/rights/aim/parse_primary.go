package aim

import "slices"

// reserved words are neither columns nor tables nor functions, as long as they are not quoted.
var reserved = []string{
	"all", "and", "any", "array", "as", "asc", "both", "by", "case", "cast", "collate", "cross", "desc", "distinct", "else", "end", "except",
	"exists", "fetch", "filter", "for", "from", "full", "group", "grouping", "having", "in", "inner", "intersect", "into", "is", "isnull",
	"join", "lateral", "leading", "left", "like", "limit", "natural", "not", "notnull", "offset", "on", "only", "or", "order", "outer", "over",
	"right", "row", "rows", "select", "some", "table", "tablesample", "then", "trailing", "union", "using", "values", "variadic", "when",
	"where", "window", "with", "within",
}

// constants are words that stand for a value by themselves.
var constants = []string{
	"true", "false", "null", "current_user", "session_user", "current_role", "user", "current_date", "current_timestamp", "localtimestamp",
}

// name reads an identifier.
func (p *parser) name() string {
	t := p.next()
	if t.kind != tQuoted && (t.kind != tWord || slices.Contains(reserved, t.text) || slices.Contains(constants, t.text)) {
		p.fail()
	}
	return t.text
}

func (p *parser) primary() *node {
	defer p.deeper()()
	switch t := p.tokens[0]; t.kind {
	case tString:
		p.next()
		return &node{kind: kString, text: t.text}
	case tNumber:
		p.next()
		return &node{kind: kNumber, text: t.text}
	case tMark:
		p.want(p.mark("("))
		return p.parenthesis()
	case tWord:
		if slices.Contains(constants, t.text) && !p.at(1, tMark, "(") && !p.at(1, tMark, ".") {
			p.next()
			return &node{kind: kWord, text: t.text}
		}
	}
	switch {
	case p.word("exists"):
		p.want(p.mark("("))
		return p.subquery("exists")
	case p.word("case"):
		return p.cases()
	case p.word("array"):
		return p.array()
	case p.word("row"):
		p.want(p.mark("("))
		n := &node{kind: kRow}
		if !p.mark(")") {
			n.kids = p.list(p.expression)
			p.want(p.mark(")"))
		}
		return n
	}
	return p.reference()
}

func (p *parser) parenthesis() *node {
	if p.at(0, tWord, "select") {
		return p.subquery("scalar")
	}
	all := p.list(p.expression)
	p.want(p.mark(")"))
	if len(all) == 1 {
		return all[0]
	}
	return &node{kind: kRow, kids: all}
}

func (p *parser) subquery(how string) *node {
	n := &node{kind: kSubquery, text: how, query: p.query()}
	p.want(p.mark(")"))
	return n
}

func (p *parser) array() *node {
	if p.mark("(") {
		return p.subquery("array")
	}
	p.want(p.mark("["))
	n := &node{kind: kArray}
	if !p.mark("]") {
		n.kids = p.list(p.expression)
		p.want(p.mark("]"))
	}
	return n
}

func (p *parser) cases() *node {
	n := &node{kind: kCase}
	if !p.at(0, tWord, "when") {
		n.kids = append(n.kids, p.expression())
	}
	for p.word("when") {
		n.kids = append(n.kids, p.expression())
		p.want(p.word("then"))
		n.kids = append(n.kids, p.expression())
	}
	if p.word("else") {
		n.kids = append(n.kids, p.expression())
	}
	p.want(p.word("end"))
	return n
}

// reference reads a column or a call.
func (p *parser) reference() *node {
	n := &node{kind: kColumn, text: p.name()}
	if p.mark(".") {
		n.schema, n.text = n.text, p.name()
	}
	if !p.mark("(") {
		return n
	}
	n.kind = kCall
	switch {
	case p.mark(")"):
		return n
	case p.operator("*"):
	default:
		p.word("distinct")
		n.kids = p.list(p.expression)
	}
	p.want(p.mark(")"))
	return n
}

func (p *parser) list(item func() *node) []*node {
	all := []*node{item()}
	for p.mark(",") {
		all = append(all, item())
	}
	return all
}

func (p *parser) query() *query {
	defer p.deeper()()
	q := &query{selects: []*selection{p.selection()}}
	for p.word("union") {
		p.word("all")
		q.selects = append(q.selects, p.selection())
	}
	if len(q.selects) > 1 {
		for _, s := range q.selects {
			s.plain = false
		}
	}
	return q
}

func (p *parser) selection() *selection {
	p.want(p.word("select"))
	s := &selection{plain: true}
	if p.word("distinct") {
		p.want(!p.at(0, tWord, "on"))
		s.plain = false
	}
	if !p.at(0, tWord, "from") && !p.at(0, tMark, ")") {
		s.outputs = p.list(p.output)
	}
	if p.word("from") {
		p.join(s)
		for p.mark(",") {
			p.join(s)
		}
	}
	if p.word("where") {
		s.conditions = append(s.conditions, p.expression())
	}
	rest := len(s.rest)
	if p.words("group", "by") {
		s.rest = append(s.rest, p.list(p.expression)...)
	}
	if p.word("having") {
		s.rest = append(s.rest, p.expression())
	}
	if p.words("order", "by") {
		s.rest = append(s.rest, p.list(p.ordering)...)
	}
	if p.word("limit") || p.word("offset") {
		s.limited = true
		s.rest = append(s.rest, p.expression())
	}
	if len(s.rest) > rest {
		s.plain = false
	}
	return s
}

func (p *parser) output() *node {
	n := p.expression()
	if p.word("as") {
		t := p.next() // any word may follow AS
		p.want(t.kind == tWord || t.kind == tQuoted)
	}
	return n
}

func (p *parser) ordering() *node {
	n := p.expression()
	if !p.word("desc") {
		p.word("asc")
	}
	if p.word("nulls") && !p.word("first") {
		p.want(p.word("last"))
	}
	return n
}

// join reads one item of FROM: a table, or tables and joins.
func (p *parser) join(s *selection) {
	defer p.deeper()()
	p.joined(s)
	for {
		switch {
		case p.words("cross", "join"):
			p.joined(s)
		case p.word("join"), p.words("inner", "join"):
			p.joined(s)
			p.want(p.word("on"))
			s.conditions = append(s.conditions, p.expression())
		case p.word("left"), p.word("right"), p.word("full"):
			p.word("outer")
			p.want(p.word("join"))
			p.joined(s)
			p.want(p.word("on"))
			s.rest, s.outer = append(s.rest, p.expression()), true
		default:
			return
		}
	}
}

func (p *parser) joined(s *selection) {
	if p.mark("(") {
		p.join(s)
		p.want(p.mark(")"))
		return
	}
	f := source{table: Name{Schema: p.name()}}
	p.want(p.mark("."))
	f.table.Name = p.name()
	f.alias = f.table.Name
	if t := p.tokens[0]; t.kind == tQuoted || t.kind == tWord && !slices.Contains(reserved, t.text) {
		f.alias = p.name()
	}
	p.want(!p.at(0, tMark, "(")) // renamed columns, or a function
	s.from = append(s.from, f)
}
