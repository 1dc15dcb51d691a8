package changes

import "bytes"

// maxDimensions is what Postgres allows.
const maxDimensions = 6

// array reads the text form of an array: {1,NULL,"a \"quoted\" one"}, {{1},{2}}, [0:1]={1,2}.
type array struct {
	rest          []byte
	elem          *Type
	numbersAsText bool
}

// append makes JSON arrays of it, nested as its dimensions are. to_jsonb does not tell the lower bounds, either.
func (a *array) append(buf []byte) (out []byte, ok bool) {
	if len(a.rest) > 0 && a.rest[0] == '[' {
		bounds := bytes.IndexByte(a.rest, '=')
		if bounds < 0 {
			return nil, false
		}
		a.rest = a.rest[bounds+1:]
	}
	out, ok = a.appendDimension(buf, maxDimensions)
	return out, ok && len(a.rest) == 0
}

func (a *array) appendDimension(buf []byte, deepest int) (out []byte, ok bool) {
	if deepest == 0 || !a.take('{') {
		return nil, false
	}
	buf = append(buf, '[')
	if a.take('}') {
		return append(buf, ']'), true
	}
	for {
		if len(a.rest) > 0 && a.rest[0] == '{' {
			buf, ok = a.appendDimension(buf, deepest-1)
		} else {
			buf, ok = a.appendElement(buf)
		}
		switch {
		case !ok:
			return nil, false
		case a.take('}'):
			return append(buf, ']'), true
		case !a.take(a.delimiter()):
			return nil, false
		}
		buf = append(buf, ',')
	}
}

func (a *array) appendElement(buf []byte) (out []byte, ok bool) {
	if a.take('"') {
		text, ok := a.quoted()
		if !ok {
			return nil, false
		}
		return AppendJSON(buf, a.elem, text, a.numbersAsText)
	}
	end := bytes.IndexAny(a.rest, string([]byte{a.delimiter(), '}'}))
	if end <= 0 {
		return nil, false
	}
	text := a.rest[:end]
	a.rest = a.rest[end:]
	if string(text) == "NULL" { // the text of these letters is quoted
		return append(buf, "null"...), true
	}
	return AppendJSON(buf, a.elem, text, a.numbersAsText)
}

// quoted reads up to the closing quote; a backslash stands before what means itself.
func (a *array) quoted() (text []byte, ok bool) {
	for i := 0; i < len(a.rest); i++ {
		switch a.rest[i] {
		case '"':
			a.rest = a.rest[i+1:]
			return text, true
		case '\\':
			if i++; i == len(a.rest) {
				return nil, false
			}
		}
		text = append(text, a.rest[i])
	}
	return nil, false
}

func (a *array) take(c byte) bool {
	if len(a.rest) == 0 || a.rest[0] != c {
		return false
	}
	a.rest = a.rest[1:]
	return true
}

func (a *array) delimiter() byte {
	if a.elem.Delimiter == 0 {
		return ','
	}
	return a.elem.Delimiter
}
