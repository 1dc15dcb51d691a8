// Package protocol turns bytes into messages and messages into bytes: wire versions 1.0.0 and 2.0.0 of the Supabase
// Realtime protocol, the options of a join, and the table of codes that clients are told.
//
// It is not responsible for sockets, for who may do what, or for what a message leads to: it starts no goroutine, keeps
// no state and touches no network and no database. Every outgoing frame is a complete, unmasked server WebSocket frame
// (header and payload), ready to be written as it is and never to be changed.
package protocol

import "strings"

// Version is a wire version. A socket speaks the one it asked for until it closes.
type Version uint8

const (
	V1 Version = iota + 1 // 1.0.0: objects, text only
	V2                    // 2.0.0: arrays, and user broadcasts in binary
)

// String is the version as clients write it, and its metric label.
func (v Version) String() string {
	switch v {
	case V1:
		return "1.0.0"
	case V2:
		return "2.0.0"
	}
	return "unknown"
}

// maxVersionText bounds what ParseVersion looks at; a version with a long build suffix is still far below it.
const maxVersionText = 64

// ParseVersion reads the query parameter vsn. Absent means 1.0.0; otherwise any semantic version with the same major
// and minor number as a version spoken here, and not before it, is accepted (Elixir's requirement `~> 1.0.0`).
func ParseVersion(vsn string) (Version, bool) {
	if vsn == "" {
		return V1, true
	}
	if len(vsn) > maxVersionText {
		return 0, false
	}
	rest, build, hasBuild := strings.Cut(vsn, "+")
	if hasBuild && !identifiers(build, false) {
		return 0, false
	}
	core, pre, hasPre := strings.Cut(rest, "-")
	if hasPre && !identifiers(pre, true) {
		return 0, false
	}
	series, patch := core[:min(4, len(core))], core[min(4, len(core)):]
	if !number(patch) || hasPre && patch == "0" { // 1.0.0-rc comes before 1.0.0
		return 0, false
	}
	switch series {
	case "1.0.":
		return V1, true
	case "2.0.":
		return V2, true
	}
	return 0, false
}

// identifiers tells whether s is a dotted list of non-empty names of letters, digits and hyphens; strict forbids
// leading zeros in names that are numbers, as a pre-release does.
func identifiers(s string, strict bool) bool {
	for name := range strings.SplitSeq(s, ".") {
		if name == "" || strict && digits(name) && !number(name) {
			return false
		}
		for _, c := range []byte(name) {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z'
			if !letter && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func number(s string) bool {
	return digits(s) && (s == "0" || s[0] != '0')
}

// TopicPrefix starts every topic that can be joined. What follows is the sub-topic, the name policies see.
const TopicPrefix = "realtime:"

// SubTopic is the topic without its prefix.
func SubTopic(topic string) string {
	return strings.TrimPrefix(topic, TopicPrefix)
}

// HeartbeatTopic carries heartbeats and nothing else.
const HeartbeatTopic = "phoenix"

// MaxName is the longest topic, event name and metadata, in bytes, that a binary frame can carry: their sizes are one
// byte each. A longer topic should be refused when it is joined, a longer event when it is sent.
const MaxName = 255

// Events, both directions.
const (
	EventHeartbeat       = "heartbeat"
	EventJoin            = "phx_join"
	EventLeave           = "phx_leave"
	EventReply           = "phx_reply"
	EventClose           = "phx_close"
	EventError           = "phx_error"
	EventAccessToken     = "access_token"
	EventBroadcast       = "broadcast"
	EventPresence        = "presence"
	EventPresenceState   = "presence_state"
	EventPresenceDiff    = "presence_diff"
	EventPostgresChanges = "postgres_changes"
	EventSystem          = "system"
)

// Statuses of a reply and of a system message.
const (
	StatusOK    = "ok"
	StatusError = "error"
)

// Ref is the raw JSON token of a reference, `"6"` with its quotes, echoed verbatim; "" stands for null. References are
// opaque: they are compared and returned, never counted.
type Ref string

// TextRef is the reference whose value is the given text.
func TextRef(text string) Ref {
	return Ref(AppendString(make([]byte, 0, len(text)+2), text))
}

// Message is one frame of a client.
type Message struct {
	JoinRef, Ref Ref
	Topic, Event string
	Payload      []byte         // valid JSON without surrounding space; nil when Push is set
	Push         *UserBroadcast // the content of a binary frame, whose Event is always EventBroadcast
}

// Encoding says what the payload of a user broadcast is.
type Encoding uint8

const (
	Binary Encoding = 0 // any bytes
	JSON   Encoding = 1 // JSON text
)

// UserBroadcast is a broadcast taken apart: the user's own event name and the payload beneath it. In a frame that came
// from a client, Meta is only what the client claims; receivers take meta.id and meta.replayed for the server's word,
// so it must not be passed on to them.
type UserBroadcast struct {
	Event    string
	Encoding Encoding
	Meta     []byte // a JSON object, or empty
	Payload  []byte // valid JSON if Encoding is JSON
}
