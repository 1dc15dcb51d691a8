package changes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"rowcast/server/protocol"
)

// What is wrong with an entry, in the words of Supabase Realtime where it has some: clients show them, and people search for them.
const (
	textNoParams     = protocol.TextChangesParams
	textFilter       = protocol.TextChangesFilter
	textSelect       = protocol.TextChangesSelect
	textNumbers      = protocol.TextChangesNumbers
	textSnapshot     = protocol.TextChangesSnapshot
	textWildSelect   = protocol.TextChangesWildSelect
	textWildSnapshot = protocol.TextChangesWildSnapshot
	textUnavailable  = protocol.TextChangesNotPublished
	textRefused      = protocol.TextChangesException

	textNUL = "ERROR 22021 (character_not_in_repertoire) invalid byte sequence for encoding \"UTF8\": 0x00"
	raised  = "ERROR P0001 (raise_exception) "
)

const (
	wildcard      = "*"
	defaultSchema = "public"
)

// EntryError is what the client is told of an entry that makes no sense.
type EntryError string

func (e EntryError) Error() string { return string(e) }

func refuse(text string, args ...any) error { return EntryError(fmt.Sprintf(text, args...)) }

// ParseEntries reads a join's postgres_changes: raw and ids are as package protocol gives them. One that makes no sense fails
// all, with an EntryError for a system message.
func ParseEntries(raw [][]byte, ids []int) ([]Entry, error) {
	entries := make([]Entry, len(raw))
	for i, object := range raw {
		params := map[string]any{}
		decoder := json.NewDecoder(bytes.NewReader(object))
		decoder.UseNumber() // told back as they were written
		if err := decoder.Decode(&params); err != nil {
			return nil, refuse(textNoParams, inspectParams(params))
		}
		entry, err := parseEntry(params)
		if err != nil {
			return nil, err
		}
		entry.ID = ids[i]
		entries[i] = entry
	}
	return entries, nil
}

func parseEntry(params map[string]any) (Entry, error) {
	e := Entry{Events: eventsOf(params["event"])}
	var err error
	if e.Select, err = selectOf(params["select"]); err != nil {
		return Entry{}, err
	}
	if err := e.readNames(params); err != nil {
		return Entry{}, err
	}
	if filter, ok := params["filter"].(string); ok {
		if e.Filter, err = parseFilter(filter); err != nil {
			return Entry{}, refuse(textFilter, err)
		}
	}
	if err := e.readOptions(params); err != nil {
		return Entry{}, err
	}
	if err := e.check(); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// eventsOf takes whatever it does not know for every event.
func eventsOf(event any) Events {
	name, _ := event.(string)
	switch strings.ToUpper(name) {
	case "INSERT":
		return Insert
	case "UPDATE":
		return Update
	case "DELETE":
		return Delete
	}
	return AnyEvent
}

func selectOf(columns any) ([]string, error) {
	switch columns := columns.(type) {
	case string:
		return nil, EntryError(textSelect)
	case []any:
		var names []string
		for _, column := range columns {
			if name, ok := column.(string); ok {
				names = append(names, name)
			}
		}
		return names, nil
	}
	return nil, nil
}

// readNames reads which tables are meant. A key that is there has to be text, also null is not; a filter takes both names.
func (e *Entry) readNames(params map[string]any) error {
	schema, hasSchema := params["schema"]
	table, hasTable := params["table"]
	filter, hasFilter := params["filter"]
	valid := hasSchema || hasTable
	for _, given := range []struct {
		value any
		has   bool
	}{{schema, hasSchema}, {table, hasTable}, {filter, hasFilter}} {
		if _, text := given.value.(string); given.has && !text {
			valid = false
		}
	}
	if !valid || hasFilter && !(hasSchema && hasTable) {
		return refuse(textNoParams, inspectParams(params))
	}
	e.Schema, e.Table = defaultSchema, wildcard
	if hasSchema {
		e.Schema = schema.(string)
	}
	if hasTable {
		e.Table = table.(string)
	}
	return nil
}

// readOptions reads those that Supabase Realtime does not have. It is strict, as nobody else gives them a meaning.
func (e *Entry) readOptions(params map[string]any) error {
	switch snapshot := params["snapshot"].(type) {
	case bool:
		e.Snapshot = snapshot
	case nil:
	default:
		return EntryError(textSnapshot)
	}
	switch params["numbers"] {
	case "string":
		e.NumbersAsText = true
	case "number", nil:
	default:
		return EntryError(textNumbers)
	}
	return nil
}

// check looks at the whole entry, and makes of "*" the name that stands for every one.
func (e *Entry) check() error {
	if e.Schema == "" || e.Table == "" { // which no schema and no table is called
		return refuse(textUnavailable, e.describe(e.Schema, e.Table))
	}
	if e.Schema == wildcard {
		e.Schema = ""
	}
	if e.Table == wildcard {
		e.Table = ""
	}
	wild := e.Schema == "" || e.Table == ""
	switch {
	case e.holdsNUL():
		return EntryError(e.Refused(textNUL))
	case wild && e.Select != nil:
		return EntryError(textWildSelect)
	case wild && e.Snapshot:
		return EntryError(textWildSnapshot)
	}
	for _, c := range e.Filter {
		switch {
		case c.Op == In && len(c.Values) > maxValues:
			return EntryError(e.Refused(fmt.Sprintf("%stoo many values for `in` filter. Maximum %d", raised, maxValues)))
		case c.Op == Is && !slices.Contains([]string{"null", "true", "false", "unknown"}, c.Value):
			return EntryError(e.Refused(raised + "invalid value for is filter: must be null, true, false, or unknown"))
		}
	}
	return nil
}

// holdsNUL finds the character that no text of Postgres can hold, before it spoils a question that others share.
func (e *Entry) holdsNUL() bool {
	texts := append([]string{e.Schema, e.Table}, e.Select...)
	for _, c := range e.Filter {
		texts = append(append(texts, c.Column, c.Value), c.Values...)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.IndexByte(text, 0) >= 0 })
}

// Matches tells whether the entry is about this table. Names are compared as they are: no character is a wildcard in them.
func (e Entry) Matches(schema, table string) bool {
	return (e.Schema == "" || e.Schema == schema) && (e.Table == "" || e.Table == table)
}

// Unavailable is what the client is told where no published table matches the entry.
func (e Entry) Unavailable() string { return fmt.Sprintf(textUnavailable, e.Describe()) }

// Refused is what the client is told where Postgres, or a check in its stead, does not accept the entry. The exception reads
// ERROR P0001 (raise_exception) invalid column for filter x.
func (e Entry) Refused(exception string) string {
	return fmt.Sprintf(textRefused, e.Describe(), exception)
}

// Describe is the entry as messages of Supabase Realtime name it:
// [event: *, schema: public, table: x, filters: [{"c", "eq", "1", false}], select: nil].
func (e Entry) Describe() string {
	schema, table := e.Schema, e.Table
	if schema == "" {
		schema = wildcard
	}
	if table == "" {
		table = wildcard
	}
	return e.describe(schema, table)
}

func (e Entry) describe(schema, table string) string {
	filters := make([]string, len(e.Filter))
	for i, c := range e.Filter {
		filters[i] = fmt.Sprintf("{%s, %s, %s, %t}", inspect(c.Column), inspect(string(c.Op)), inspect(c.literal()), c.Not)
	}
	columns := "nil"
	if e.Select != nil {
		columns = inspectTexts(e.Select)
	}
	return fmt.Sprintf("[event: %s, schema: %s, table: %s, filters: [%s], select: %s]",
		e.Events, schema, table, strings.Join(filters, ", "), columns)
}

// String is the name of one kind of changes, or "*".
func (e Events) String() string {
	switch e {
	case Insert:
		return "INSERT"
	case Update:
		return "UPDATE"
	case Delete:
		return "DELETE"
	}
	return wildcard
}
