package aim

import (
	"slices"
	"strings"
)

// plainTypes are the types of columns that are compared, written as text and put into lists without a way to fail, and
// without calling anything that users may have defined.
var plainTypes = []string{
	"bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "uuid", "date", "timestamp", "timestamptz", "time",
	"enum", "jsonb",
}

// constantTypes are those that a constant may be cast to: it was, when the policy was written.
var constantTypes = []string{
	"text", "character varying", "uuid", "boolean", "smallint", "integer", "bigint", "numeric", "real", "double precision", "date",
	"timestamp with time zone", "timestamp without time zone", "time without time zone", "interval", "jsonb",
}

// raises tells why an expression may raise an error, depending on the rows that it is evaluated for; empty if it cannot.
func (v *visit) raises(n *node, in *scope) string {
	if v.isSubject(n) || v.isTopic(n, in) {
		return ""
	}
	if f := v.function(n); f != nil {
		return f.raises
	}
	if why := v.alone(n, in); why != "" {
		return why
	}
	for _, kid := range n.kids {
		if why := v.raises(kid, in); why != "" {
			return why
		}
	}
	if n.query == nil {
		return ""
	}
	for _, s := range n.query.selects {
		inner := &scope{sources: s.from, outer: in}
		for _, part := range s.parts() {
			if why := v.raises(part, inner); why != "" {
				return why
			}
		}
	}
	return ""
}

// alone is about a node without what is below it.
func (v *visit) alone(n *node, in *scope) string {
	switch n.kind {
	case kColumn:
		if p, ok := v.find(n, in); !ok || !p.column.Plain || !slices.Contains(plainTypes, strings.TrimSuffix(p.column.Type, "[]")) {
			return "the type or collation of column " + n.text
		}
	case kCall:
		if isCall(n, "realtime", "valid_until", 1) || n.schema == "" && slices.Contains(quiet, n.text) || isCall(n, "", "current_setting", 2) && isSettled(n) || isSplit(n) {
			return ""
		}
		return callName(n) + "()"
	case kSubquery:
		return v.subqueryRaises(n, in)
	case kArray:
		if slices.ContainsFunc(n.kids, func(kid *node) bool { return !v.isSingle(kid, in) }) {
			return "an array of what may be arrays"
		}
	case kCast:
		if !v.castable(n, in) {
			return "a cast to " + n.text
		}
	case kOperator:
		if !v.operable(n, in) {
			return "the operator " + n.text
		}
	}
	return ""
}

// subqueryRaises is about what a subquery is used for.
func (v *visit) subqueryRaises(n *node, in *scope) string {
	op, quantified := strings.CutSuffix(strings.ReplaceAll(n.text, " all", " any"), " any")
	switch {
	case n.text == "exists", n.text == "in", quantified && isComparison(op):
		return ""
	case n.text == "scalar":
		// Several rows raise. Outside, all that matters is which rows pass; inside, it would be asked for every row.
		if hasTables(n) && (in != nil || v.root.Name != messages) {
			return "a subquery that may yield several rows"
		}
		return ""
	case n.text == "array", n.text == "list":
		for _, s := range n.query.selects {
			if len(s.outputs) == 1 && v.isSingle(s.outputs[0], &scope{sources: s.from, outer: in}) {
				continue
			}
			return "an array of what may be arrays"
		}
		return ""
	}
	return "the operator " + n.text
}

// isSingle tells whether a value is no array for certain.
func (v *visit) isSingle(n *node, in *scope) bool {
	switch n.kind {
	case kColumn:
		return !strings.HasSuffix(v.columnType(n, in), "[]")
	case kCast:
		return !strings.HasSuffix(n.text, "[]")
	case kString, kNumber:
		return true
	}
	return v.isText(n, in) || v.isSubject(n)
}

func isCall(n *node, schema, name string, arguments int) bool {
	return n.schema == schema && n.text == name && len(n.kids) == arguments
}

// isSettled: current_setting('…', true) of a constant.
func isSettled(n *node) bool {
	name := n.kids[0]
	if name.kind == kCast {
		name = name.kids[0]
	}
	return name.kind == kString && isSetting(n, name.text)
}

// isSplit: split_part() with a positive constant.
func isSplit(n *node) bool {
	return isCall(n, "", "split_part", 3) && n.kids[2].kind == kNumber && strings.Trim(n.kids[2].text, "0123456789") == "" && strings.Trim(n.kids[2].text, "0") != ""
}

func isConstant(n *node) bool { return n.kind == kString || n.kind == kNumber || n.kind == kWord }

func (v *visit) castable(n *node, in *scope) bool {
	of := n.kids[0]
	if n.schema != "" { // an enum, as v.value has made sure
		return of.kind == kString
	}
	base := strings.TrimSuffix(n.text, "[]")
	if isConstant(of) {
		return slices.Contains(constantTypes, base)
	}
	if v.isClaims(of) && (n.text == "jsonb" || n.text == "json") { // every decision has them
		return true
	}
	if of.kind == kArray { // ARRAY[…]::text[] of constants
		return !n.sized && slices.Contains(constantTypes, base) && !slices.ContainsFunc(of.kids, func(kid *node) bool { return !isConstant(bare(kid)) })
	}
	switch n.text {
	case "text":
		return !n.sized
	case "bigint", "integer", "numeric":
		c := v.columnType(of, in)
		return !n.sized && (c == "int2" || c == "int4" && n.text != "integer" || c == "int8" && n.text == "numeric")
	}
	return false
}

// bare is a constant without its type.
func bare(n *node) *node {
	if n.kind == kCast && n.schema == "" {
		return n.kids[0]
	}
	return n
}

func (v *visit) columnType(n *node, in *scope) string {
	if n.kind != kColumn {
		return ""
	}
	p, ok := v.find(n, in)
	if !ok {
		return ""
	}
	return p.column.Type
}

func (v *visit) operable(n *node, in *scope) bool {
	op := n.text
	for _, suffix := range []string{" any", " all", " some"} {
		op = strings.TrimSuffix(op, suffix)
	}
	switch {
	case op == "and", op == "or", op == "not", strings.HasPrefix(op, "is "), isComparison(op):
		return true
	case len(n.kids) != 2:
		return false
	case op == "||":
		return v.isText(n.kids[0], in) || v.isText(n.kids[1], in)
	case op == "->" || op == "->>":
		return isConstant(bare(n.kids[1]))
	case op == "~~" || op == "!~~":
		pattern := bare(n.kids[1])
		return op == n.text && pattern.kind == kString && !strings.Contains(pattern.text, `\`)
	}
	return false
}

// isText tells whether a value is text for certain, so that || puts texts together and nothing else.
func (v *visit) isText(n *node, in *scope) bool {
	switch {
	case n.kind == kCast:
		return n.schema == "" && n.text == "text"
	case n.kind == kColumn:
		c := v.columnType(n, in)
		return c == "text"
	case n.kind == kOperator && n.text == "||":
		return v.isText(n.kids[0], in) || v.isText(n.kids[1], in)
	}
	return v.isTopic(n, in)
}
