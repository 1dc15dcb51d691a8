package aim

import "slices"

// function is one that is known because its body is.
type function struct {
	subject bool   // it is the user's id
	claims  bool   // it is the claims
	raises  string // why it may raise
	body    *node
	returns string
}

// topicFunction is known by its name.
var topicFunction = Name{"realtime", "topic"}

// understand finds the functions that call only those that are known. One that calls itself never is.
func (r *reading) understand(functions []Function) {
	bodies := map[Name]*node{}
	returns := map[Name]string{}
	for _, f := range functions {
		returns[f.Name] = f.Returns
		if body, err := parseBody(f.Body); err == nil && f.Name != topicFunction {
			bodies[f.Name] = body
		}
	}
	v := &visit{reading: r, root: &Table{}}
	for again := true; again; {
		again = false
		for name, body := range bodies {
			if !v.isClean(body) {
				continue
			}
			r.functions[name] = &function{v.isSubject(body), v.isClaims(body), v.raises(body, nil), body, returns[name]}
			delete(bodies, name)
			again = true
		}
	}
}

// isClean tells whether a body is made of nothing but what is known.
func (v *visit) isClean(body *node) bool {
	clean := true
	walk(body, func(n *node) {
		switch n.kind {
		case kCall:
			clean = clean && v.known(n)
		case kColumn, kSubquery:
			clean = false
		case kCast:
			clean = clean && n.schema == ""
		}
	})
	return clean
}

func (v *visit) function(n *node) *function {
	if n.kind != kCall || len(n.kids) > 0 {
		return nil
	}
	return v.functions[Name{n.schema, n.text}]
}

// valueOf leaves out a SELECT around an expression without anything else.
func valueOf(n *node) *node {
	for n.kind == kSubquery && n.text == "scalar" && len(n.query.selects) == 1 {
		s := n.query.selects[0]
		if len(s.outputs) != 1 || !s.plain || len(s.from)+len(s.conditions) > 0 {
			return n
		}
		n = s.outputs[0]
	}
	return n
}

// isTopic tells whether a node is the topic that is being decided.
func (v *visit) isTopic(n *node, in *scope) bool {
	switch n = valueOf(n); n.kind {
	case kCall:
		return Name{n.schema, n.text} == topicFunction && len(n.kids) == 0
	case kColumn:
		p, ok := v.find(n, in)
		return ok && p.in == nil && v.root.Name == messages && p.column.Name == "topic"
	}
	return false
}

// isSubject tells whether a node is the user's id: the claim sub, as text or as uuid.
func (v *visit) isSubject(n *node) bool {
	switch n = valueOf(n); n.kind {
	case kCast:
		return n.schema == "" && !n.sized && (n.text == "text" || n.text == "uuid") && v.isSubject(n.kids[0])
	case kOperator:
		return n.text == "->>" && len(n.kids) == 2 && isText(n.kids[1], "sub") && v.isClaims(n.kids[0])
	case kCall:
		f := v.function(n)
		return f != nil && f.subject || isSetting(n, "request.jwt.claim.sub") || isOneOf(n, v.isSubject)
	}
	return false
}

// isClaims tells whether a node is all claims, as JSON or its text.
func (v *visit) isClaims(n *node) bool {
	switch n = valueOf(n); n.kind {
	case kCast:
		return n.schema == "" && !n.sized && slices.Contains([]string{"text", "json", "jsonb"}, n.text) && v.isClaims(n.kids[0])
	case kCall:
		f := v.function(n)
		// The server sets request.jwt.claims. An older name of it is never set by anybody.
		return f != nil && f.claims || isSetting(n, "request.jwt.claims") || isSetting(n, "request.jwt.claim") || isOneOf(n, v.isClaims)
	}
	return false
}

// isOneOf looks into NULLIF(…, ”) and COALESCE.
func isOneOf(n *node, is func(*node) bool) bool {
	if n.schema != "" {
		return false
	}
	switch {
	case n.text == "nullif" && len(n.kids) == 2 && isText(n.kids[1], ""):
		return is(n.kids[0])
	case n.text == "coalesce" && len(n.kids) > 0:
		return !slices.ContainsFunc(n.kids, func(kid *node) bool { return !is(kid) })
	}
	return false
}

func isSetting(n *node, name string) bool {
	return n.schema == "" && n.text == "current_setting" && len(n.kids) == 2 && isText(n.kids[0], name) && n.kids[1].kind == kWord && n.kids[1].text == "true"
}

// isText tells whether a node is this constant.
func isText(n *node, text string) bool {
	if n.kind == kCast && n.schema == "" && n.text == "text" && !n.sized {
		n = n.kids[0]
	}
	return n.kind == kString && n.text == text
}

// Functions of pg_catalog that read no table and change no setting. Those of the first list never raise an error, for
// arguments that do not; the others may.
var (
	quiet = []string{
		"coalesce", "nullif", "greatest", "least", "now", "lower", "upper", "length", "concat", "starts_with",
		"count", "min", "max", "bool_and", "bool_or", "every", "array_agg",
	}
	loud = []string{
		"split_part", "substr", "substring", "left", "right", "replace", "btrim", "ltrim", "rtrim", "trim", "translate", "strpos", "position",
		"regexp_replace", "regexp_match", "regexp_matches", "string_to_array", "array_to_string", "array_length", "cardinality", "array_position",
		"jsonb_array_length", "jsonb_extract_path_text", "json_extract_path_text", "jsonb_typeof", "json_typeof", "jsonb_exists",
		"date_trunc", "date_part", "age", "to_timestamp", "timezone", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday",
		"current_setting", "sum", "avg", "abs", "round", "floor", "ceil", "md5", "hashtext", "char_length", "octet_length", "initcap", "reverse", "format",
		"concat_ws", "like", "textlike", "textregexeq", "quote_literal", "quote_ident", "lpad", "rpad", "ascii", "chr", "encode", "decode",
	}
)

// known tells whether a function is known to read no table and change nothing.
func (v *visit) known(n *node) bool {
	return n.schema == "" && (slices.Contains(quiet, n.text) || slices.Contains(loud, n.text)) ||
		isCall(n, topicFunction.Schema, topicFunction.Name, 0) || isCall(n, "realtime", "valid_until", 1) || v.function(n) != nil
}

func callName(n *node) string {
	if n.schema == "" {
		return n.text
	}
	return n.schema + "." + n.text
}
