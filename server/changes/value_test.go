package changes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rowcast/server/pgtest"
)

// catalogType is what the catalogs say of a type, as SQL spells it.
func catalogType(t *testing.T, conn *pgx.Conn, name string) *Type {
	t.Helper()
	return typeByOID(t, conn, answerOf[uint32](t, conn, `select $1::regtype::oid`, name))
}

func typeByOID(t *testing.T, conn *pgx.Conn, oid uint32) *Type {
	t.Helper()
	typ := Type{OID: oid}
	var elem uint32
	var delimiter string
	err := conn.QueryRow(t.Context(), `
		with recursive below as (
			select oid, typtype, typbasetype, 0 as depth from pg_type where oid = $1
			union all
			select t.oid, t.typtype, t.typbasetype, depth + 1 from below join pg_type t on t.oid = below.typbasetype where below.typtype = 'd'
		), base as (select t.* from below join pg_type t using (oid) order by depth desc limit 1)
		select t.typname, base.oid, case when base.typsubscript = 'array_subscript_handler'::regproc then base.typelem else 0 end, t.typdelim::text,
			base.typtype = 'c' or base.oid >= 16384 and exists (select from pg_cast where castsource = base.oid and casttarget = 'json'::regtype)
		from pg_type t, base where t.oid = $1`, oid).Scan(&typ.Name, &typ.Base, &elem, &delimiter, &typ.Exotic)
	if err != nil {
		t.Fatalf("type %d: %v", oid, err)
	}
	typ.Delimiter = delimiter[0]
	if elem != 0 {
		typ.Elem = typeByOID(t, conn, elem)
	}
	return &typ
}

func answerOf[T any](t *testing.T, conn *pgx.Conn, question string, args ...any) (answer T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), question, args...).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return answer
}

// asWAL connects with the settings that the stream of the WAL has.
func asWAL(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.New(t).AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	runSQL(t, conn, `set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; set extra_float_digits = 1`)
	return conn
}

func runSQL(t *testing.T, conn *pgx.Conn, statements string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// awkwardTexts that are hard to quote.
var awkwardTexts = []string{
	"", " ", "a", "NULL", "null", "{}", "{a,b}", "a,b", ";", `"`, `\`, `\"`, `\\`, `""`, "a\"b\\c,d{e}f;g h", "\b\f\n\r\t\v\x01\x1f\x7f", "é", "😀", "\u2028\u2029", "</script>&",
	"\uffff\ufeff", " lead", "trail ", "[0:1]={1,2}", strings.Repeat("long ", 1000),
}

var valuesOf = map[string][]string{
	"bool": {"t", "f"}, "int2": {"0", "-32768", "32767"}, "int4": {"0", "-2147483648", "2147483647"},
	"int8": {"0", "-9223372036854775808", "9223372036854775807", "9007199254740993"}, "oid": {"0", "4294967295"}, "xid": {"3"}, "xid8": {"18446744073709551615"}, "cid": {"7"},
	"float4":        {"0", "-0", "1.5", "1e-5", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", "0.1"},
	"float8":        {"0", "-0", "1.5", "1e-5", "1.7976931348623157e308", "5e-324", "NaN", "Infinity", "-Infinity", "0.1", "1e15", "1e16", "123456789.123456789"},
	"numeric":       {"0", "-0", "1.50", "0.00000000000000000001", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.123456789", "1e100", "1e-20", "-7.0"},
	"numeric(10,2)": {"1", "-99999999.99", "0.005"},
	"money":         {"1.5", "-1234567.89"},
	"text":          awkwardTexts, "varchar": awkwardTexts, "name": {"", "a b", `"q"`, "NULL"}, "bpchar": {"a ", "", " b"}, "varchar(5)": {"abcde"}, "char(5)": {"ab", ""}, `"char"`: {"a", "", ","},
	"bytea":          {"", `\x00`, `\x0102030405`, `\xdeadbeef`, "abc"},
	"uuid":           {"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"},
	"date":           {"2020-02-29", "0044-03-15 BC", "infinity", "-infinity", "5874897-12-31", "0001-01-01"},
	"time":           {"00:00", "24:00", "12:34:56.789", "23:59:59.999999"},
	"timetz":         {"00:00+00", "12:34:56.7-08:30", "23:59:59+15:59"},
	"timestamp":      {"2020-02-29 12:34:56", "2020-01-01 00:00:00.100", "0044-03-15 01:02:03 BC", "infinity", "-infinity", "294276-12-31 23:59:59.999999", "1999-12-31 23:59:59.000001"},
	"timestamp(0)":   {"2020-01-01 00:00:00.6"},
	"timestamptz":    {"2020-02-29 12:34:56+05:30", "2020-01-01 00:00:00.100-11", "0044-03-15 01:02:03.5 BC", "infinity", "-infinity", "294276-12-31 23:59:59.999999", "0001-01-01 00:00:00+00"},
	"timestamptz(3)": {"2020-01-01 00:00:00.123456+01"},
	"interval":       {"0", "1 year 2 mons -3 days 04:05:06.7", "-1 day"},
	"json":           {"null", "1", "-1.50e3", "true", `"a\u00e9\n\"b"`, "[]", "{}", " [1 , {\"b\":2,\n\"a\":[null]}] ", `{"deep":[[[{"x":"<&>"}]]]}`, `"😀"`, "12345678901234567890.123"},
	"jsonb":          {"null", "1", "-1.50e3", "false", `"a\u00e9\n\"b"`, "[]", "{}", `[1,{"b":2,"a":[null]}]`, `{"a":1,"a":2}`, "1e30", `"\u001f"`},
	"jsonpath":       {`$.a ? (@.b == "x,y")`}, "xml": {`<a b="c">d</a>`},
	"inet": {"127.0.0.1", "10.0.0.0/8", "::1", "fe80::/10"}, "cidr": {"10.0.0.0/8", "::1/128"}, "macaddr": {"08:00:2b:01:02:03"}, "macaddr8": {"08:00:2b:01:02:03:04:05"},
	"bit(3)": {"101"}, "varbit": {"", "1", "10110"},
	"point": {"(1,2)", "(NaN,-1e300)"}, "line": {"{1,2,3}"}, "lseg": {"[(1,2),(3,4)]"}, "box": {"(3,4),(1,2)", "(0,0),(0,0)"}, "path": {"[(1,2),(3,4)]", "((1,2),(3,4))"},
	"polygon": {"((1,2),(3,4),(5,6))"}, "circle": {"<(1,2),3>"},
	"tsvector": {"", "'a' 'b''c':1A,2", `'x\\y'`}, "tsquery": {"'a' & !'b c':A", ""},
	"int4range": {"[1,5)", "empty", "(,)"}, "int8range": {"[1,9223372036854775807)"}, "numrange": {"[1.50,2]"}, "daterange": {"[2020-01-01,infinity)"},
	"tsrange": {`["2020-01-01 00:00","2020-01-02 00:00"]`}, "tstzrange": {`["2020-01-01 00:00+02",)`, "empty"}, "int4multirange": {"{}", "{[1,3),[5,7)}"}, "tstzmultirange": {`{["2020-01-01 00:00+02",)}`},
	"pg_lsn": {"0/0", "16/B374D848"}, "pg_snapshot": {"10:20:10,14,15"}, "tid": {"(0,1)"}, "refcursor": {`a"b`}, "regclass": {"pg_class", "pg_catalog.pg_type"}, "regtype": {"integer", "text[]"},
	"mood": {"sad", "very happy", `od"d,`, "NULL"}, "big": {"9223372036854775807"}, "bigs": {"{1,NULL,9223372036854775807}", "{}"}, "bigger": {"5"}, "instant": {"2020-01-01 00:00:00+00"},
	"shout": {"a,b"}, "blobs": {`{"\\x01","\\x"}`}, "flag": {"t"}, "doc": {`{"b": 1}`}, "span": {"[a,b)"},
}

const userTypes = `
	create type mood as enum ('sad', 'very happy', 'od"d,', 'NULL');
	create domain big as int8; create domain bigger as big check (value > 0); create domain bigs as int8[]; create domain instant as timestamptz;
	create domain shout as text check (value <> 'x'); create domain blobs as bytea[]; create domain flag as bool; create domain doc as json;
	create type span as range (subtype = text);
	create type pair as (a int, b text); create domain pairs as pair[];
	create type level as enum ('low');
	create function level_json(level) returns json language sql as 'select to_json(7)';
	create cast (level as json) with function level_json(level)`

// TestJSONIsThatOfPostgres compares with to_jsonb.
func TestJSONIsThatOfPostgres(t *testing.T) {
	t.Parallel()
	conn := asWAL(t)
	runSQL(t, conn, userTypes)
	compared := 0
	for name, values := range allValues() {
		if name == "xml" && !hasXML(t, conn) {
			continue
		}
		typ := catalogType(t, conn, name)
		compared += compareJSON(t, conn, name, typ, `select format('%s', v), to_jsonb(v)::text from unnest($1::text[]) s cross join lateral (select s::`+name+` v) x`, values)
		of := strings.SplitN(name, "(", 2)[0] + "[]"
		array := catalogType(t, conn, of)
		nested := ""
		if typ.Elem == nil { // an array of a domain of arrays has no more dimensions
			nested = `union all select array[a, a] from given union all select array[array[a, a], array[a, a]] from given`
		}
		compared += compareJSON(t, conn, of, array, `
			with given as (select $1::text[]::`+of+` a), many as (
				select a from given union all select a || null::`+name+` from given union all select '{}' from given
				union all select ('[-1:' || cardinality(a) - 2 || ']=' || format('%s', a))::`+of+` from given `+nested+`)
			select format('%s', a), to_jsonb(a)::text from many`, values)
	}
	t.Logf("%d values of %d types", compared, len(valuesOf))
}

func compareJSON(t *testing.T, conn *pgx.Conn, name string, typ *Type, question string, values []string) (compared int) {
	t.Helper()
	rows, err := conn.Query(t.Context(), question, values)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text, want string
		if err := rows.Scan(&text, &want); err != nil {
			t.Fatal(err)
		}
		got, ok := AppendJSON([]byte("x"), typ, []byte(text), false)
		if !ok || got[0] != 'x' || !sameJSON(t, typ, string(got[1:]), want) {
			t.Errorf("%s %s: got %s (%t), want %s", name, text, got, ok, want)
		}
		compared++
	}
	if err := rows.Err(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return compared
}

func hasXML(t *testing.T, conn *pgx.Conn) bool {
	_, err := conn.Exec(t.Context(), `select '<a/>'::xml`)
	var missing *pgconn.PgError
	if errors.As(err, &missing) && missing.Code == "0A000" { // not built in
		return false
	}
	return true
}

// allValues adds random ones to those that somebody thought of.
func allValues() map[string][]string {
	all := maps.Clone(valuesOf)
	add := func(name string, value func() string) {
		all[name] = slices.Clip(all[name])
		for range 100 {
			all[name] = append(all[name], value())
		}
	}
	const letters = "ab ,;{}[]()\"'\\\n\t\x01NUL01=:é😀"
	runes := []rune(letters)
	text := func() string {
		var b strings.Builder
		for range rand.IntN(12) {
			b.WriteRune(runes[rand.IntN(len(runes))])
		}
		return b.String()
	}
	add("text", text)
	add("varchar", text)
	add("json", func() string { return string(mustMarshal(map[string]any{text(): []any{text(), rand.Float64()}})) })
	add("jsonb", func() string { return string(mustMarshal([]any{text(), map[string]any{text(): rand.Int64()}})) })
	add("bytea", func() string { return fmt.Sprintf(`\x%x`, text()) })
	add("int8", func() string { return strconv.FormatInt(int64(rand.Uint64()), 10) })
	add("float4", func() string { return fmt.Sprint(math.Float32frombits(rand.Uint32() & 0xbf7fffff)) })
	add("float8", func() string { return fmt.Sprint(math.Float64frombits(rand.Uint64() & 0xbfefffffffffffff)) })
	add("numeric", func() string {
		n := new(big.Int).Lsh(big.NewInt(rand.Int64()), uint(rand.IntN(200)))
		return fmt.Sprintf("%s.%0*d", n, 1+rand.IntN(20), rand.IntN(1000))
	})
	moment := func() string {
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%06d%+03d", 1+rand.IntN(9999), 1+rand.IntN(12), 1+rand.IntN(28), rand.IntN(24), rand.IntN(60), rand.IntN(60), rand.IntN(1e6), rand.IntN(29)-14)
	}
	for _, name := range []string{"timestamp", "timestamptz", "date", "timetz", "time"} {
		add(name, func() string {
			if name[:4] == "time" && name != "timestamp" && name != "timestamptz" {
				return moment()[11:]
			}
			if text := moment(); text < "4000" {
				return text + " BC"
			} else {
				return text
			}
		})
	}
	return all
}

func mustMarshal(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

// sameJSON compares what clients will read. Numbers have the same digits, but those that came in another form: floats, and
// those in json.
func sameJSON(t *testing.T, typ *Type, got, want string) bool {
	t.Helper()
	for typ.Elem != nil {
		typ = typ.Elem
	}
	if typ.Base == oidBytea {
		want = strings.ReplaceAll(want, `"\\x`, `"`)
	}
	normal := func(number json.Number) any { return number }
	if typ.Base == oidFloat4 || typ.Base == oidFloat8 || typ.Base == oidJSON {
		normal = func(number json.Number) any {
			rational, ok := new(big.Rat).SetString(string(number))
			if !ok {
				t.Fatalf("number %s", number)
			}
			return rational.RatString()
		}
	}
	return reflect.DeepEqual(readJSON(t, got, normal), readJSON(t, want, normal))
}

func readJSON(t *testing.T, text string, normal func(json.Number) any) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil || !json.Valid([]byte(text)) {
		t.Fatalf("%s: %v", text, err)
	}
	var walk func(any) any
	walk = func(value any) any {
		switch value := value.(type) {
		case json.Number:
			return normal(value)
		case []any:
			for i := range value {
				value[i] = walk(value[i])
			}
		case map[string]any:
			for key := range value {
				value[key] = walk(value[key])
			}
		}
		return value
	}
	return walk(value)
}

// What only Postgres knows is left to it, with nothing appended.
func TestJSONThatOnlyPostgresKnows(t *testing.T) {
	t.Parallel()
	conn := asWAL(t)
	runSQL(t, conn, userTypes)
	for _, c := range []struct{ name, text string }{
		{"pair", "(1,a)"}, {"pair[]", `{"(1,a)"}`}, {"pairs", `{"(1,a)"}`}, {"level", "low"}, {"level[]", "{NULL,low}"},
		{"bytea", "abc"}, {"bytea[]", `{"\\x00",abc}`}, {"bool", "maybe"}, {"int4[]", "{1"}, {"json", ""},
		{"int2vector", "1 2"}, {"oidvector", ""}, {"oidvector[]", `{"1 2"}`}, // arrays that do not look like it
	} {
		if got, ok := AppendJSON([]byte("x"), catalogType(t, conn, c.name), []byte(c.text), false); ok || string(got) != "x" {
			t.Errorf("%s %s: got %s (%t)", c.name, c.text, got, ok)
		}
	}
	if got, ok := AppendJSON(nil, catalogType(t, conn, "level[]"), []byte("{NULL}"), false); !ok || string(got) != "[null]" {
		t.Errorf("no value of it: got %s (%t)", got, ok)
	}
}

func TestNumbersAsText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ        *Type
		text, want string
	}{
		{&Type{Base: oidInt8}, "9007199254740993", `"9007199254740993"`},
		{&Type{Base: oidNumeric}, "1.50", `"1.50"`},
		{&Type{Base: oidNumeric}, "NaN", `"NaN"`},
		{&Type{Elem: &Type{Base: oidInt8}}, "{{1,NULL},{2,3}}", `[["1",null],["2","3"]]`},
		{&Type{Elem: &Type{Base: oidNumeric}}, "[0:1]={1.0,NaN}", `["1.0","NaN"]`},
		{&Type{Base: oidInt4}, "7", `7`},
		{&Type{Base: oidFloat8}, "1e+300", `1e+300`},
		{&Type{Base: oidJSONB}, `{"a": 9007199254740993}`, `{"a": 9007199254740993}`},
	} {
		if got, ok := AppendJSON(nil, c.typ, []byte(c.text), true); !ok || string(got) != c.want {
			t.Errorf("%+v %s: got %s (%t), want %s", c.typ, c.text, got, ok, c.want)
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	for _, seed := range []string{
		`{1,NULL,"a \"b\\"}`, `[0:1][-1:0]={{1,2},{3,NULL}}`, `{}`, `{{}}`, `{"}`, `{1;2}`, `{a`, `{,}`, `{"\\x00"}`, `[=`, `{{{{{{{1}}}}}}}`, "1 2 3", `\x00ff`, "2020-01-01 00:00:00+00 BC", "-1e+30", "01", "\xff",
	} {
		for kind := range byte(12) {
			f.Add(kind, []byte(seed))
			f.Add(kind+64, []byte(seed))
		}
	}
	bases := []uint32{oidText, oidInt8, oidFloat8, oidBool, oidBytea, oidTimestampTZ, oidTimestamp}
	f.Fuzz(func(t *testing.T, kind byte, text []byte) {
		typ := &Type{Base: bases[int(kind)%len(bases)], Delimiter: ",;"[kind%2]}
		if kind >= 64 {
			typ = &Type{Base: firstUserOID, Elem: typ}
		}
		before := bytes.Clone(text)
		out, ok := AppendJSON([]byte("["), typ, text, kind%3 == 0)
		if !bytes.Equal(text, before) {
			t.Fatalf("%q has become %q", before, text)
		}
		if !ok && string(out) != "[" || ok && !json.Valid(append(out, ']')) {
			t.Fatalf("%q of %+v: %q (%t)", text, typ, out, ok)
		}
	})
}
