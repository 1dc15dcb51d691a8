package protocol

import (
	"bytes"
	"encoding/json"
	"iter"
	"unicode/utf8"
)

// MaxDepth bounds how deep the payload of a frame may nest. It is far above what people write and far below what a
// recursive reader, here, in Postgres or in a client, can take.
const MaxDepth = 512

// checkJSON tells whether b is one JSON text that everybody can read. What follows in this file relies on it: of other
// texts it makes no sense, but it neither panics nor goes on for ever.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return ErrUTF8
	}
	if !json.Valid(b) {
		if deeper(b, MaxDepth) { // encoding/json stops at a depth of its own
			return ErrTooDeep
		}
		return ErrMalformed
	}
	return nil
}

// deeper tells whether b nests deeper than limit. It does not recurse and needs no valid JSON.
func deeper(b []byte, limit int) bool {
	if bytes.Count(b, []byte{'{'})+bytes.Count(b, []byte{'['}) <= limit {
		return false // the usual case, at the speed of a memory scan
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			if depth++; depth > limit {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// IsObject tells whether a JSON text is an object.
func IsObject(b []byte) bool {
	b = trimSpace(b)
	return len(b) > 0 && b[0] == '{'
}

// Member finds the value of a key of a JSON object, without decoding it; of several, the last. The object must be valid
// JSON, as Message.Payload is. Anything but an object has no members.
func Member(object []byte, key string) (value []byte, ok bool) {
	for k, v := range members(object) {
		if isText(k, key) {
			value, ok = v, true
		}
	}
	return value, ok
}

// Text decodes a JSON string; ok is false for any other value.
func Text(value []byte) (text string, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	err := json.Unmarshal(value, &text)
	return text, err == nil
}

// isText compares a JSON string with a text, without allocating unless the string holds escapes.
func isText(value []byte, text string) bool {
	if bytes.IndexByte(value, '\\') >= 0 {
		s, ok := Text(value)
		return ok && s == text
	}
	return len(value) == len(text)+2 && value[0] == '"' && string(value[1:len(value)-1]) == text
}

func isNull(value []byte) bool { return string(value) == "null" }

// members walks the keys (as JSON strings) and values of a valid JSON object, in order.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		b := trimSpace(object)
		if len(b) == 0 || b[0] != '{' {
			return
		}
		for i := skipSpace(b, 1); i < len(b) && b[i] != '}'; i = nextItem(b, i) {
			keyEnd := stringEnd(b, i)
			key := b[i:keyEnd]
			i = min(skipSpace(b, skipSpace(b, keyEnd)+1), len(b)) // past the colon
			end := valueEnd(b, i)
			if end == i || !yield(key, b[i:end]) { // no value: not JSON
				return
			}
			i = end
		}
	}
}

// elements walks the values of a valid JSON array, in order.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		b := trimSpace(array)
		if len(b) == 0 || b[0] != '[' {
			return
		}
		for i := skipSpace(b, 1); i < len(b) && b[i] != ']'; i = nextItem(b, i) {
			end := valueEnd(b, i)
			if end == i || !yield(b[i:end]) {
				return
			}
			i = end
		}
	}
}

// nextItem is the start of the next item after one that ended at i, or the closing bracket.
func nextItem(b []byte, i int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}

// valueEnd is the end of the value that starts at i.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return nestEnd(b, i)
	}
	for i < len(b) && !isSpace(b[i]) && b[i] != ',' && b[i] != ']' && b[i] != '}' {
		i++
	}
	return i
}

func nestEnd(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

// stringEnd is the end of the string whose opening quote is at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

func trimSpace(b []byte) []byte { return bytes.Trim(b, " \t\n\r") }
