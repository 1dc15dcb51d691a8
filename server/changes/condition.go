package changes

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"rowcast/server/wal"
)

// condition is one of a filter, for a table. Who has the same shares it, so each is decided once for a row.
type condition struct {
	Condition
	key     string
	column  int
	of      *Type
	matches Matcher // nil: only Postgres can compare
	uses    int

	asked   map[string]truth // what Postgres said in this batch, by the value's text
	decided int              // how often that was
	slow    time.Time        // when it took too long
}

// truth is whether a condition holds.
type truth uint8

const (
	unknown truth = iota
	no
	yes
)

func truthOf(holds bool) truth {
	if holds {
		return yes
	}
	return no
}

// condition is the one of the table that is like c.
func (t *table) condition(c Condition) (*condition, error) {
	key := c.key()
	if known := t.conditions[key]; known != nil {
		return known, nil
	}
	column := t.column(c.Column)
	if column < 0 {
		return nil, fmt.Errorf("invalid column for filter %s", c.Column)
	}
	of := t.Columns[column].Type
	made := &condition{Condition: c, key: key, column: column, of: of, matches: c.Compile(of)}
	t.conditions[made.key] = made
	return made, nil
}

// key is equal where conditions are.
func (c Condition) key() string {
	var b strings.Builder
	writeText(&b, c.Column, strconv.FormatBool(c.Not), string(c.Op), c.Value)
	writeText(&b, c.Values...)
	return b.String()
}

// only is the text of the one value with which the condition holds, if there is just one.
func (c *condition) only() (text string, ok bool) {
	if c.Op != Eq || c.Not || c.matches == nil {
		return "", false
	}
	switch c.of.Base {
	case oidInt2, oidInt4, oidInt8:
		n, ok := parseInt(c.Value)
		return strconv.FormatInt(n, 10), ok
	case oidUUID:
		return parseUUID(c.Value)
	}
	return c.Value, c.of.sameText()
}

// holds decides the condition about a value. What is not known never matches; what only Postgres can decide is unknown until it
// was asked.
func (c *condition) holds(v wal.Value) truth {
	switch {
	case v.Kind != wal.Text && v.Kind != wal.Null:
		return unknown
	case c.matches != nil:
		return truthOf(c.matches(v.Text, v.Kind == wal.Null))
	case v.Kind == wal.Null:
		return truthOf(c.ofNull())
	}
	return c.asked[string(v.Text)]
}

// ofNull is what the condition says of NULL, whatever the type.
func (c *condition) ofNull() bool {
	switch c.Op {
	case IsDistinct:
		return !c.Not
	case In:
		return len(c.Values) == 0 && c.Not
	case Is:
		return (c.Value == "null" || c.Value == "unknown") != c.Not
	}
	return false
}

// holds decides a filter about a row: no if any condition does not hold, else unknown if any is.
func (w want) holds(row []wal.Value) truth {
	all := yes
	for _, c := range w.filter {
		switch c.holds(row[c.column]) {
		case no:
			return no
		case unknown:
			all = unknown
		}
	}
	return all
}
