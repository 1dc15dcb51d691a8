package aim

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Made is a value that policies make of nothing but the user's claims.
type Made struct {
	kind string // the type that Postgres gives it: text, uuid, smallint, integer, bigint, json or jsonb
	of   func(claims []byte) what
}

// what is a value, as its text.
type what struct {
	null, known bool
	text        string
}

var (
	isNull = what{null: true, known: true}
	unsure = what{} // it may be anything, or raise an error
)

func is(text string) what { return what{known: true, text: text} }

// Of is what is made of a user's claims, which are a JSON object, in the text that Postgres has for it. null: NULL, which equals
// nothing. known is false where only Postgres can tell.
func (m *Made) Of(claims []byte) (text string, null, known bool) {
	w := m.of(claims)
	return w.text, w.null, w.known
}

func (m *Made) family() string {
	switch m.kind {
	case "smallint", "integer", "bigint":
		return familyInt
	}
	return m.kind
}

// made reads an expression of claims; nil: it is another, or not understood.
func (v *visit) made(n *node) *Made {
	switch n = valueOf(n); n.kind {
	case kCall:
		return v.madeByCall(n)
	case kCast:
		if n.schema == "" && !n.sized {
			return v.made(n.kids[0]).to(n.text)
		}
	case kOperator:
		if len(n.kids) != 2 {
			return nil
		}
		keys, asText, ok := path(n.text, bare(n.kids[1]))
		if from := v.made(n.kids[0]); ok && from != nil && (from.kind == "json" || from.kind == "jsonb") {
			return from.at(keys, asText)
		}
	}
	return nil
}

func (v *visit) madeByCall(n *node) *Made {
	if f := v.function(n); f != nil {
		return v.made(f.body).assigned(f.returns)
	}
	switch {
	case isSetting(n, "request.jwt.claims"):
		return &Made{"text", func(claims []byte) what { return is(string(claims)) }}
	case isSetting(n, "request.jwt.claim.sub"):
		whole := &Made{"jsonb", func(claims []byte) what { return is(string(claims)) }}
		sub := whole.at([]string{"sub"}, true)
		return &Made{"text", func(claims []byte) what {
			w := sub.of(claims)
			if w.null {
				return is("")
			}
			return w
		}}
	case n.schema == "" && n.text == "nullif" && len(n.kids) == 2 && isText(n.kids[1], ""):
		from := v.made(n.kids[0])
		if from == nil || from.kind != "text" {
			return nil
		}
		return &Made{"text", func(claims []byte) what {
			w := from.of(claims)
			if w.known && w.text == "" {
				return isNull
			}
			return w
		}}
	case n.schema == "" && n.text == "coalesce":
		return v.madeFirst(n.kids)
	}
	return nil
}

// madeFirst is COALESCE of values of one type.
func (v *visit) madeFirst(kids []*node) *Made {
	var all []*Made
	for _, kid := range kids {
		m := v.made(kid)
		if m == nil || m.kind == "json" || m.kind == "jsonb" || len(all) > 0 && m.kind != all[0].kind {
			return nil
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil
	}
	return &Made{all[0].kind, func(claims []byte) what {
		for _, m := range all {
			if w := m.of(claims); !w.null {
				return w
			}
		}
		return isNull
	}}
}

// path is the way into an object that an operator of JSON takes.
func path(op string, key *node) (keys []string, asText, ok bool) {
	if key.kind != kString {
		return nil, false, false
	}
	switch op {
	case "->", "->>":
		return []string{key.text}, op == "->>", true
	case "#>", "#>>": // '{a,b}', of which nothing has to be quoted
		inner, begins := strings.CutPrefix(key.text, "{")
		inner, ends := strings.CutSuffix(inner, "}")
		keys = strings.Split(inner, ",")
		odd := slices.ContainsFunc(keys, func(k string) bool {
			return k == "" || strings.EqualFold(k, "null") || strings.ContainsAny(k, "\"\\{} \t\n\v\f\r")
		})
		return keys, op == "#>>", begins && ends && !odd
	}
	return nil, false, false
}

// at is what is in an object, by the keys of it and of those in it.
func (m *Made) at(keys []string, asText bool) *Made {
	kind := m.kind
	if asText {
		kind = "text"
	}
	return &Made{kind, func(claims []byte) what {
		w := m.of(claims)
		raw := json.RawMessage(w.text)
		for _, key := range keys {
			if !w.known || w.null {
				return w
			}
			raw, w = member(raw, key)
		}
		if !asText || !w.known || w.null {
			return what{w.null, w.known, string(raw)}
		}
		return scalar(raw)
	}}
}

// member looks into an object. One that has the key twice may be anything: types differ in which they take.
func member(object json.RawMessage, key string) (json.RawMessage, what) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, unsure
	}
	var found json.RawMessage
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, unsure
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, unsure
		}
		if name != any(key) {
			continue
		}
		if found != nil {
			return nil, unsure
		}
		found = value
	}
	if end, err := decoder.Token(); err != nil || end != json.Delim('}') {
		return nil, unsure
	}
	if found == nil {
		return nil, isNull
	}
	return found, is("")
}

var plainInteger = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17})$`)

// scalar is what ->> makes of a value: texts and plain integers are known.
func scalar(raw json.RawMessage) what {
	if string(raw) == "null" {
		return isNull
	}
	if plainInteger.Match(raw) {
		return is(string(raw))
	}
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil || strings.ContainsAny(text, "\x00\uFFFD") { // Go has the latter for what is no character
		return unsure
	}
	return is(text)
}

// assigned is what a function of a type returns whose body is m.
func (m *Made) assigned(kind string) *Made {
	if m == nil || m.kind == kind {
		return m
	}
	if m.kind != "text" && kind == "text" || m.family() == familyInt && (&Made{kind: kind}).family() == familyInt {
		return m.to(kind)
	}
	return nil
}

// to is what a cast makes of a value; nil: it is not understood.
func (m *Made) to(kind string) *Made {
	if m == nil || m.kind == kind {
		return m
	}
	var convert func(text string) (string, bool)
	json := m.kind == "json" || m.kind == "jsonb"
	switch bits := integerBits[kind]; {
	case kind == "json" && m.kind == "text", kind == "jsonb" && (m.kind == "text" || m.kind == "json"), kind == "json" && m.kind == "jsonb",
		kind == "text" && !json, kind == "character varying" && m.kind == "text":
		if kind == "character varying" {
			kind = "text"
		}
		convert = func(text string) (string, bool) { return text, true }
	case kind == "uuid" && m.kind == "text":
		convert = uuidOf
	case bits > 0 && (m.kind == "text" || m.family() == familyInt):
		convert = func(text string) (string, bool) { return integerOf(text, bits) }
	case bits > 0 && m.kind == "jsonb":
		convert = func(text string) (string, bool) {
			if !plainInteger.MatchString(text) {
				return "", false
			}
			return integerOf(text, bits)
		}
	default:
		return nil
	}
	return &Made{kind, func(claims []byte) what {
		w := m.of(claims)
		if !w.known || w.null {
			return w
		}
		if text, ok := convert(w.text); ok {
			return is(text)
		}
		return unsure
	}}
}

var integerBits = map[string]int{"smallint": 16, "integer": 32, "bigint": 64}

var plainNumber = regexp.MustCompile(`^[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*$`)

// integerOf reads the decimal numbers that every Postgres reads.
func integerOf(text string, bits int) (string, bool) {
	number := plainNumber.FindStringSubmatch(text)
	if number == nil {
		return "", false
	}
	n, err := strconv.ParseInt(number[1], 10, bits)
	return strconv.FormatInt(n, 10), err == nil
}

var anyUUID = regexp.MustCompile(`^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$`)

// uuidOf reads the spellings of a uuid that are common: capitals, braces, hyphens or none.
func uuidOf(text string) (string, bool) {
	text = strings.ToLower(text)
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		text = text[1 : len(text)-1]
	}
	if !anyUUID.MatchString(text) {
		return "", false
	}
	d := strings.ReplaceAll(text, "-", "")
	return strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-"), true
}
