// Package wal is what the database writes: one replication connection, decoded by pgoutput into transactions in the order of
// their commits. Nothing of a transaction is heard before it was committed, and nothing of one that was rolled back.
//
// It knows what a row is, and not who may see it.
package wal

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// LSN is a place in the WAL, in bytes.
type LSN = pglogrepl.LSN

// Begin opens a transaction.
type Begin struct {
	XID       uint32 // the lower half of the id: see snapshot.Widen
	Commit    LSN    // where it was committed
	Committed time.Time
}

// Relation is a table as it was when a row of it was written.
type Relation struct {
	OID          uint32
	Schema, Name string
	Identity     Identity
	Columns      []Column
}

// Identity is what the old row is known by.
type Identity byte

// The values of pg_class.relreplident.
const (
	IdentityDefault Identity = 'd' // its primary key
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f' // all its columns
	IdentityIndex   Identity = 'i'
)

// Column is a column that is published.
type Column struct {
	Name     string
	Type     uint32 // oid
	Modifier int32
	Key      bool // part of the identity
}

// Kind is what was done to a row.
type Kind byte

// The kinds of changes.
const (
	Insert Kind = 'I'
	Update Kind = 'U'
	Delete Kind = 'D'
)

// Change is one row. Its memory is the receiver's.
type Change struct {
	Kind     Kind
	Relation *Relation
	Old      []Value // nil: not known; of an update it is where the identity changed, or is full
	KeyOnly  bool    // of Old only the identity's columns are there; the others are Null
	New      []Value // nil for a delete
	Large    bool    // values were left out because the row is too large
}

// ValueKind tells a value from its absence.
type ValueKind byte

// What a value can be.
const (
	Null      ValueKind = 'n'
	Text      ValueKind = 't'
	Unchanged ValueKind = 'u' // stored elsewhere (TOAST), not written again, and not in the old row either
	TooLarge  ValueKind = 'l' // of a row that is too large: longer than 64 bytes, and left out
)

// Value is a value in the text form that Postgres gives it: in UTC, ISO dates, hexadecimal bytea.
type Value struct {
	Kind ValueKind
	Text []byte
}

// Truncate empties tables.
type Truncate struct{ Relations []*Relation }

// Message is what pg_logical_emit_message said. Anyone can say it.
type Message struct {
	Transactional bool // else it may belong to a transaction that is rolled back
	Content       []byte
}

// Handler is told everything on one goroutine, in order. While it does not return nothing more is read.
type Handler interface {
	Begin(Begin) // of a transaction in which there is something to tell
	Change(Change)
	Truncate(Truncate)
	Message(Message) // also outside a transaction
	Commit()
	// Reached says that nothing is left to tell that lies before this place in the WAL. A busy database has it called for
	// every commit, whatever was written, so it should cost little.
	Reached(LSN)
}
