package changes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxInspected bounds what is told back of an entry: enough to recognize it.
const maxInspected = 500

// tokenKeys hold what nobody but their owner may read.
var tokenKeys = []string{"user_token", "auth_token", "access_token"}

// inspect is a text as Elixir prints it, which messages of Supabase Realtime do.
func inspect(text string) string {
	return strings.ReplaceAll(strconv.Quote(text), "#{", `\#{`)
}

func inspectTexts(texts []string) string {
	inspected := make([]string, len(texts))
	for i, text := range texts {
		inspected[i] = inspect(text)
	}
	return "[" + strings.Join(inspected, ", ") + "]"
}

func inspectParams(params map[string]any) string {
	for _, key := range tokenKeys {
		if _, has := params[key]; has {
			return "<redacted>"
		}
	}
	text := appendInspected(nil, params)
	if len(text) > maxInspected {
		return strings.ToValidUTF8(string(text[:maxInspected]), "") + "…"
	}
	return string(text)
}

// appendInspected appends a value of JSON, its objects in the order of their keys, and soon stops where there is too much.
func appendInspected(buf []byte, value any) []byte {
	if len(buf) > maxInspected {
		return buf
	}
	switch value := value.(type) {
	case nil:
		return append(buf, "nil"...)
	case string:
		return append(buf, inspect(value)...)
	case []any:
		buf = append(buf, '[')
		for i, item := range value {
			buf = appendInspected(appendSeparator(buf, i), item)
		}
		return append(buf, ']')
	case map[string]any:
		buf = append(buf, "%{"...)
		for i, key := range slices.Sorted(maps.Keys(value)) {
			buf = append(append(appendSeparator(buf, i), inspect(key)...), " => "...)
			buf = appendInspected(buf, value[key])
		}
		return append(buf, '}')
	}
	return fmt.Append(buf, value) // a number as it was written, true, false
}

func appendSeparator(buf []byte, i int) []byte {
	if i == 0 {
		return buf
	}
	return append(buf, ", "...)
}
