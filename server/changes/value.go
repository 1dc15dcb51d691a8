package changes

import (
	"bytes"

	"rowcast/server/protocol"
)

// AppendJSON appends a value as to_jsonb prints it, from the text form that the WAL has it in. With numbersAsText, int8 and
// numeric are JSON strings. ok is false where only Postgres knows; then nothing was appended.
//
// It differs from to_jsonb in form, not in meaning, but for two things. bytea is hexadecimal without its \x, which is how
// Supabase Realtime has it. And json, as opposed to jsonb, keeps the text that was stored: of keys that are there twice, both.
func AppendJSON(buf []byte, t *Type, text []byte, numbersAsText bool) (out []byte, ok bool) {
	switch {
	case t.Exotic:
		return buf, false
	case t.Elem != nil:
		a := array{rest: text, elem: t.Elem, numbersAsText: numbersAsText}
		if out, ok = a.append(buf); !ok {
			return buf, false
		}
		return out, true
	}
	switch t.Base {
	case oidBool:
		return appendBool(buf, text)
	case oidInt2, oidInt4, oidFloat4, oidFloat8:
		return appendNumber(buf, text, false), true
	case oidInt8, oidNumeric:
		return appendNumber(buf, text, numbersAsText), true
	case oidJSON, oidJSONB:
		return append(buf, bytes.ToValidUTF8(text, []byte("\ufffd"))...), len(text) > 0
	case oidBytea:
		hex, ok := bytes.CutPrefix(text, []byte(`\x`))
		if !ok {
			return buf, false
		}
		return appendText(buf, hex), true
	case oidTimestamp:
		return appendText(buf, isoTimestamp(text)), true
	case oidTimestampTZ:
		return appendText(buf, isoZone(isoTimestamp(text))), true
	}
	return appendText(buf, text), true
}

func appendText(buf, text []byte) []byte { return protocol.AppendString(buf, string(text)) }

func appendBool(buf, text []byte) ([]byte, bool) {
	switch string(text) {
	case "t":
		return append(buf, "true"...), true
	case "f":
		return append(buf, "false"...), true
	}
	return buf, false
}

// appendNumber keeps every digit. NaN and the infinities are no numbers to JSON, and to_jsonb has them as strings.
func appendNumber(buf, text []byte, asText bool) []byte {
	if asText || !isNumber(text) {
		return appendText(buf, text)
	}
	return append(buf, text...)
}

// isNumber tells whether a text is a number by JSON's grammar.
func isNumber(text []byte) bool {
	rest := bytes.TrimPrefix(text, []byte("-"))
	whole, rest := digits(rest)
	if len(whole) == 0 || whole[0] == '0' && len(whole) > 1 {
		return false
	}
	if len(rest) > 0 && rest[0] == '.' {
		var fraction []byte
		if fraction, rest = digits(rest[1:]); len(fraction) == 0 {
			return false
		}
	}
	if len(rest) > 0 && (rest[0] == 'e' || rest[0] == 'E') {
		rest = rest[1:]
		if len(rest) > 0 && (rest[0] == '+' || rest[0] == '-') {
			rest = rest[1:]
		}
		var exponent []byte
		if exponent, rest = digits(rest); len(exponent) == 0 {
			return false
		}
	}
	return len(rest) == 0
}

// digits cuts the digits off the front.
func digits(text []byte) (front, rest []byte) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	return text[:i], text[i:]
}

// isoTimestamp has a T between date and time. The infinities have no time.
func isoTimestamp(text []byte) []byte {
	return bytes.Replace(text, []byte(" "), []byte("T"), 1)
}

// isoZone has minutes in the zone: +00 becomes +00:00, also before BC.
func isoZone(text []byte) []byte {
	zone := bytes.LastIndexAny(text, "+-")
	t := bytes.IndexByte(text, 'T')
	if t < 0 || zone < t {
		return text
	}
	end := zone + len("+00")
	if end > len(text) || end < len(text) && text[end] != ' ' {
		return text
	}
	return append(append(append([]byte(nil), text[:end]...), ":00"...), text[end:]...)
}
