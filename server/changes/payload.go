package changes

import (
	"fmt"
	"strconv"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/wal"
)

// Errors that a change is delivered with, as Supabase Realtime has them.
const (
	ErrorNoKey        = "Error 400: Bad Request, no primary key" // only a DELETE is told of such a table
	ErrorUnauthorized = "Error 401: Unauthorized"                // the role may not SELECT the primary key
	ErrorTooLarge     = "Error 413: Payload Too Large"           // values of more than 64 bytes are left out
)

// NotThere is the kind of a value that is not known: of an old row that is known by its key alone, or of a generated column.
const NotThere wal.ValueKind = 0

// DataChange is a change as it is shown to those who may see the same columns of it.
type DataChange struct {
	Table     *Table
	Name      Name // as which it is shown: of a partition, maybe the table above it
	Kind      wal.Kind
	Committed time.Time

	Columns    []int // of Table.Columns: what may be seen, and is wanted
	OldColumns []int // the same for the old row: of its key, or all

	// Values in the order of Table.Columns. An UPDATE whose Old is nil did not change its identity: OldColumns are shown as
	// they are in New. Where of the old row only the key is known, its other values are NotThere, not Null.
	New, Old []wal.Value

	NumbersAsText bool
	Errors        []string

	// Rendered gives the JSON of a value for which Postgres had to be asked, nil if it was not: of a type that AppendJSON does
	// not know, or one that is NotThere or Unchanged. It may be nil.
	Rendered func(column int, old bool) []byte
}

// AppendData appends the data of a delivered change.
func AppendData(buf []byte, c DataChange) ([]byte, error) {
	buf = appendName(buf, c.Name, c.Kind)
	buf = append(buf, `,"commit_timestamp":"`...)
	buf = c.Committed.UTC().AppendFormat(buf, "2006-01-02T15:04:05.000Z")
	buf = c.appendColumns(append(buf, `","columns":`...))
	var err error
	if c.Kind != wal.Delete {
		if buf, err = c.appendRow(append(buf, `,"record":`...), c.Columns, c.newValue); err != nil {
			return nil, err
		}
	}
	if c.Kind != wal.Insert {
		if buf, err = c.appendRow(append(buf, `,"old_record":`...), c.OldColumns, c.oldValue); err != nil {
			return nil, err
		}
	}
	return append(appendErrors(append(buf, `,"errors":`...), c.Errors), '}'), nil
}

// AppendRefused appends the data of a change of which nothing may be shown but that it happened.
func AppendRefused(buf []byte, name Name, kind wal.Kind, reason string) []byte {
	buf = append(appendName(buf, name, kind), `,"commit_timestamp":null,"columns":[]`...)
	if kind != wal.Delete {
		buf = append(buf, `,"record":{}`...)
	}
	if kind != wal.Insert {
		buf = append(buf, `,"old_record":{}`...)
	}
	return append(appendErrors(append(buf, `,"errors":`...), []string{reason}), '}')
}

// Payload is that of the event postgres_changes: for which of a channel's entries, and what.
func Payload(ids []int, data []byte) []byte {
	buf := make([]byte, 0, len(data)+len(ids)*10+len(`{"ids":[],"data":}`))
	buf = append(buf, `{"ids":[`...)
	for i, id := range ids {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, int64(id), 10)
	}
	return append(append(append(buf, `],"data":`...), data...), '}')
}

// appendName opens the object.
func appendName(buf []byte, name Name, kind wal.Kind) []byte {
	buf = protocol.AppendString(append(buf, `{"schema":`...), name.Schema)
	buf = protocol.AppendString(append(buf, `,"table":`...), name.Name)
	return protocol.AppendString(append(buf, `,"type":`...), eventOf(kind).String())
}

func eventOf(kind wal.Kind) Events {
	switch kind {
	case wal.Insert:
		return Insert
	case wal.Update:
		return Update
	}
	return Delete
}

func appendErrors(buf []byte, errors []string) []byte {
	if len(errors) == 0 {
		return append(buf, "null"...)
	}
	for i, text := range errors {
		buf = protocol.AppendString(append(buf, "[,"[min(i, 1)]), text)
	}
	return append(buf, ']')
}

func (c *DataChange) appendColumns(buf []byte) []byte {
	buf = append(buf, '[')
	for i, column := range c.Columns {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = protocol.AppendString(append(buf, `{"name":`...), c.Table.Columns[column].Name)
		buf = protocol.AppendString(append(buf, `,"type":`...), c.typeName(c.Table.Columns[column].Type))
		buf = append(buf, '}')
	}
	return append(buf, ']')
}

// typeName calls numbers that are sent as text a text: by this name the official client decides which strings to parse, and it
// would make rounded numbers of them again.
func (c *DataChange) typeName(t *Type) string {
	switch {
	case !c.NumbersAsText || !t.wide():
		return t.Name
	case t.Elem != nil:
		return "_text"
	}
	return "text"
}

// appendRow leaves out what is not known.
func (c *DataChange) appendRow(buf []byte, columns []int, value func(int) (wal.Value, bool)) ([]byte, error) {
	buf = append(buf, '{')
	first := true
	for _, column := range columns {
		v, old := value(column)
		start := len(buf)
		if !first {
			buf = append(buf, ',')
		}
		buf = append(protocol.AppendString(buf, c.Table.Columns[column].Name), ':')
		var known bool
		var err error
		if buf, known, err = c.appendValue(buf, column, v, old); err != nil {
			return nil, err
		}
		if !known {
			buf = buf[:start]
			continue
		}
		first = false
	}
	return append(buf, '}'), nil
}

func (c *DataChange) appendValue(buf []byte, column int, v wal.Value, old bool) (out []byte, known bool, err error) {
	switch v.Kind {
	case wal.Null:
		return append(buf, "null"...), true, nil
	case wal.TooLarge:
		return buf, false, nil
	case wal.Text:
		if out, ok := AppendJSON(buf, c.Table.Columns[column].Type, v.Text, c.NumbersAsText); ok {
			return out, true, nil
		}
	}
	var rendered []byte
	if c.Rendered != nil {
		rendered = c.Rendered(column, old)
	}
	if rendered == nil && v.Kind == wal.Text {
		return nil, false, fmt.Errorf("render column %s of %s.%s: only Postgres knows its type", c.Table.Columns[column].Name, c.Table.Schema, c.Table.Name)
	}
	return append(buf, rendered...), rendered != nil, nil
}

// newValue takes what was not written again from the old row, if that is known; old tells where the value is from.
func (c *DataChange) newValue(column int) (v wal.Value, old bool) {
	v = c.New[column]
	if v.Kind == wal.Unchanged && c.Old != nil && (c.Old[column].Kind == wal.Text || c.Old[column].Kind == wal.Null) {
		return c.Old[column], true
	}
	return v, false
}

func (c *DataChange) oldValue(column int) (v wal.Value, old bool) {
	switch {
	case c.Old != nil:
		return c.Old[column], true
	case c.Kind == wal.Update:
		return c.New[column], false
	}
	return wal.Value{Kind: NotThere}, true
}
