package aim

import (
	"errors"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tEnd tokenKind = iota
	tWord
	tQuoted // "identifier"
	tString
	tNumber
	tOperator // of the characters that operators are made of
	tMark     // one of ( ) [ ] , . ; or ::
)

type token struct {
	kind tokenKind
	text string // words in lower case, strings and quoted identifiers without their quotes
}

const (
	operatorCharacters = "+-*/<>=~!@#%^&|`?"
	// maxText is far beyond what people write as a policy.
	maxText = 1 << 16
	// maxTokens bounds the time that it takes, which grows with their square.
	maxTokens = 1 << 13
)

var errText = errors.New("it is not written as expected")

// scan splits an expression into tokens. Comments are not understood: Postgres prints none.
func scan(text string) ([]token, error) {
	if len(text) > maxText || !utf8.ValidString(text) {
		return nil, errText
	}
	var all []token
	for i := 0; i < len(text); {
		if len(all) > maxTokens {
			return nil, errText
		}
		c := text[i]
		switch {
		case isSpace(c):
			i++
		case c == '\'', (c == 'E' || c == 'e') && strings.HasPrefix(text[i+1:], "'"):
			t, n := scanString(text[i:])
			if n == 0 {
				return nil, errText
			}
			all, i = append(all, t), i+n
		case c == '"':
			t, n := scanQuoted(text[i:])
			if n == 0 {
				return nil, errText
			}
			all, i = append(all, t), i+n
		case isDigit(c):
			n := span(text[i:], func(c byte) bool { return isDigit(c) || c == '.' })
			if rest := text[i+n:]; rest != "" && isWord(rest[0]) { // an exponent, or something else
				return nil, errText
			}
			all, i = append(all, token{tNumber, text[i : i+n]}), i+n
		case isWord(c):
			n := span(text[i:], func(c byte) bool { return isWord(c) || isDigit(c) || c == '$' })
			if rest := text[i+n:]; rest != "" && rest[0] == '\'' { // B'1', U&"" and the like
				return nil, errText
			}
			all, i = append(all, token{tWord, lower(text[i : i+n])}), i+n
		case strings.HasPrefix(text[i:], "::"):
			all, i = append(all, token{tMark, "::"}), i+2
		case strings.IndexByte("()[],.;", c) >= 0:
			all, i = append(all, token{tMark, text[i : i+1]}), i+1
		case strings.IndexByte(operatorCharacters, c) >= 0:
			n := span(text[i:], func(c byte) bool { return strings.IndexByte(operatorCharacters, c) >= 0 })
			if op := text[i : i+n]; strings.Contains(op, "--") || strings.Contains(op, "/*") {
				return nil, errText
			}
			all, i = append(all, token{tOperator, text[i : i+n]}), i+n
		default:
			return nil, errText
		}
	}
	return append(all, token{}), nil
}

// scanString reads 'it”s', or E'back\\slash' in which no other escapes are understood. In a plain string a backslash
// would depend on a setting, and Postgres prints none.
func scanString(text string) (token, int) {
	i, escapes := 1, text[0] != '\''
	if escapes {
		i = 2
	}
	var b strings.Builder
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && escapes && strings.HasPrefix(text[i+1:], `\`):
			b.WriteByte(c)
			i++
		case c == '\\':
			return token{}, 0
		case c != '\'':
			b.WriteByte(c)
		case strings.HasPrefix(text[i+1:], "'"):
			b.WriteByte(c)
			i++
		default:
			return token{tString, b.String()}, i + 1
		}
	}
	return token{}, 0
}

func scanQuoted(text string) (token, int) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
			b.WriteByte(text[i])
		case strings.HasPrefix(text[i+1:], `"`):
			b.WriteByte('"')
			i++
		default:
			return token{tQuoted, b.String()}, i + 1
		}
	}
	return token{}, 0
}

func span(text string, in func(byte) bool) int {
	n := 0
	for n < len(text) && in(text[n]) {
		n++
	}
	return n
}

// lower folds as Postgres folds the words of SQL: ASCII alone.
func lower(word string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, word)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}
