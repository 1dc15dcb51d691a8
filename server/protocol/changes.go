package protocol

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
)

// changeIDs is the range of ids: below 2^27, as upstream's, so that a client in any language holds them.
const changeIDs = 1 << 27

// ChangeIDs gives every entry of a join's postgres_changes its id: a hash of its bytes, the same on every join, every
// channel and every server. Equal entries have equal ids; should two different ones meet, the later takes the next id,
// because a client tells its bindings apart by nothing else.
func ChangeIDs(entries [][]byte) []int {
	ids := make([]int, len(entries))
	owner := make(map[int][]byte, len(entries))
	for i, entry := range entries {
		h := fnv.New32a()
		_, _ = h.Write(entry) // a hash does not fail
		sum := h.Sum32()
		ids[i] = freeID(owner, int((sum>>27^sum)%changeIDs), entry)
	}
	return ids
}

func freeID(owner map[int][]byte, id int, entry []byte) int {
	for {
		other, taken := owner[id]
		if !taken {
			owner[id] = entry
			return id
		}
		if bytes.Equal(other, entry) {
			return id
		}
		id = (id + 1) % changeIDs
	}
}

// EchoChanges is the array of the join reply: each entry verbatim, in order, with its id. Clients compare the echo with
// what they sent, so nothing else is added, left out or rewritten; only an "id" of the client's is replaced.
func EchoChanges(entries [][]byte) []byte {
	ids := ChangeIDs(entries)
	buf := []byte{'['}
	for i, entry := range entries {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendWithID(buf, entry, ids[i])
	}
	return append(buf, ']')
}

func appendWithID(buf, entry []byte, id int) []byte {
	entry = trimSpace(entry)
	body := bytes.TrimRight(entry[:len(entry)-1], " \t\n\r") // without the closing brace
	if _, has := Member(entry, "id"); has {
		body = without(entry, []string{"id"})
	}
	buf = append(buf, body...)
	if len(body) > 1 {
		buf = append(buf, ',')
	}
	buf = strconv.AppendInt(append(buf, `"id":`...), int64(id), 10)
	return append(buf, '}')
}

// without is an object up to its closing brace, with no member of these names.
func without(object []byte, names []string) []byte {
	body := []byte{'{'}
	for key, value := range members(object) {
		if slices.ContainsFunc(names, func(name string) bool { return isText(key, name) }) {
			continue
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		body = append(append(append(body, key...), ':'), value...)
	}
	return body
}
