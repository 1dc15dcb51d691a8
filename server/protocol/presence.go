package protocol

import (
	"bytes"
	"slices"
	"strings"
)

// PresenceAct is what a client does about its own presence.
type PresenceAct uint8

const (
	PresenceNothing PresenceAct = iota // answered, and that is all: clients may leave the event out
	PresenceTrack
	PresenceUntrack
)

// ParsePresence reads the payload of a presence event; tracked is the object to track, and shares memory with the
// payload. A code says why it cannot be followed.
func ParsePresence(payload []byte) (act PresenceAct, tracked []byte, code Code) {
	if !IsObject(payload) {
		return PresenceNothing, nil, UnknownPresenceEvent
	}
	value, ok := given(payload, "event")
	if !ok {
		return PresenceNothing, nil, ""
	}
	event, _ := Text(value)
	switch strings.ToLower(event) {
	case "untrack":
		return PresenceUntrack, nil, ""
	case "track":
	default:
		return PresenceNothing, nil, UnknownPresenceEvent
	}
	tracked, ok = Member(payload, "payload")
	switch {
	case !ok:
		return PresenceTrack, emptyObject, ""
	case !IsObject(tracked):
		return PresenceNothing, nil, InvalidPresencePayload
	}
	return PresenceTrack, tracked, ""
}

// refKeys are the server's own in what a member tracked: the reference of this, and of what it took the place of.
var refKeys = []string{"phx_ref", "phx_ref_prev"}

// PresenceMeta is what a member tracked, with its reference and that of what it replaces ("" for none). Keys of these names
// that the member gave itself are left out, all else is spliced in verbatim. The payload must be a valid JSON object.
func PresenceMeta(payload []byte, ref, prev string) []byte {
	payload = trimSpace(payload)
	body := bytes.TrimRight(payload[:len(payload)-1], " \t\n\r") // without the closing brace
	if hasAny(payload, refKeys) {
		body = without(payload, refKeys)
	}
	buf := append(make([]byte, 0, len(body)+len(ref)+len(prev)+frameOverhead), body...)
	if len(body) > 1 {
		buf = append(buf, ',')
	}
	buf = AppendString(append(buf, `"phx_ref":`...), ref)
	if prev != "" {
		buf = AppendString(append(buf, `,"phx_ref_prev":`...), prev)
	}
	return append(buf, '}')
}

func hasAny(object []byte, keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		_, has := Member(object, key)
		return has
	})
}

// Present is what was tracked under one key.
type Present struct {
	Key   string
	Metas [][]byte // each of a PresenceMeta
}

// PresenceState is the payload of presence_state. No key may be there twice.
func PresenceState(present []Present) []byte {
	return appendPresent(make([]byte, 0, sizeOf(present)), present)
}

// PresenceDiff is the payload of presence_diff. Neither list may hold a key twice.
func PresenceDiff(joins, leaves []Present) []byte {
	buf := make([]byte, 0, sizeOf(joins)+sizeOf(leaves)+frameOverhead)
	buf = appendPresent(append(buf, `{"joins":`...), joins)
	buf = appendPresent(append(buf, `,"leaves":`...), leaves)
	return append(buf, '}')
}

// PresentOverhead is about what a key or a meta takes beside itself.
const PresentOverhead = len(`"":{"metas":[]},`)

func sizeOf(present []Present) int {
	size := len(emptyObject)
	for _, p := range present {
		size += len(p.Key) + PresentOverhead
		for _, meta := range p.Metas {
			size += len(meta) + 1
		}
	}
	return size
}

func appendPresent(buf []byte, present []Present) []byte {
	buf = append(buf, '{')
	for i, p := range present {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(AppendString(buf, p.Key), `:{"metas":[`...)
		for j, meta := range p.Metas {
			if j > 0 {
				buf = append(buf, ',')
			}
			buf = append(buf, meta...)
		}
		buf = append(buf, `]}`...)
	}
	return append(buf, '}')
}
