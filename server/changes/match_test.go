package changes

import (
	"fmt"
	"strings"
	"testing"
)

// comparedColumn is a type, its values (as Postgres prints them; "NULL" is none), and what subscribers compare them with.
type comparedColumn struct {
	name     string
	exact    bool
	values   []string
	operands []string
}

var comparedColumns = []comparedColumn{
	{"int2", false, []string{"0", "-1", "32767", "7", "NULL"}, []string{"0", "-0", " +7\t", "007", "-32768"}},
	{"int4", false, []string{"0", "-1", "2147483647", "7", "NULL"}, []string{"0", "7", "-2147483648"}},
	{"int8", true, []string{"0", "-9223372036854775808", "9223372036854775807", "9007199254740993", "10", "9", "NULL"}, []string{"9223372036854775807", "9007199254740992", "9", "10"}},
	{"big", false, []string{"1", "NULL"}, []string{"1", "2"}},
	{"oid", false, []string{"0", "4294967295", "2147483648", "7", "NULL"}, []string{"0", "7", " 4294967295 "}},
	{"uuid", false, []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "NULL"},
		[]string{"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"}},
	{"bool", false, []string{"t", "f", "NULL"}, []string{"t", "TRUE", " tru ", "y", "yes", "on", "1", "f", "fal", "N", "no", "of", "off", "0"}},
	{"flag", false, []string{"t", "f", "NULL"}, []string{"true", "no"}},
	{"text", true, []string{"", "a", "A", "a ", "é", "NULL"}, []string{"", "a", "a ", " a", "é", "e\u0301", "null"}},
	{"varchar", true, []string{"", "a", "a ", "NULL"}, []string{"", "a", "a "}},
	{"shout", true, []string{"", "a", "NULL"}, []string{"", "a"}},
	{"mood", true, []string{"sad", "very happy", "NULL"}, []string{"sad", "very happy"}},
	{"int4[]", false, []string{"{1}", "{NULL}", "NULL"}, nil},
}

// TestConditionsAreWhatPostgresSays asks it about every value, operator and operand.
func TestConditionsAreWhatPostgresSays(t *testing.T) {
	t.Parallel()
	conn := asWAL(t)
	runSQL(t, conn, userTypes)
	infix := map[Op]string{Eq: "=", Neq: "<>", Lt: "<", Lte: "<=", Gt: ">", Gte: ">=", IsDistinct: "is distinct from"}
	compared := 0
	for _, c := range comparedColumns {
		typ := catalogType(t, conn, c.name)
		typ.Exact = c.exact
		for _, value := range c.values {
			check := func(condition Condition, expression string, operand any) {
				matches := condition.Compile(typ)
				if matches == nil {
					t.Errorf("%s %+v is not compiled", c.name, condition)
					return
				}
				if condition.Not {
					expression = "not (" + expression + ")"
				}
				want := answerOf[bool](t, conn, `select coalesce(`+expression+`, false) from (select nullif($1, 'NULL')::`+c.name+` v, $2::text[] o) x`, value, operand)
				if got := matches([]byte(value), value == "NULL"); got != want {
					t.Errorf("%s %s %+v: got %t", c.name, value, condition, got)
				}
				compared++
			}
			for _, not := range []bool{false, true} {
				for _, operand := range c.operands {
					for op, symbol := range infix {
						if ordered := op != Eq && op != Neq && op != IsDistinct; !ordered || c.ordered() {
							check(Condition{Not: not, Op: op, Value: operand}, "v "+symbol+" o[1]::"+c.name, []string{operand})
						}
					}
				}
				for n := range c.operands {
					check(Condition{Not: not, Op: In, Values: c.operands[n:]}, "v = any(o::"+c.name+"[])", c.operands[n:])
				}
				if c.operands != nil {
					check(Condition{Not: not, Op: In, Values: []string{}}, "v = any(o::"+c.name+"[])", []string{})
				}
				check(Condition{Not: not, Op: Is, Value: "null"}, "v is null", nil)
				if c.name == "bool" || c.name == "flag" {
					for _, word := range []string{"true", "false", "unknown"} {
						check(Condition{Not: not, Op: Is, Value: word}, "v is "+word, nil)
					}
				}
			}
		}
	}
	t.Logf("%d answers", compared)
}

func (c comparedColumn) ordered() bool {
	return strings.HasPrefix(c.name, "int") || c.name == "oid" || c.name == "big"
}

func TestConditionsForPostgres(t *testing.T) {
	t.Parallel()
	exact := func(base uint32) *Type { return &Type{Base: base, Exact: true} }
	for _, c := range []struct {
		typ *Type
		Condition
	}{
		{&Type{Base: oidText}, Condition{Op: Eq, Value: "a"}}, // of a collation in which others are equal to it
		{exact(oidText), Condition{Op: Lt, Value: "a"}},
		{exact(oidText), Condition{Op: Like, Value: "a"}},
		{exact(oidText), Condition{Op: ILike, Value: "a"}},
		{exact(oidText), Condition{Op: Match, Value: "a"}},
		{exact(oidText), Condition{Op: IMatch, Value: "a"}},
		{exact(1042), Condition{Op: Eq, Value: "a"}},        // char(n) takes spaces for nothing
		{exact(19), Condition{Op: Eq, Value: "a"}},          // name cuts what is too long
		{exact(1082), Condition{Op: Eq, Value: "2020-1-1"}}, // a date has many spellings
		{exact(oidNumeric), Condition{Op: Eq, Value: "1"}},  // and a number
		{&Type{Base: oidFloat8}, Condition{Op: Lt, Value: "1"}},
		{&Type{Base: oidTimestampTZ}, Condition{Op: Lt, Value: "now"}},
		{&Type{Base: oidUUID}, Condition{Op: Lt, Value: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
		{&Type{Base: oidUUID}, Condition{Op: Eq, Value: "a0eebc99"}},
		{&Type{Base: oidBool}, Condition{Op: Gt, Value: "f"}},
		{&Type{Base: oidBool}, Condition{Op: Eq, Value: "o"}},
		{&Type{Base: oidBool}, Condition{Op: Eq, Value: ""}},
		{&Type{Base: oidInt4}, Condition{Op: Eq, Value: "0x1f"}},
		{&Type{Base: oidInt4}, Condition{Op: In, Values: []string{"1", "1_000"}}},
		{&Type{Base: oidInt4}, Condition{Op: Like, Value: "1"}},
		{&Type{Base: oidOID}, Condition{Op: Eq, Value: "-1"}},
		{&Type{Base: oidOID}, Condition{Op: Eq, Value: "010"}},
		{&Type{Base: oidOID}, Condition{Op: Eq, Value: ""}},
		{&Type{Base: firstUserOID, Elem: &Type{Base: oidInt4}, Exact: true}, Condition{Op: Eq, Value: "{1}"}},
		{&Type{Base: firstUserOID, Exotic: true, Exact: true}, Condition{Op: Eq, Value: "a"}},
		{&Type{Base: firstUserOID, Exotic: true}, Condition{Op: Is, Value: "null"}}, // maybe a composite of NULLs
		{&Type{Base: oidText}, Condition{Op: Is, Value: "true"}},
		{&Type{Base: oidText}, Condition{Op: Is, Value: "unknown"}},
	} {
		if c.Compile(c.typ) != nil {
			t.Errorf("%+v: %+v is decided without Postgres", c.typ, c.Condition)
		}
	}
}

func ExampleCondition_Compile() {
	c := Condition{Column: "age", Not: true, Op: Lt, Value: "18"}
	matches := c.Compile(&Type{Name: "int4", OID: oidInt4, Base: oidInt4})
	fmt.Println(matches([]byte("21"), false), matches([]byte("7"), false), matches(nil, true))
	// Output: true false false
}
