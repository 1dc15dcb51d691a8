package changes

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxValues     = 100 // of in, as Supabase Realtime has it
	maxConditions = 50  // each costs work at every change, and a sensible filter has two or three
)

var operators = []Op{Eq, Neq, Lt, Lte, Gt, Gte, In, Is, IsDistinct, Like, ILike, Match, IMatch}

// parseFilter reads conditions that must all hold: column=[not.]op.value, separated by commas. A blank filter has none.
func parseFilter(filter string) ([]Condition, error) {
	filter = strings.TrimSpace(filter)
	if filter == "" {
		return nil, nil
	}
	segments := splitConditions(filter)
	if len(segments) > maxConditions {
		return nil, fmt.Errorf("too many conditions. Maximum %d", maxConditions)
	}
	conditions := make([]Condition, len(segments))
	for i, segment := range segments {
		var err error
		if conditions[i], err = parseCondition(strings.TrimSpace(segment)); err != nil {
			return nil, err
		}
	}
	return conditions, nil
}

// splitConditions splits at commas that are neither in parentheses nor in quotes. A quote opens where a value may begin, and
// nowhere else: it may be part of one.
func splitConditions(filter string) (segments []string) {
	depth, start, quoted := 0, 0, false
	before := byte(0)
	for i := 0; i < len(filter); i++ {
		c := filter[i]
		switch {
		case quoted && c == '\\':
			i++
		case quoted:
			quoted = c != '"'
		case c == '"' && (before == '.' || before == '(' || before == ','):
			quoted = true
		case c == '(':
			depth++
		case c == ')':
			depth = max(0, depth-1)
		case c == ',' && depth == 0:
			segments = append(segments, filter[start:i])
			start, c = i+1, 0
		}
		before = c
	}
	return append(segments, filter[start:])
}

// parseCondition names in its error what it could not make sense of, cut in two where that was possible.
func parseCondition(segment string) (Condition, error) {
	if segment == "" {
		return Condition{}, errors.New("filter must not contain empty segments (check for extra commas)")
	}
	column, rest, ok := strings.Cut(segment, "=")
	if !ok {
		return Condition{}, errors.New(inspectTexts([]string{segment}))
	}
	rest, not := strings.CutPrefix(rest, "not.")
	op, value, ok := strings.Cut(rest, ".")
	if !ok {
		return Condition{}, errors.New(inspectTexts([]string{rest}))
	}
	if !slices.Contains(operators, Op(op)) {
		return Condition{}, errors.New(inspectTexts([]string{op, value}))
	}
	c := Condition{Column: column, Not: not, Op: Op(op)}
	if c.Op != In {
		c.Value = unquote(value)
		return c, nil
	}
	if len(value) < 2 || value[0] != '(' || value[len(value)-1] != ')' {
		return Condition{}, errors.New("`in` filter value must be wrapped by parentheses")
	}
	var err error
	c.Values, err = splitValues(value[1 : len(value)-1])
	return c, err
}

// splitValues splits at commas that are not in quotes. Space around values is not part of them, unless quoted.
func splitValues(list string) ([]string, error) {
	values := []string{}
	if strings.TrimSpace(list) == "" {
		return values, nil
	}
	start, blank, quoted := 0, true, false
	for i := 0; i <= len(list); i++ {
		switch {
		case i == len(list) || !quoted && list[i] == ',':
			value := strings.TrimSpace(list[start:i])
			if value == "" {
				return nil, errors.New("`in` filter must not contain empty values (write \"\" for the empty text)")
			}
			values = append(values, unquote(value))
			start, blank = i+1, true
		case quoted && list[i] == '\\':
			i = min(i+1, len(list)-1)
		case list[i] == '"' && (quoted || blank):
			quoted, blank = !quoted, false
		default:
			blank = blank && strings.IndexByte(" \t\n\v\f\r", list[i]) >= 0
		}
	}
	return values, nil
}

// unquote takes the quotes off a value, and in them \x for x. What is not quoted from its first to its last character is
// taken as it is.
func unquote(value string) string {
	if len(value) < 2 || value[0] != '"' {
		return value
	}
	var text strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' && i == len(value)-1:
			return text.String()
		case c == '"':
			return value
		case c == '\\' && i+1 < len(value):
			i++
			text.WriteByte(value[i])
		default:
			text.WriteByte(c)
		}
	}
	return value
}

// literal is the value as messages show it: of in, as an array of Postgres.
func (c Condition) literal() string {
	if c.Op != In {
		return c.Value
	}
	values := make([]string, len(c.Values))
	for i, value := range c.Values {
		if values[i] = value; value == "" || strings.ContainsAny(value, "{},\"\\ \t\n\v\f\r") || strings.EqualFold(value, "null") {
			values[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		}
	}
	return "{" + strings.Join(values, ",") + "}"
}
