package changes

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseOne(t *testing.T, object string) (Entry, error) {
	t.Helper()
	entries, err := ParseEntries([][]byte{[]byte(object)}, []int{7})
	if err != nil {
		if entries != nil {
			t.Errorf("%s: an error and %+v", object, entries)
		}
		return Entry{}, err
	}
	return entries[0], nil
}

func TestEntries(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]Entry{
		`{"event":"*","schema":"public","table":"x"}`:   {Events: AnyEvent, Schema: "public", Table: "x"},
		`{"event":"insert","schema":"s","table":"x"}`:   {Events: Insert, Schema: "s", Table: "x"},
		`{"event":"Update","schema":"s","table":"x"}`:   {Events: Update, Schema: "s", Table: "x"},
		`{"event":"DELETE","schema":"s","table":"x"}`:   {Events: Delete, Schema: "s", Table: "x"},
		`{"event":"TRUNCATE","schema":"s","table":"x"}`: {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"event":7,"schema":"s","table":"x"}`:          {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"event":null,"schema":"s","table":"x"}`:       {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s"}`:                                   {Events: AnyEvent, Schema: "s"},
		`{"table":"x"}`:                                    {Events: AnyEvent, Schema: "public", Table: "x"},
		`{"schema":"*"}`:                                   {Events: AnyEvent},
		`{"schema":"*","table":"x"}`:                       {Events: AnyEvent, Table: "x"},
		`{"schema":"s","table":"*"}`:                       {Events: AnyEvent, Schema: "s"},
		`{"schema":"s","table":"A_b%"}`:                    {Events: AnyEvent, Schema: "s", Table: "A_b%"},
		`{"schema":"s","table":"x","filter":""}`:           {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","table":"x","filter":" \t "}`:       {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","table":"x","select":[]}`:           {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","table":"x","select":[1,null]}`:     {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","table":"x","select":null}`:         {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","table":"x","select":{"a":1}}`:      {Events: AnyEvent, Schema: "s", Table: "x"},
		`{"schema":"s","select":[7]}`:                      {Events: AnyEvent, Schema: "s"},
		`{"schema":"s","table":"x","select":["a",1,"b"]}`:  {Events: AnyEvent, Schema: "s", Table: "x", Select: []string{"a", "b"}},
		`{"table":"x","snapshot":true}`:                    {Events: AnyEvent, Schema: "public", Table: "x", Snapshot: true},
		`{"schema":"s","snapshot":false,"numbers":null}`:   {Events: AnyEvent, Schema: "s"},
		`{"schema":"s","numbers":"string"}`:                {Events: AnyEvent, Schema: "s", NumbersAsText: true},
		`{"schema":"s","numbers":"number","x":{"y":[]}}`:   {Events: AnyEvent, Schema: "s"},
		`{"schema":"s","table":"x","filter":"a=not.gt.1"}`: {Events: AnyEvent, Schema: "s", Table: "x", Filter: []Condition{{Column: "a", Not: true, Op: Gt, Value: "1"}}},
		`{"schema":"s","table":"*","filter":"a=eq.1"}`:     {Events: AnyEvent, Schema: "s", Filter: []Condition{{Column: "a", Op: Eq, Value: "1"}}},
	} {
		want.ID = 7
		got, err := parseOne(t, object)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", object, err, diff)
		}
	}
}

func TestEntriesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	const (
		noParams    = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
		unavailable = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: "
		refused     = "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: "
		wildSelect  = "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
		badSelect   = "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
	)
	for object, want := range map[string]string{
		`{}`:            noParams + `%{}`,
		`null`:          noParams + `%{}`,
		`{"event":"*"}`: noParams + `%{"event" => "*"}`,
		`{"schema":"s","table":"x","filter":null}`:       noParams + `%{"filter" => nil, "schema" => "s", "table" => "x"}`,
		`{"schema":"s","table":"x","filter":[1.50,"a"]}`: noParams + `%{"filter" => [1.50, "a"], "schema" => "s", "table" => "x"}`,
		`{"schema":"s","filter":"a=eq.1"}`:               noParams + `%{"filter" => "a=eq.1", "schema" => "s"}`,
		`{"table":"x","filter":"a=eq.1"}`:                noParams + `%{"filter" => "a=eq.1", "table" => "x"}`,
		`{"schema":"s","table":null}`:                    noParams + `%{"schema" => "s", "table" => nil}`,
		`{"schema":{"b":true,"a":false}}`:                noParams + `%{"schema" => %{"a" => false, "b" => true}}`,
		`{"user_token":"secret"}`:                        noParams + `<redacted>`,
		`{"schema":7,"access_token":"secret"}`:           noParams + `<redacted>`,
		`{"x":"` + strings.Repeat("é", 1000) + `"}`:      noParams + `%{"x" => "` + strings.Repeat("é", 245) + `…`,
		`{"schema":"","table":"x"}`:                      unavailable + `[event: *, schema: , table: x, filters: [], select: nil]`,
		`{"event":"insert","schema":"*","table":""}`:     unavailable + `[event: INSERT, schema: *, table: , filters: [], select: nil]`,
		`{"schema":"s","table":"x","select":"a"}`:        badSelect,
		`{"select":"a"}`:                                 badSelect,
		`{"schema":"s","select":["a"]}`:                  wildSelect,
		`{"schema":"*","table":"x","select":["a"]}`:      wildSelect,
		`{"schema":"s","snapshot":true}`:                 "A snapshot is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
		`{"table":"x","snapshot":"true"}`:                "Error parsing `snapshot` params: expected true or false",
		`{"table":"x","numbers":"strings"}`:              "Error parsing `numbers` params: expected \"string\" or \"number\"",
		`{"table":"x","numbers":{}}`:                     "Error parsing `numbers` params: expected \"string\" or \"number\"",
		`{"schema":"s","table":"x","filter":"wrong"}`:    "Error parsing `filter` params: [\"wrong\"]",
		`{"schema":"s","table":"x","filter":"a=is.not"}`: refused + `[event: *, schema: s, table: x, filters: [{"a", "is", "not", false}], select: nil]. ` +
			`Exception: ERROR P0001 (raise_exception) invalid value for is filter: must be null, true, false, or unknown`,
	} {
		if _, err := parseOne(t, object); err == nil || err.Error() != want {
			t.Errorf("%.100s:\ngot  %v\nwant %s", object, err, want)
		}
	}
}

func TestTooManyValues(t *testing.T) {
	t.Parallel()
	list := func(n int) string {
		return `{"schema":"s","table":"x","filter":"a=in.(` + strings.Repeat("1,", n-1) + `1)"}`
	}
	if e, err := parseOne(t, list(maxValues)); err != nil || len(e.Filter[0].Values) != maxValues {
		t.Errorf("%d values: %v", maxValues, err)
	}
	_, err := parseOne(t, list(maxValues+1))
	if err == nil || !strings.HasSuffix(err.Error(), "1}\", false}], select: nil]. Exception: ERROR P0001 (raise_exception) too many values for `in` filter. Maximum 100") {
		t.Errorf("%d values: %v", maxValues+1, err)
	}
}

func TestNoTextHoldsNUL(t *testing.T) {
	t.Parallel()
	for _, object := range []string{
		`{"table":"x\u0000"}`, `{"schema":"\u0000"}`, `{"table":"x","select":["a","\u0000"]}`, `{"schema":"s","table":"x","filter":"\u0000=eq.1"}`,
		`{"schema":"s","table":"x","filter":"a=eq.\u0000"}`, `{"schema":"s","table":"x","filter":"a=in.(b,\u0000)"}`,
	} {
		_, err := parseOne(t, object)
		if err == nil || !strings.HasSuffix(err.Error(), `Exception: ERROR 22021 (character_not_in_repertoire) invalid byte sequence for encoding "UTF8": 0x00`) {
			t.Errorf("%s: %v", object, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{
		`{"schema":"public","table":"x"}`:                           `[event: *, schema: public, table: x, filters: [], select: nil]`,
		`{"event":"delete","schema":"public"}`:                      `[event: DELETE, schema: public, table: *, filters: [], select: nil]`,
		`{"schema":"*","table":"x"}`:                                `[event: *, schema: *, table: x, filters: [], select: nil]`,
		`{"schema":"s","table":"x","filter":"c=eq.1"}`:              `[event: *, schema: s, table: x, filters: [{"c", "eq", "1", false}], select: nil]`,
		`{"schema":"s","table":"x","select":["a","b"]}`:             `[event: *, schema: s, table: x, filters: [], select: ["a", "b"]]`,
		`{"schema":"s","table":"x","filter":"c=in.(hidee,ho)"}`:     `[event: *, schema: s, table: x, filters: [{"c", "in", "{hidee,ho}", false}], select: nil]`,
		`{"schema":"s","table":"x","filter":"c=in.(\"a,b\",null)"}`: `[event: *, schema: s, table: x, filters: [{"c", "in", "{\"a,b\",\"null\"}", false}], select: nil]`,
		`{"schema":"s","table":"x","filter":"c=not.like.a%,d=gt.#{2}\\\\\""}`: `[event: *, schema: s, table: x, ` +
			`filters: [{"c", "like", "a%", true}, {"d", "gt", "\#{2}\\\\\"", false}], select: nil]`,
	} {
		e, err := parseOne(t, object)
		if got := e.Describe(); err != nil || got != want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", object, err, got, want)
		}
	}
	e := Entry{Events: AnyEvent, Schema: "public", Table: "x"}
	if want := "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: " +
		"[event: *, schema: public, table: x, filters: [], select: nil]"; e.Unavailable() != want {
		t.Error(e.Unavailable())
	}
	if want := "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: " +
		"[event: *, schema: public, table: x, filters: [], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter y"; e.Refused("ERROR P0001 (raise_exception) invalid column for filter y") != want {
		t.Error(e.Refused("y"))
	}
}

func TestNamesAreExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e             Entry
		schema, table string
		want          bool
	}{
		{Entry{Schema: "public", Table: "user_data"}, "public", "user_data", true},
		{Entry{Schema: "public", Table: "user_data"}, "public", "userXdata", false},
		{Entry{Schema: "public", Table: "%"}, "public", "x", false},
		{Entry{Schema: "public", Table: "x"}, "public", "X", false},
		{Entry{Schema: "public"}, "public", "x", true},
		{Entry{Schema: "public"}, "publi", "x", false},
		{Entry{Table: "x"}, "other", "x", true},
		{Entry{Table: "x"}, "other", "y", false},
		{Entry{}, "other", "y", true},
	} {
		if got := c.e.Matches(c.schema, c.table); got != c.want {
			t.Errorf("%+v matches %s.%s: %t", c.e, c.schema, c.table, got)
		}
	}
}

func TestOneBadEntryFailsAll(t *testing.T) {
	t.Parallel()
	entries, err := ParseEntries([][]byte{[]byte(`{"table":"x"}`), []byte(`{}`), []byte(`{"table":"y"}`)}, []int{1, 2, 3})
	if err == nil || entries != nil {
		t.Errorf("got %+v, %v", entries, err)
	}
	entries, err = ParseEntries([][]byte{[]byte(`{"table":"x"}`), []byte(`{"table":"y"}`)}, []int{1, 2})
	if err != nil || entries[0].ID != 1 || entries[1].ID != 2 || entries[1].Table != "y" {
		t.Errorf("got %+v, %v", entries, err)
	}
}

func FuzzParseEntries(f *testing.F) {
	for _, seed := range []string{
		`{"event":"*","schema":"public","table":"x","filter":"a=in.(1,\"b\\\"c\",),b=not.is.null","select":["a"],"snapshot":true,"numbers":"string"}`,
		`{"schema":"s","table":"x","filter":"a=eq.\"x,y\",c=match.(a|b)(,)\""}`, `{"table":"x","filter":"\",(\\"}`, `{"schema":{"a":[1e9,null]}}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		entries, err := ParseEntries([][]byte{object}, []int{1})
		if err != nil {
			if err.Error() == "" || entries != nil {
				t.Fatalf("%q: error %q and %+v", object, err, entries)
			}
			return
		}
		e := entries[0]
		if e.Events == 0 || len(e.Filter) > maxConditions || (e.Select != nil || e.Snapshot) && (e.Schema == "" || e.Table == "") {
			t.Fatalf("%q is %+v", object, e)
		}
		for _, c := range e.Filter {
			if len(c.Values) > maxValues || (c.Op == In) != (c.Values != nil) {
				t.Fatalf("%q has condition %+v", object, c)
			}
			for _, column := range []*Type{{Base: oidInt4}, {Base: oidOID}, {Base: oidBool}, {Base: oidUUID}, {Base: oidText, Exact: true}} {
				if matches := c.Compile(column); matches != nil {
					matches([]byte("1"), false)
					matches(nil, true)
				}
			}
		}
		e.Describe()
	})
}
