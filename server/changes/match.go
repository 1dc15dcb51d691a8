package changes

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Matcher decides a condition about a value, which is in the text form that the WAL has it in.
type Matcher func(text []byte, null bool) (matches bool)

// Compile gives a Matcher for a condition on a column of this type, or nil where only Postgres can compare, or where the
// spelling of the value is one that only Postgres reads. The values must be acceptable to Postgres for the type.
//
// A NULL matches what is and isdistinct say of it, and nothing else; not. turns true into false and false into true. That
// leaves one oddity of SQL: nothing is in an empty list, and this is so for NULL too.
func (c Condition) Compile(t *Type) Matcher {
	if c.Op == Is {
		return c.compileIs(t)
	}
	switch {
	case t.Elem != nil || t.Exotic:
		return nil
	case t.Base == oidInt2 || t.Base == oidInt4 || t.Base == oidInt8:
		return compileOrdered(c, parseInt, parseColumnInt)
	case t.Base == oidOID:
		return compileOrdered(c, parseOID, parseColumnOID)
	case t.Base == oidUUID:
		return compileEqual(c, parseUUID)
	case t.Base == oidBool:
		return compileEqual(c, parseBool)
	case t.sameText():
		return compileEqual(c, func(value string) (string, bool) { return value, true })
	}
	return nil
}

// compileIs: unknown is what a boolean that is NULL is called. Of a composite value Postgres looks at the fields.
func (c Condition) compileIs(t *Type) Matcher {
	composite := t.Exotic && t.Elem == nil
	switch {
	case c.Value == "null" && !composite, c.Value == "unknown" && t.Base == oidBool:
		return func(_ []byte, null bool) bool { return null != c.Not }
	case t.Base == oidBool && (c.Value == "true" || c.Value == "false"):
		want := c.Value[:1]
		return func(text []byte, null bool) bool { return (!null && string(text) == want) != c.Not }
	}
	return nil
}

// compileEqual is for types whose values have one text each, which is how canonical spells an operand.
func compileEqual(c Condition, canonical func(string) (string, bool)) Matcher {
	given := c.operands()
	operands := make([][]byte, len(given))
	for i, value := range given {
		text, ok := canonical(value)
		if !ok {
			return nil
		}
		operands[i] = []byte(text)
	}
	equal := func(text []byte) bool {
		return slices.ContainsFunc(operands, func(operand []byte) bool { return bytes.Equal(text, operand) })
	}
	switch c.Op {
	case Eq, In:
		return c.threeValued(equal)
	case Neq, IsDistinct:
		return c.threeValued(func(text []byte) bool { return !equal(text) })
	}
	return nil
}

// compileOrdered is for numbers: read parses the column's, operand what the subscriber wrote.
func compileOrdered[T cmp.Ordered](c Condition, operand func(string) (T, bool), read func([]byte) T) Matcher {
	given := c.operands()
	operands := make([]T, len(given))
	for i, value := range given {
		var ok bool
		if operands[i], ok = operand(value); !ok {
			return nil
		}
	}
	if c.Op == In {
		return c.threeValued(func(text []byte) bool { return slices.Contains(operands, read(text)) })
	}
	holds := map[Op]func(order int) bool{
		Eq:         func(order int) bool { return order == 0 },
		Neq:        func(order int) bool { return order != 0 },
		IsDistinct: func(order int) bool { return order != 0 },
		Lt:         func(order int) bool { return order < 0 },
		Lte:        func(order int) bool { return order <= 0 },
		Gt:         func(order int) bool { return order > 0 },
		Gte:        func(order int) bool { return order >= 0 },
	}[c.Op]
	if holds == nil {
		return nil
	}
	return c.threeValued(func(text []byte) bool { return holds(cmp.Compare(read(text), operands[0])) })
}

// threeValued adds NULL and not. to what is so of a value.
func (c Condition) threeValued(holds func([]byte) bool) Matcher {
	nullMatches := c.Op == IsDistinct && !c.Not || c.Op == In && len(c.Values) == 0 && c.Not
	return func(text []byte, null bool) bool {
		if null {
			return nullMatches
		}
		return holds(text) != c.Not
	}
}

func (c Condition) operands() []string {
	if c.Op == In {
		return c.Values
	}
	return []string{c.Value}
}

// space is what Postgres allows around numbers and booleans.
const space = " \t\n\v\f\r"

// parseInt reads decimal numbers. Newer versions of Postgres take others, too, and only they know which.
func parseInt(value string) (int64, bool) {
	n, err := strconv.ParseInt(strings.Trim(value, space), 10, 64)
	return n, err == nil
}

func parseColumnInt(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64) // as Postgres printed it
	return n
}

// parseOID leaves to Postgres what is negative, which wraps, and a zero at the front, which means octal to some versions.
func parseOID(value string) (uint64, bool) {
	value = strings.Trim(value, space)
	n, err := strconv.ParseUint(value, 10, 32)
	return n, err == nil && (value == "0" || value[0] != '0')
}

func parseColumnOID(text []byte) uint64 {
	n, _ := strconv.ParseUint(string(text), 10, 32)
	return n
}

// parseUUID reads any spelling: capitals, braces, hyphens or none.
func parseUUID(value string) (string, bool) {
	digits := strings.ToLower(strings.ReplaceAll(strings.Trim(value, "{}"), "-", ""))
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", false
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"), true
}

// parseBool reads the words that Postgres has for it, which may be cut short where that is no other's beginning.
func parseBool(value string) (string, bool) {
	value = strings.ToLower(strings.Trim(value, space))
	for text, words := range map[string][]string{"t": {"true", "yes", "on", "1"}, "f": {"false", "no", "off", "0"}} {
		for _, word := range words {
			if strings.HasPrefix(word, value) && value != "" && value != "o" {
				return text, true
			}
		}
	}
	return "", false
}
