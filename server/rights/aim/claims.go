package aim

import (
	"fmt"
	"slices"
	"strings"
)

// Claims are those that policies can tell users apart by, beside their role.
type Claims struct {
	All    bool     // any claim may make a difference
	Names  []string // of those at the top level that may; sorted
	Reason string   // why All
}

// ReadClaims tells which claims have an influence on what the policies in these facts say; as for Propose, what is not
// understood may read all of them. Two users of one role whose named claims are equal are told the same, about any row and at
// any one time.
//
//   - Claims are reached by settings only. Of these, the server puts on request.jwt.claims, of which what is taken out by ->,
//     ->> or #>> is one claim, and request.jwt.claim.sub and .role, which are made of it; all others are the same for all.
//   - Every expression is read, with those of all tables in it, and functions whose bodies are known. Types and operators of
//     users are written with their schema, and not understood; what is called without being written, as an implicit cast does,
//     leaves a dependency.
func ReadClaims(f Facts) Claims {
	r := newReading(f)
	c := &claimReader{visit: &visit{reading: r, root: &Table{}}}
	for i, called := range f.Called {
		if slices.Contains(f.Called[:i], called) { // by its name alone it is not told which is meant
			r.give("calls two functions named " + called.String() + "()")
		}
		if r.functions[called] == nil && !slices.Contains([]Name{topicFunction, {"realtime", "valid_until"}}, called) {
			r.give("calls " + called.String() + "(), which is not understood")
		}
	}
	for _, p := range f.Policies {
		for _, text := range p.Expressions {
			n, err := parse(text)
			if err != nil {
				r.give(fmt.Sprintf("policy %q on %s: %v", p.Name, p.Table, err))
				continue
			}
			c.read(n)
		}
	}
	if r.unknown != "" {
		return Claims{All: true, Reason: r.unknown}
	}
	slices.Sort(c.names)
	return Claims{Names: slices.Compact(c.names)}
}

// claimReader reads one expression after the other.
type claimReader struct {
	*visit
	names []string
	body  bool // it is a function's, of which names are not resolved
}

// listing are functions that give several rows for one, and read nothing.
var listing = []string{"unnest", "jsonb_array_elements", "jsonb_array_elements_text", "json_array_elements", "json_array_elements_text", "jsonb_object_keys", "json_object_keys"}

func (c *claimReader) read(n *node) {
	if name, ok := c.claim(n); ok {
		c.names = append(c.names, name)
		return
	}
	if c.isClaims(n) {
		c.give("uses the claims as a whole")
		return
	}
	switch n.kind {
	case kCall:
		c.call(n)
	case kCast:
		base := strings.TrimSuffix(n.text, "[]")
		if n.schema != "" && !slices.Contains(c.enums, Name{n.schema, n.text}) || c.body && !slices.Contains(constantTypes, base) && base != "json" {
			c.give("uses the type " + n.text + ", which is not understood")
		}
	case kOperator:
		if c.body && !isPlainOperator(n.text) {
			c.give("uses the operator " + n.text + ", which is not understood")
		}
	}
	for _, kid := range n.kids {
		c.read(kid)
	}
	if n.query == nil {
		return
	}
	for _, s := range n.query.selects {
		for _, f := range s.from {
			if t := c.tables[f.table]; t == nil || t.Kind != "r" && t.Kind != "p" {
				c.give("reads " + f.table.String() + ", which is not a table that is known")
			}
		}
		for _, part := range s.parts() {
			c.read(part)
		}
	}
}

// claim tells which claim a node is, or is made of alone.
func (c *claimReader) claim(n *node) (name string, ok bool) {
	switch {
	case n.kind == kOperator && len(n.kids) == 2 && c.isClaims(n.kids[0]):
		key := bare(n.kids[1])
		if key.kind != kString {
			return "", false
		}
		switch n.text {
		case "->", "->>":
			return key.text, true
		case "#>", "#>>": // '{a,b}', of which nothing has to be quoted
			name, _, _ = strings.Cut(strings.Trim(key.text, "{}"), ",")
			return name, name != "" && !strings.ContainsAny(key.text, "\"\\ ") && strings.HasPrefix(key.text, "{"+name)
		}
	case n.kind == kCall && n.schema == "" && n.text == "current_setting" && len(n.kids) > 0:
		setting := bare(n.kids[0])
		return "sub", setting.kind == kString && strings.EqualFold(setting.text, "request.jwt.claim.sub")
	}
	return "", false
}

func (c *claimReader) call(n *node) {
	switch f := c.function(n); {
	case f != nil:
		inner := &claimReader{visit: c.visit, body: true}
		inner.read(f.body) // which ends: no function that is known calls itself
		c.names = append(c.names, inner.names...)
	case n.schema == "" && n.text == "current_setting":
		setting := &node{}
		if len(n.kids) > 0 {
			setting = bare(n.kids[0])
		}
		if setting.kind != kString || setting.text == "" || strings.EqualFold(setting.text, "request.jwt.claims") {
			c.give("reads settings by a name that is not known, or the claims as a whole")
		}
	case n.schema == "" && slices.Contains(listing, n.text):
	case !c.known(n):
		c.give("calls " + callName(n) + "(), which is not understood")
	}
}

// isPlainOperator is about those that are built in, and that one would have to go out of one's way to define again.
func isPlainOperator(op string) bool {
	return isComparison(op) || strings.HasPrefix(op, "is ") || slices.Contains([]string{"and", "or", "not", "||", "->", "->>", "#>", "#>>"}, op)
}
