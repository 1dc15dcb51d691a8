// Package changes is Postgres Changes: which changes of rows a subscriber has asked for, whether he may see the row, and the
// frame that he is given.
//
// Rows come from the WAL, and rights from Postgres: in each batch of changes every group of subscribers who cannot differ in
// what they see is asked about once, under its own role and claims, in a snapshot that has seen all these changes.
package changes

// Events are kinds of changes.
type Events uint8

// The kinds of changes that an entry may want.
const (
	Insert Events = 1 << iota
	Update
	Delete
	AnyEvent = Insert | Update | Delete
)

// Entry is one element of a join's postgres_changes.
type Entry struct {
	ID            int // what the client knows it by
	Events        Events
	Schema, Table string // "" is every one
	Filter        []Condition
	Select        []string // columns, beside those of the primary key; nil: all
	Snapshot      bool     // first the rows that are there
	NumbersAsText bool     // int8 and numeric, which JavaScript rounds
}

// Condition is one of those of a filter, which must all hold: column=[not.]op.value.
type Condition struct {
	Column string
	Not    bool
	Op     Op
	Value  string   // of all but in
	Values []string // of in
}

// Op is an operator of a filter, as it is written there.
type Op string

// The operators.
const (
	Eq, Neq, Lt, Lte, Gt, Gte Op = "eq", "neq", "lt", "lte", "gt", "gte"
	In, Is, IsDistinct        Op = "in", "is", "isdistinct"
	Like, ILike               Op = "like", "ilike"
	Match, IMatch             Op = "match", "imatch"
)

// Table is what the catalogs say of a relation.
type Table struct {
	OID          uint32
	Schema, Name string
	Columns      []Column // in the table's order
	Key          []string // of the primary key, in its order; nil: there is none
	Published    bool
	RowSecurity  bool
	Partitioned  bool
	Parents      []Name // partitioned tables above it, the topmost last

	reads []int64 // relations that its policies read
}

// Name of a relation.
type Name struct{ Schema, Name string }

// Column of a table.
type Column struct {
	Name      string
	Type      *Type
	Generated bool // before Postgres 18 its value is not in the WAL
}

// Type of a column, or of an array's elements.
type Type struct {
	OID       uint32
	Name      string // pg_type.typname
	Base      uint32 // of a domain, what is beneath it; else OID
	Elem      *Type  // of an array
	Delimiter byte   // of an array of these
	Exotic    bool   // only Postgres knows its JSON: it has a cast to json, or is composite
	Exact     bool   // equal values have equal texts, and equal texts mean equal values
}
