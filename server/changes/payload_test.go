package changes

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"rowcast/server/protocol"
	"rowcast/server/wal"
)

var (
	int4Type    = &Type{Name: "int4", Base: oidInt4}
	int8Type    = &Type{Name: "int8", Base: oidInt8}
	textType    = &Type{Name: "text", Base: oidText}
	goldenTable = &Table{Schema: "public", Name: "rooms", Key: []string{"id"}, Columns: []Column{
		{Name: "id", Type: int8Type}, {Name: "na\"me", Type: textType}, {Name: "tags", Type: &Type{Name: "_numeric", Elem: &Type{Name: "numeric", Base: oidNumeric}}},
		{Name: "pair", Type: &Type{Name: "pair", Base: firstUserOID, Exotic: true}}, {Name: "n", Type: int4Type},
	}}
	goldenTime = time.Date(2026, 3, 1, 13, 4, 5, 67_999_999, time.FixedZone("", 3600))
)

// rowOf gives texts as they are, but for NULL and what has no text: "unchanged", "too large", "not there".
func rowOf(texts ...string) []wal.Value {
	values := make([]wal.Value, len(texts))
	for i, text := range texts {
		switch text {
		case "NULL":
			values[i].Kind = wal.Null
		case "unchanged":
			values[i].Kind = wal.Unchanged
		case "too large":
			values[i].Kind = wal.TooLarge
		case "not there":
			values[i].Kind = NotThere
		default:
			values[i] = wal.Value{Kind: wal.Text, Text: []byte(text)}
		}
	}
	return values
}

func TestData(t *testing.T) {
	t.Parallel()
	const (
		head   = `{"schema":"public","table":"rooms","type":"`
		stamp  = `","commit_timestamp":"2026-03-01T12:04:05.067Z","columns":`
		narrow = `[{"name":"id","type":"int8"},{"name":"na\"me","type":"text"}]`
		all    = `[{"name":"id","type":"int8"},{"name":"na\"me","type":"text"},{"name":"tags","type":"_numeric"},{"name":"pair","type":"pair"},{"name":"n","type":"int4"}]`
	)
	five := []int{0, 1, 2, 3, 4}
	rendered := func(column int, old bool) []byte {
		if column != 3 {
			return nil
		}
		if old {
			return []byte(`{"a":"old"}`)
		}
		return []byte(`{"a":"new"}`)
	}
	for name, c := range map[string]struct {
		DataChange
		want string
	}{
		"insert": {
			DataChange{Kind: wal.Insert, Columns: five, New: rowOf("9007199254740993", "a\n", "{1.50,NULL}", "(x)", "NULL"), Rendered: rendered},
			head + "INSERT" + stamp + all + `,"record":{"id":9007199254740993,"na\"me":"a\n","tags":[1.50,null],"pair":{"a":"new"},"n":null},"errors":null}`,
		},
		"insert, numbers as text": {
			DataChange{Kind: wal.Insert, Columns: []int{0, 2, 4}, New: rowOf("9007199254740993", "", "{1.50}", "", "7"), NumbersAsText: true},
			head + "INSERT" + stamp + `[{"name":"id","type":"text"},{"name":"tags","type":"_text"},{"name":"n","type":"int4"}]` +
				`,"record":{"id":"9007199254740993","tags":["1.50"],"n":7},"errors":null}`,
		},
		"insert, under another name": {
			DataChange{Kind: wal.Insert, Name: Name{"s", "ro\"oms"}, Columns: []int{4}, New: rowOf("1", "", "{}", "", "7")},
			`{"schema":"s","table":"ro\"oms","type":"INSERT` + stamp + `[{"name":"n","type":"int4"}],"record":{"n":7},"errors":null}`,
		},
		"update, the key is as it was": {
			DataChange{Kind: wal.Update, Columns: []int{0, 1}, OldColumns: []int{0}, New: rowOf("1", "b", "{}", "(x)", "7")},
			head + "UPDATE" + stamp + narrow + `,"record":{"id":1,"na\"me":"b"},"old_record":{"id":1},"errors":null}`,
		},
		"update, the key changed": {
			DataChange{Kind: wal.Update, Columns: []int{0, 1}, OldColumns: []int{0}, New: rowOf("2", "b", "{}", "", "7"), Old: rowOf("1", "not there", "not there", "not there", "not there")},
			head + "UPDATE" + stamp + narrow + `,"record":{"id":2,"na\"me":"b"},"old_record":{"id":1},"errors":null}`,
		},
		"update, all of the old row is known": {
			DataChange{Kind: wal.Update, Columns: five, OldColumns: five, New: rowOf("1", "b", "{}", "(x)", "NULL"), Old: rowOf("1", "a", "NULL", "(x)", "7"), Rendered: rendered},
			head + "UPDATE" + stamp + all + `,"record":{"id":1,"na\"me":"b","tags":[],"pair":{"a":"new"},"n":null},` +
				`"old_record":{"id":1,"na\"me":"a","tags":null,"pair":{"a":"old"},"n":7},"errors":null}`,
		},
		"update, unchanged values are in the old row": {
			DataChange{Kind: wal.Update, Columns: five, OldColumns: []int{0}, New: rowOf("1", "unchanged", "unchanged", "unchanged", "7"), Old: rowOf("1", "long", "NULL", "(x)", "7"), Rendered: rendered},
			head + "UPDATE" + stamp + all + `,"record":{"id":1,"na\"me":"long","tags":null,"pair":{"a":"old"},"n":7},"old_record":{"id":1},"errors":null}`,
		},
		"update, unchanged values are not known": {
			DataChange{Kind: wal.Update, Columns: []int{0, 1, 4}, OldColumns: []int{0}, New: rowOf("1", "unchanged", "unchanged", "unchanged", "7")},
			head + "UPDATE" + stamp + `[{"name":"id","type":"int8"},{"name":"na\"me","type":"text"},{"name":"n","type":"int4"}],"record":{"id":1,"n":7},"old_record":{"id":1},"errors":null}`,
		},
		"update, unchanged values are not part of the key": {
			DataChange{Kind: wal.Update, Columns: []int{0, 1}, OldColumns: []int{0}, New: rowOf("2", "unchanged", "", "", ""), Old: rowOf("1", "not there", "not there", "not there", "not there")},
			head + "UPDATE" + stamp + narrow + `,"record":{"id":2},"old_record":{"id":1},"errors":null}`,
		},
		"update, unchanged values that Postgres was asked for": {
			DataChange{Kind: wal.Update, Columns: []int{3}, OldColumns: []int{}, New: rowOf("1", "", "", "unchanged", "7"), Rendered: rendered},
			head + "UPDATE" + stamp + `[{"name":"pair","type":"pair"}],"record":{"pair":{"a":"new"}},"old_record":{},"errors":null}`,
		},
		"a generated column": {
			DataChange{Kind: wal.Insert, Columns: []int{0, 1}, New: rowOf("1", "not there", "", "", "")},
			head + "INSERT" + stamp + narrow + `,"record":{"id":1},"errors":null}`,
		},
		"delete": {
			DataChange{Kind: wal.Delete, Columns: []int{0, 1}, OldColumns: []int{0}, Old: rowOf("1", "not there", "not there", "not there", "not there")},
			head + "DELETE" + stamp + narrow + `,"old_record":{"id":1},"errors":null}`,
		},
		"delete, all is known": {
			DataChange{Kind: wal.Delete, Columns: []int{0, 1}, OldColumns: []int{0, 1}, Old: rowOf("1", "a", "NULL", "(x)", "7")},
			head + "DELETE" + stamp + narrow + `,"old_record":{"id":1,"na\"me":"a"},"errors":null}`,
		},
		"delete, nothing is known": {
			DataChange{Kind: wal.Delete, Columns: []int{0, 1}, OldColumns: []int{0}},
			head + "DELETE" + stamp + narrow + `,"old_record":{},"errors":null}`,
		},
		"a row that is too large": {
			DataChange{Kind: wal.Update, Columns: []int{0, 1}, OldColumns: []int{0, 1}, New: rowOf("1", "too large", "", "", ""), Old: rowOf("1", "too large", "", "", ""), Errors: []string{ErrorTooLarge}},
			head + "UPDATE" + stamp + narrow + `,"record":{"id":1},"old_record":{"id":1},"errors":["Error 413: Payload Too Large"]}`,
		},
		"two errors": {
			DataChange{Kind: wal.Insert, New: rowOf(), Errors: []string{"a", "b"}},
			head + "INSERT" + stamp + `[],"record":{},"errors":["a","b"]}`,
		},
	} {
		c.Table, c.Committed = goldenTable, goldenTime
		if c.Name == (Name{}) {
			c.Name = Name{goldenTable.Schema, goldenTable.Name}
		}
		got, err := AppendData([]byte("x"), c.DataChange)
		if err != nil || string(got) != "x"+c.want || !json.Valid(got[1:]) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, c.want)
		}
	}
}

func TestDataThatOnlyPostgresCanRender(t *testing.T) {
	t.Parallel()
	c := DataChange{Table: goldenTable, Kind: wal.Insert, Columns: []int{0, 3}, New: rowOf("1", "", "{}", "(x)", "7")}
	for _, c.Rendered = range []func(int, bool) []byte{nil, func(int, bool) []byte { return nil }} {
		got, err := AppendData(nil, c)
		if err == nil || got != nil || !strings.Contains(err.Error(), "render column pair of public.rooms") {
			t.Errorf("got %s, %v", got, err)
		}
	}
}

func TestRefusedData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind   wal.Kind
		reason string
		want   string
	}{
		{wal.Insert, ErrorNoKey, `"INSERT","commit_timestamp":null,"columns":[],"record":{},"errors":["Error 400: Bad Request, no primary key"]}`},
		{wal.Insert, ErrorUnauthorized, `"INSERT","commit_timestamp":null,"columns":[],"record":{},"errors":["Error 401: Unauthorized"]}`},
		{wal.Update, ErrorUnauthorized, `"UPDATE","commit_timestamp":null,"columns":[],"record":{},"old_record":{},"errors":["Error 401: Unauthorized"]}`},
		{wal.Delete, ErrorUnauthorized, `"DELETE","commit_timestamp":null,"columns":[],"old_record":{},"errors":["Error 401: Unauthorized"]}`},
	} {
		if got := AppendRefused(nil, Name{"public", "rooms"}, c.kind, c.reason); string(got) != `{"schema":"public","table":"rooms","type":`+c.want || !json.Valid(got) {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	if got := string(Payload([]int{7, 134217727}, []byte(`{"schema":"s"}`))); got != `{"ids":[7,134217727],"data":{"schema":"s"}}` {
		t.Error(got)
	}
	frame := protocol.TextEvent("realtime:a", "postgres_changes", Payload([]int{7}, AppendRefused(nil, Name{"s", "t"}, wal.Delete, ErrorNoKey)))
	if got := string(frame.Bytes(protocol.V2)); !strings.HasSuffix(got, `[null,null,"realtime:a","postgres_changes",{"ids":[7],"data":{"schema":"s","table":"t","type":"DELETE",`+
		`"commit_timestamp":null,"columns":[],"old_record":{},"errors":["Error 400: Bad Request, no primary key"]}}]`) {
		t.Error(got)
	}
}
