// Package aim finds out, from the text of policies, whom a change of a table concerns: a subject and a topic for
// realtime.watch(), so that not everyone has to be asked again.
//
// # Why it may be believed
//
// A wrong proposal is a revocation that nobody is told of; none costs time only. So there is one only where this can be
// shown: a row of a table T in which the column c does not hold the subject s has no influence on any decision about s,
// neither while it is there nor while it is not. Then a change concerns at most those whom the old row or the new one
// names in c; and the mark of a change names both.
//
//   - A decision is the value of policies' expressions, which read tables in subqueries only, and the policies of these
//     tables, which do the same. All of them are read here. What is not understood, in any of them (a function that is not
//     known, a view, a syntax), may read T as well, or change who is asking: then there is no proposal for any table.
//   - T stands in the FROM of a SELECT without outer joins, and one of the conditions that its rows must pass is
//     T.c = the user's id. Of another row nothing reaches what the SELECT yields, so its value is the same. This must hold
//     wherever T is read, and with the same c; the topic likewise.
//   - A row that does not pass could still raise an error, when Postgres happens to evaluate another condition before
//     this one. So nothing in the outermost subquery around T, and in the policies of tables, may be able to raise:
//     comparisons of plain types may, casts of text and arithmetic may not be there. There is one exception, for tokens
//     whose sub is no uuid under policies that take it for one: these raise an error when Postgres comes to compare it. Whether
//     it does may depend on the plan, on the row of anybody, on where a row lies. There is no right in that to be followed.
//   - x IN (SELECT T.c FROM T) is such a condition where false and null mean the same: the outside of a policy, of a WHERE,
//     and what is joined there by AND and OR. Elsewhere (NOT IN) a row of another makes a difference to those without an id.
//   - Equality must mean the same here, in Postgres, and in the hub: the columns are uuid, text, varchar and, in topics,
//     integers; text is in the database's own collation, which is never one where different texts are equal. A subject is
//     compared by the hub without regard to how a uuid is spelled, which aims at more, never at less.
//   - A decision is made for a row of messages whose topic is realtime.topic(): messages.topic is as good. Where a trigger
//     or a rule on messages could have its own say, there is no proposal.
//   - Of the columns, those count that any expression names. Where the order of rows makes a difference (LIMIT, arrays, what
//     may raise), all do: an UPDATE of any column moves the row.
//   - Rows of a table's children are read through it without its triggers; there is no proposal for either.
package aim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Name of a table, type or function.
type Name struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

func (n Name) String() string { return n.Schema + "." + n.Name }

// messages is the table whose policies decide.
var messages = Name{"realtime", "messages"}

// Facts are what the catalogs say, as the question in sql/aim.sql returns it.
type Facts struct {
	Policies  []Policy   `json:"policies,omitempty"`  // those on messages, and on every table that is read because of them
	Tables    []Table    `json:"tables,omitempty"`    // messages, and all relations that are read
	Functions []Function `json:"functions,omitempty"` // without arguments, in SQL, and running as the caller with the caller's settings
	Enums     []Name     `json:"enums,omitempty"`
	Hooks     []string   `json:"hooks,omitempty"` // triggers, rules and checks of the users on messages

	// For ReadClaims and ReadTies alone, whose facts are about another table than messages: this table, and every function that a
	// policy calls, or one of these, also without naming it.
	Root   *Name  `json:"root,omitempty"`
	Called []Name `json:"called,omitempty"`
}

// Read takes the answer to the question in sql/aim.sql.
func Read(answer []byte) (Facts, error) {
	var f Facts
	if err := json.Unmarshal(answer, &f); err != nil {
		return Facts{}, fmt.Errorf("read what policies depend on: %w", err)
	}
	return f, nil
}

// Policy of a table, for reading; on messages, also for inserting.
type Policy struct {
	Table       Name     `json:"table"`
	Name        string   `json:"name"`
	Expressions []string `json:"expressions"`

	Restrictive bool     `json:"restrictive,omitempty"` // for ReadTies alone, as is
	AppliesTo   []string `json:"appliesTo,omitempty"`   // of the roles that were asked about
}

// Table is a relation.
type Table struct {
	Name
	Kind      string   `json:"kind"` // pg_class.relkind
	Children  bool     `json:"children"`
	Ancestors []Name   `json:"ancestors,omitempty"` // what it is a partition or a child of
	Columns   []Column `json:"columns,omitempty"`
}

// Column of a table.
type Column struct {
	Name    string `json:"name"`
	Type    string `json:"type"`  // pg_type.typname of a type in pg_catalog, "enum", or empty; with [] for an array of it
	Plain   bool   `json:"plain"` // in the database's own collation, or in none
	Virtual bool   `json:"virtual"`
}

// Function is one whose body may be put in its place.
type Function struct {
	Name
	Body    string `json:"body"`
	Returns string `json:"returns,omitempty"` // for ReadTies alone: the type
}

// Proposal is what to call realtime.watch() with. Empty: nothing is known but that the table is read.
type Proposal struct {
	Subject string   // the column with the user's id; empty for none
	Topic   string   // a template; empty for none
	Columns []string // all that are read, sorted; nil: not known
	Reason  string   // why there is neither a subject nor a topic
}

// Propose answers for every table that policies read.
func Propose(f Facts) map[Name]Proposal {
	r := newReading(f)
	for _, p := range f.Policies {
		r.policy(p)
	}
	proposals := map[Name]Proposal{}
	for _, t := range f.Tables {
		if t.Name != messages {
			proposals[t.Name] = r.proposal(t)
		}
	}
	return proposals
}

// reading is what is gathered from one policy after the other.
type reading struct {
	tables    map[Name]*Table
	functions map[Name]*function
	enums     []Name
	seen      map[Name]*uses
	unknown   string // why nothing is known about any table
}

// uses are all places where one table is read.
type uses struct {
	times    int
	subjects []string // columns that each of them compares with the user's id
	topics   []string // templates that each of them compares with the topic
	columns  []string
	ordered  bool   // it matters in which order rows are found, and an UPDATE of any column may change that
	refused  string // why there can be no aim
}

func newReading(f Facts) *reading {
	r := &reading{tables: map[Name]*Table{}, functions: map[Name]*function{}, enums: f.Enums, seen: map[Name]*uses{}}
	for i := range f.Tables {
		r.tables[f.Tables[i].Name] = &f.Tables[i]
		r.seen[f.Tables[i].Name] = &uses{}
	}
	if len(f.Hooks) > 0 {
		r.give("realtime.messages has " + f.Hooks[0])
	}
	r.understand(f.Functions)
	return r
}

// give says that nothing can be known any more; the first reason stands.
func (r *reading) give(reason string) {
	if r.unknown == "" {
		r.unknown = reason
	}
}

func (u *uses) refuse(reason string) {
	if u.refused == "" {
		u.refused = reason
	}
}

func (u *uses) column(name string) {
	if !slices.Contains(u.columns, name) {
		u.columns = append(u.columns, name)
	}
}

// meet takes in what one more place compares.
func (u *uses) meet(subjects, topics []string) {
	if u.times++; u.times == 1 {
		u.subjects, u.topics = subjects, topics
		return
	}
	u.subjects = slices.DeleteFunc(u.subjects, func(s string) bool { return !slices.Contains(subjects, s) })
	u.topics = slices.DeleteFunc(u.topics, func(t string) bool { return !slices.Contains(topics, t) })
}

func (r *reading) proposal(t Table) Proposal {
	if r.unknown != "" {
		return Proposal{Reason: r.unknown}
	}
	u := r.seen[t.Name]
	if reason := r.family(t); reason != "" {
		return Proposal{Reason: reason}
	}
	slices.Sort(u.columns)
	p := Proposal{Columns: u.columns, Reason: u.refused}
	if u.ordered {
		p.Columns = nil
	}
	switch {
	case u.times == 0:
		return Proposal{Reason: "no policy reads it directly"}
	case u.refused != "":
	case len(u.subjects) == 0 && len(u.topics) == 0:
		p.Reason = "the policies that read it do not all compare the same column with the user's id, or the same columns with the topic"
	}
	if p.Reason == "" && len(u.subjects) > 0 {
		p.Subject = slices.Min(u.subjects)
	}
	if p.Reason == "" && len(u.topics) > 0 {
		p.Topic = slices.Min(u.topics)
	}
	return p
}

// family tells why rows of a table may be read without its triggers knowing.
func (r *reading) family(t Table) string {
	switch {
	case t.Kind != "r" && t.Kind != "p":
		return "it is not a table"
	case len(t.Ancestors) > 0:
		return "it is a partition, or a child of another table"
	case t.Children && t.Kind == "r":
		return "it has children"
	}
	for _, other := range r.tables {
		if slices.Contains(other.Ancestors, t.Name) {
			return fmt.Sprintf("its partition %s is read by itself", other.Name)
		}
	}
	for _, name := range r.seen[t.Name].columns {
		if c := t.column(name); c == nil || c.Virtual {
			return "a column is not known, or computed when it is read"
		}
	}
	return ""
}

func (t *Table) column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// policy reads one policy.
func (r *reading) policy(p Policy) {
	table := r.tables[p.Table]
	if table == nil {
		r.give("the table of policy " + p.Name + " is not known")
		return
	}
	for _, text := range p.Expressions {
		n, err := parse(text)
		if err != nil {
			r.give(fmt.Sprintf("policy %q on %s: %v", p.Name, p.Table, err))
			return
		}
		v := &visit{reading: r, root: table}
		v.value(n, nil, true)
		if v.unknown != "" {
			r.give(fmt.Sprintf("policy %q on %s %s", p.Name, p.Table, v.unknown))
			return
		}
		if p.Table == messages {
			continue
		}
		// It is evaluated for every row of its table, in every query that reads it.
		if why := v.raises(n, nil); why != "" {
			r.give(fmt.Sprintf("policy %q on %s may raise an error: %s", p.Name, p.Table, why))
		}
		if hasTables(n) {
			r.seen[p.Table].refuse("its own policies read tables")
		}
	}
}

// hasTables tells whether a table is read anywhere in an expression.
func hasTables(n *node) bool {
	found := false
	eachSelection(n, func(_ *node, s *selection) { found = found || len(s.from) > 0 })
	return found
}

// eachSelection calls do for every SELECT in an expression.
func eachSelection(n *node, do func(of *node, s *selection)) {
	walk(n, func(n *node) {
		if n.query == nil {
			return
		}
		for _, s := range n.query.selects {
			do(n, s)
		}
	})
}

// walk calls do for a node and all below it, subqueries included.
func walk(n *node, do func(*node)) {
	do(n)
	for _, kid := range n.kids {
		walk(kid, do)
	}
	if n.query == nil {
		return
	}
	for _, s := range n.query.selects {
		for _, part := range s.parts() {
			walk(part, do)
		}
	}
}

func (s *selection) parts() []*node {
	return slices.Concat(s.outputs, s.conditions, s.rest)
}

// braces would be taken for a column by the template.
func braces(text string) bool { return strings.ContainsAny(text, "{}") }
