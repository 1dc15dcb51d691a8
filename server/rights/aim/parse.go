package aim

import "strings"

type kind uint8

const (
	kString   kind = iota // text
	kNumber               // text
	kWord                 // true, false, null, current_user, …: text
	kColumn               // schema: the alias, empty at the top level; text: the column
	kCall                 // schema, text: the function; kids: its arguments
	kOperator             // text; one kid or two
	kCast                 // schema, text: the type; sized: with a modifier
	kCase
	kRow
	kArray
	kSubquery // text: exists, scalar, array, list (= ANY of such an array), in, or the operator before any; kids: what stands before it
)

// node is a part of an expression.
type node struct {
	kind         kind
	schema, text string
	sized        bool
	kids         []*node
	query        *query
}

// query is what stands in a subquery: selects, between which there is UNION.
type query struct{ selects []*selection }

// selection is one SELECT with its FROM and WHERE. Rows that do not pass all of the conditions are not seen by the rest of
// it, nor by anything around it; unless there is an outer join.
type selection struct {
	outputs    []*node
	from       []source
	conditions []*node // WHERE, and ON of inner joins
	rest       []*node // ON of outer joins, GROUP BY, HAVING, ORDER BY, LIMIT
	outer      bool    // an outer join
	limited    bool    // LIMIT or OFFSET
	plain      bool    // nothing but outputs, FROM and WHERE
}

// source is a table in a FROM.
type source struct {
	table Name
	alias string
}

// parser is a parser of the part of SQL that is understood, as Postgres prints it. Everything else is an error.
type parser struct {
	tokens []token
	depth  int
}

// maxDepth bounds recursion; Postgres prints a pair of parentheses for each level.
const maxDepth = 200

// parse reads a whole expression.
func parse(text string) (*node, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	return p.all(p.expression)
}

// parseBody reads the body of a function: RETURN and an expression, or SELECT and one, also between BEGIN ATOMIC and END.
func parseBody(text string) (*node, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	return p.all(func() *node {
		block := p.words("begin", "atomic")
		p.want(p.word("return") || p.word("select"))
		n := p.output()
		p.mark(";")
		p.want(!block || p.word("end"))
		return n
	})
}

// all runs a rule to the end of the text.
func (p *parser) all(rule func() *node) (n *node, err error) {
	defer func() {
		if r := recover(); r != nil {
			if r != any(errText) {
				panic(r)
			}
			n, err = nil, errText
		}
	}()
	n = rule()
	if p.tokens[0].kind != tEnd {
		return nil, errText
	}
	return n, nil
}

// fail leaves the parser; all() turns it into an error.
func (p *parser) fail() { panic(errText) }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind == tEnd {
		p.fail()
	}
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) at(ahead int, kind tokenKind, text string) bool {
	return ahead < len(p.tokens) && p.tokens[ahead] == token{kind, text}
}

func (p *parser) take(kind tokenKind, text string) bool {
	if !p.at(0, kind, text) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) word(w string) bool     { return p.take(tWord, w) }
func (p *parser) mark(m string) bool     { return p.take(tMark, m) }
func (p *parser) operator(o string) bool { return p.take(tOperator, o) }

// words takes all of these or none.
func (p *parser) words(all ...string) bool {
	for i, w := range all {
		if !p.at(i, tWord, w) {
			return false
		}
	}
	p.tokens = p.tokens[len(all):]
	return true
}

func (p *parser) want(taken bool) {
	if !taken {
		p.fail()
	}
}

// deeper guards every recursion.
func (p *parser) deeper() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail()
	}
	return func() { p.depth-- }
}

func (p *parser) expression() *node {
	defer p.deeper()()
	return p.chain("or", func() *node { return p.chain("and", p.not) })
}

// chain reads operands of AND or OR into one node.
func (p *parser) chain(w string, operand func() *node) *node {
	first := operand()
	if !p.at(0, tWord, w) {
		return first
	}
	n := &node{kind: kOperator, text: w, kids: []*node{first}}
	for p.word(w) {
		n.kids = append(n.kids, operand())
	}
	return n
}

func (p *parser) not() *node {
	if p.word("not") {
		defer p.deeper()()
		return &node{kind: kOperator, text: "not", kids: []*node{p.not()}}
	}
	return p.is()
}

func (p *parser) is() *node {
	n := p.comparison()
	for p.word("is") {
		is := "is "
		if p.word("not") {
			is = "is not "
		}
		switch {
		case p.words("distinct", "from"):
			n = &node{kind: kOperator, text: is + "distinct from", kids: []*node{n, p.comparison()}}
		case p.at(0, tWord, "null"), p.at(0, tWord, "true"), p.at(0, tWord, "false"), p.at(0, tWord, "unknown"):
			n = &node{kind: kOperator, text: is + p.next().text, kids: []*node{n}}
		default:
			p.fail()
		}
	}
	return n
}

var comparisons = []string{"=", "<>", "<", ">", "<=", ">="}

func (p *parser) comparison() *node {
	n := p.in()
	for _, op := range comparisons {
		if p.operator(op) {
			return p.operation(op, n, p.in)
		}
	}
	return n
}

func (p *parser) in() *node {
	n := p.other()
	if !p.word("in") {
		return n
	}
	p.want(p.mark("("))
	sub := &node{kind: kSubquery, text: "in", kids: []*node{n}, query: p.query()}
	p.want(p.mark(")"))
	return sub
}

// other are all operators between comparison and arithmetic, of one rank.
func (p *parser) other() *node {
	n := p.arithmetic()
	for t := p.tokens[0]; t.kind == tOperator && !isComparison(t.text); t = p.tokens[0] {
		p.next()
		n = p.operation(t.text, n, p.arithmetic)
	}
	return n
}

func isComparison(op string) bool { return strings.Contains(" = <> < > <= >= ", " "+op+" ") }

// arithmetic does not tell the ranks of + and * apart: none of them is ever allowed where it would matter.
func (p *parser) arithmetic() *node {
	n := p.unary()
	for t := p.tokens[0]; t.kind == tOperator && strings.Contains("+-*/%", t.text); t = p.tokens[0] {
		p.next()
		n = p.operation(t.text, n, p.unary)
	}
	return n
}

// operation reads the right side of an operator, which may be ANY or ALL of an array or a subquery.
func (p *parser) operation(op string, left *node, right func() *node) *node {
	for _, w := range []string{"any", "all", "some"} {
		if !p.at(0, tWord, w) || !p.at(1, tMark, "(") {
			continue
		}
		p.tokens = p.tokens[2:]
		if p.at(0, tWord, "select") {
			n := &node{kind: kSubquery, text: op + " " + w, kids: []*node{left}, query: p.query()}
			p.want(p.mark(")"))
			return n
		}
		n := &node{kind: kOperator, text: op + " " + w, kids: []*node{left, p.expression()}}
		p.want(p.mark(")"))
		return n
	}
	return &node{kind: kOperator, text: op, kids: []*node{left, right()}}
}

func (p *parser) unary() *node {
	if p.operator("-") {
		defer p.deeper()()
		return &node{kind: kOperator, text: "-", kids: []*node{p.unary()}}
	}
	n := p.primary()
	for p.mark("::") {
		n = p.cast(n)
	}
	return n
}

// cast reads the name of a type.
func (p *parser) cast(of *node) *node {
	n := &node{kind: kCast, kids: []*node{of}}
	n.text = p.name()
	switch {
	case p.mark("."):
		n.schema, n.text = n.text, p.name()
	case n.text == "character" && p.word("varying"):
		n.text = "character varying"
	case n.text == "double" && p.word("precision"):
		n.text = "double precision"
	}
	if p.mark("(") {
		n.sized = true
		for !p.mark(")") {
			p.next()
		}
	}
	for _, zone := range []string{"with", "without"} {
		if p.words(zone, "time", "zone") {
			n.text += " " + zone + " time zone"
		}
	}
	for p.mark("[") {
		p.want(p.mark("]"))
		n.text += "[]"
	}
	return n
}
