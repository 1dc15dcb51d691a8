package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// prefix is what messages that are meant for us begin with.
const prefix = "realtime"

// decoder makes events of pgoutput's messages. It remembers the relations that it was told of.
//
// Of a transaction in which there is nothing for h it tells nothing: before Postgres 15 each one is sent that is committed.
type decoder struct {
	relations map[uint32]*Relation
	inside    bool  // a transaction that has begun
	untold    Begin // its beginning, as long as nothing of it was told
}

// decode tells h what a message says. What h is given shares no memory with it. end is the end of a transaction that was
// told completely.
func (d *decoder) decode(message []byte, h Handler) (end LSN, err error) {
	if len(message) == 0 {
		return 0, errMalformed
	}
	switch message[0] {
	case 'I', 'U', 'D':
		c, err := d.change(bytes.Clone(message))
		if err != nil {
			return 0, err
		}
		d.begin(h)
		h.Change(c)
		return 0, nil
	}
	parsed, err := pglogrepl.Parse(message)
	if err != nil {
		return 0, fmt.Errorf("read a message %q of pgoutput: %w", message[0], err)
	}
	switch m := parsed.(type) {
	case *pglogrepl.BeginMessage:
		d.inside, d.untold = true, Begin{XID: m.Xid, Commit: m.FinalLSN, Committed: m.CommitTime}
	case *pglogrepl.CommitMessage:
		if d.untold == (Begin{}) {
			h.Commit()
		}
		d.inside, d.untold = false, Begin{}
		return m.TransactionEndLSN, nil
	case *pglogrepl.RelationMessage:
		d.relate(m)
	case *pglogrepl.TruncateMessage:
		relations := make([]*Relation, len(m.RelationIDs))
		for i, oid := range m.RelationIDs {
			if relations[i] = d.relations[oid]; relations[i] == nil {
				return 0, fmt.Errorf("read a message of pgoutput: nothing was said of relation %d", oid)
			}
		}
		d.begin(h)
		h.Truncate(Truncate{relations})
	case *pglogrepl.LogicalDecodingMessage:
		if m.Prefix == prefix {
			d.begin(h)
			h.Message(Message{m.Transactional, bytes.Clone(m.Content)})
		}
	}
	return 0, nil // types and origins are of no interest
}

// begin tells the beginning of a transaction of which something is told.
func (d *decoder) begin(h Handler) {
	if d.untold != (Begin{}) {
		h.Begin(d.untold)
		d.untold = Begin{}
	}
}

// relate remembers a relation as it is from now on. Those given out stay as they were.
func (d *decoder) relate(m *pglogrepl.RelationMessage) {
	r := &Relation{
		OID: m.RelationID, Schema: m.Namespace, Name: m.RelationName, Identity: Identity(m.ReplicaIdentity),
		Columns: make([]Column, len(m.Columns)),
	}
	for i, c := range m.Columns {
		r.Columns[i] = Column{Name: c.Name, Type: c.DataType, Modifier: c.TypeModifier, Key: c.Flags&1 != 0}
	}
	d.relations[r.OID] = r
}

// change reads a row's message, which stays as long as one of its values does.
func (d *decoder) change(message []byte) (Change, error) {
	c := Change{Kind: Kind(message[0])}
	t := tuples{rest: message[1:]}
	oid := t.uint32()
	if c.Relation = d.relations[oid]; c.Relation == nil {
		return Change{}, fmt.Errorf("read a message of pgoutput: nothing was said of relation %d", oid)
	}
	for len(t.rest) > 0 && !t.bad {
		switch t.byte() {
		case 'K':
			c.Old, c.KeyOnly = t.tuple(), true
		case 'O':
			c.Old = t.tuple()
		case 'N':
			c.New = t.tuple()
		default:
			t.bad = true
		}
	}
	if t.bad || wrong(c.Old, c) || wrong(c.New, c) || (c.New == nil) != (c.Kind == Delete) || (c.Old == nil && c.Kind == Delete) {
		return Change{}, fmt.Errorf("read a change of %s.%s: %w", c.Relation.Schema, c.Relation.Name, errMalformed)
	}
	for i, old := range c.Old {
		if c.New != nil && c.New[i].Kind == Unchanged && old.Kind != Null { // Null: it is not part of the key
			c.New[i] = old
		}
	}
	c.Large = t.large
	return c, nil
}

// wrong tells whether these are other columns than the relation's.
func wrong(values []Value, c Change) bool {
	return values != nil && len(values) != len(c.Relation.Columns)
}

// tuples reads the rows of a message.
type tuples struct {
	rest  []byte
	large bool // a value was left out
	bad   bool // the message is none
}

func (t *tuples) take(n int) []byte {
	if n < 0 || n > len(t.rest) {
		t.bad = true
		return nil
	}
	taken := t.rest[:n:n]
	t.rest = t.rest[n:]
	return taken
}

func (t *tuples) byte() byte {
	if b := t.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (t *tuples) uint16() int {
	if b := t.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (t *tuples) uint32() uint32 {
	if b := t.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (t *tuples) tuple() []Value {
	columns := t.uint16()
	if columns > len(t.rest) { // each has a kind
		t.bad = true
		return nil
	}
	values := make([]Value, columns)
	for i := range values {
		values[i].Kind = ValueKind(t.byte())
		switch values[i].Kind {
		case Text:
			values[i].Text = t.take(int(t.uint32()))
		case Null, Unchanged:
		case TooLarge:
			t.large = true
		default:
			t.bad = true
			return nil
		}
	}
	return values
}
