package protocol

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Join is what a client asks for when it joins a topic. Keys that are absent or null have their default; but for private,
// which may not be null.
type Join struct {
	Token    string // the token of this channel, if HasToken; it may be ""
	HasToken bool
	Legacy   bool // no config at all: the sub-topic itself names a table, schema[:table[:filter]]

	Private          bool
	Self             bool // receive one's own broadcasts
	Ack              bool // answer every broadcast
	ReplicationReady bool // say when messages from the database arrive

	PresenceEnabled bool
	PresenceKey     string // "" = the server chooses one

	HasReplay bool // the key was given, even if null: public channels refuse it
	Replay    Replay

	Changes     [][]byte      // entries of postgres_changes, raw, for EchoChanges; they share memory with the payload
	ChangesWait time.Duration // how long the answer waits for them to be subscribed to; 0: it does not
}

// Replay asks for broadcasts of the past: since a moment, or after the messages that were received last.
type Replay struct {
	Asked    bool // an object was given
	Valid    bool // what it holds makes sense
	HasSince bool
	Since    int64 // Unix milliseconds
	HasAfter bool
	After    []string // ids of messages, the last maxAfter of those given
	Limit    int64    // as given, not yet clamped; see DefaultReplayLimit
}

// DefaultReplayLimit is how many broadcasts a replay without limit brings: what upstream sends at most. After messages
// that were received it is all there are.
const DefaultReplayLimit = 25

// maxAfter bounds the messages that a replay goes on after: they have to outlast the transactions that send beside each
// other, and no more.
const maxAfter = 200

// Since must lie in the years 0 to 9999, the range in which upstream's calendar works.
const (
	minSince = -62167219200000
	maxSince = 253402300799999
)

// maxPresenceKey bounds a key that every member of the topic is told and keeps; ids of people are far shorter.
const maxPresenceKey = 1024

// brokenKeys make clients throw, those of every member of the topic: realtime-js takes a presence_state with ids for a change
// of a table, and where a client keeps who is present in a plain object, these names are there before anybody has joined.
var brokenKeys = []string{
	"ids", "__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
	"__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
}

// maxChanges bounds the table subscriptions of one channel; each costs memory and work at every change.
const maxChanges = 100

// How long a join waits for changes to be subscribed to: unless it says otherwise, and at most. Clients give it ten seconds more than
// they ask for.
const (
	defaultChangesWait = 15 * time.Second
	maxChangesWait     = 20 * time.Second
)

// maxJoin bounds a join: its table subscriptions are kept as long as the channel, and echoed. It is far above the longest
// token and a hundred filters.
const maxJoin = 128 << 10

// JoinError says which part of a payload is wrong, so that the person who wrote it can find it.
type JoinError struct {
	Field string // by path: config.postgres_changes[2]
	Want  string // what belongs there: "true or false"
}

func (e *JoinError) Error() string {
	return fmt.Sprintf("%s: expected %s", e.Field, e.Want)
}

const (
	wantBool   = "true or false"
	wantText   = "text"
	wantObject = "an object"
)

// ParseJoin reads the payload of phx_join. The error is a *JoinError. Unknown keys are ignored.
func ParseJoin(payload []byte) (Join, error) {
	if len(payload) > maxJoin {
		return Join{}, &JoinError{"payload", fmt.Sprintf("at most %d bytes", maxJoin)}
	}
	if checkJSON(payload) != nil || !IsObject(payload) {
		return Join{}, &JoinError{"payload", wantObject}
	}
	var j Join
	if err := j.readTokens(payload); err != nil {
		return Join{}, err
	}
	config, ok := Member(payload, "config")
	if !ok {
		j.Legacy = true
		return j, nil
	}
	if err := j.readConfig(config); err != nil {
		return Join{}, err
	}
	return j, nil
}

// readTokens prefers the legacy user_token, as upstream does.
func (j *Join) readTokens(payload []byte) error {
	for _, key := range []string{"access_token", "user_token"} {
		value, ok := given(payload, key)
		if !ok {
			continue
		}
		token, ok := Text(value)
		if !ok {
			return &JoinError{key, wantText}
		}
		j.Token, j.HasToken = token, true
	}
	return nil
}

func (j *Join) readConfig(config []byte) error {
	if err := checkSection("config", config); err != nil {
		return err
	}
	broadcast, _ := Member(config, "broadcast")
	presence, _ := Member(config, "presence")
	options, _ := Member(config, "postgres_changes_options")
	waits := false
	for _, section := range []struct {
		path  string
		value []byte
	}{{"config.broadcast", broadcast}, {"config.presence", presence}, {"config.postgres_changes_options", options}} {
		if err := checkSection(section.path, section.value); err != nil {
			return err
		}
	}
	for _, flag := range []struct {
		path   string
		object []byte
		key    string
		into   *bool
	}{
		{"config.private", config, "private", &j.Private},
		{"config.broadcast.self", broadcast, "self", &j.Self},
		{"config.broadcast.ack", broadcast, "ack", &j.Ack},
		{"config.broadcast.replication_ready", broadcast, "replication_ready", &j.ReplicationReady},
		{"config.presence.enabled", presence, "enabled", &j.PresenceEnabled},
		{"config.postgres_changes_options.wait", options, "wait", &waits},
	} {
		value, ok := Member(flag.object, flag.key)
		if !ok || isNull(value) && flag.into != &j.Private { // what may have been meant to be private never becomes public
			continue
		}
		if *flag.into, ok = flexibleBool(value); !ok {
			return &JoinError{flag.path, wantBool}
		}
	}
	if err := j.readPresenceKey(presence); err != nil {
		return err
	}
	if err := j.readReplay(broadcast); err != nil {
		return err
	}
	if err := j.readChanges(config); err != nil {
		return err
	}
	return j.readChangesWait(options, waits)
}

// readChangesWait finds out how long to wait. It is wrong also where nobody waits: whoever wrote it did so for a reason.
func (j *Join) readChangesWait(options []byte, waits bool) error {
	wait := defaultChangesWait
	if _, ok := given(options, "timeout"); ok {
		asked := integer(options, "timeout")
		if !asked.ok || asked.value <= 0 {
			return &JoinError{"config.postgres_changes_options.timeout", "a whole number of milliseconds above 0"}
		}
		wait = time.Duration(min(asked.value, maxChangesWait.Milliseconds())) * time.Millisecond
	}
	if waits && len(j.Changes) > 0 {
		j.ChangesWait = wait
	}
	return nil
}

func (j *Join) readPresenceKey(presence []byte) error {
	const path = "config.presence.key"
	value, ok := given(presence, "key")
	if !ok {
		return nil
	}
	if value[0] == '{' || value[0] == '[' {
		return &JoinError{path, "text, a number, true or false"}
	}
	if j.PresenceKey, ok = Text(value); !ok {
		j.PresenceKey = string(value)
	}
	switch {
	case len(j.PresenceKey) > maxPresenceKey:
		return &JoinError{path, fmt.Sprintf("at most %d bytes", maxPresenceKey)}
	case slices.Contains(brokenKeys, j.PresenceKey):
		return &JoinError{path, fmt.Sprintf("a key other than %q", j.PresenceKey)}
	}
	return nil
}

// readReplay leaves wrong numbers to the reply that upstream has for them (UnableToReplayMessages).
func (j *Join) readReplay(broadcast []byte) error {
	replay, ok := Member(broadcast, "replay")
	if !ok {
		return nil
	}
	j.HasReplay = true
	if err := checkSection("config.broadcast.replay", replay); err != nil {
		return err
	}
	if isNull(replay) {
		return nil
	}
	j.Replay = Replay{Asked: true}
	r := Replay{Asked: true, Valid: true, Limit: DefaultReplayLimit}
	valid := true
	if value, ok := given(replay, "after"); ok {
		r.HasAfter, r.Limit = true, math.MaxInt64
		r.After, valid = texts(value)
		r.After = r.After[max(0, len(r.After)-maxAfter):]
	}
	if _, r.HasSince = given(replay, "since"); r.HasSince || !r.HasAfter {
		since := integer(replay, "since")
		r.Since = since.value
		valid = valid && since.ok && since.value >= minSince && since.value <= maxSince
	}
	if _, ok := given(replay, "limit"); ok {
		limit := integer(replay, "limit")
		r.Limit = limit.value
		valid = valid && limit.ok
	}
	if valid {
		j.Replay = r
	}
	return nil
}

// texts reads a text or an array of texts.
func texts(value []byte) (list []string, ok bool) {
	if text, ok := Text(value); ok {
		return []string{text}, true
	}
	if value[0] != '[' {
		return nil, false
	}
	for entry := range elements(value) {
		text, ok := Text(entry)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

func (j *Join) readChanges(config []byte) error {
	const path = "config.postgres_changes"
	array, ok := given(config, "postgres_changes")
	if !ok {
		return nil
	}
	if array[0] != '[' {
		return &JoinError{path, "an array of objects"}
	}
	i := -1
	for entry := range elements(array) {
		i++
		switch {
		case isNull(entry):
			continue
		case !IsObject(entry):
			return &JoinError{fmt.Sprintf("%s[%d]", path, i), wantObject}
		case len(j.Changes) == maxChanges:
			return &JoinError{path, fmt.Sprintf("at most %d entries", maxChanges)}
		case deeper(entry, MaxDepth):
			return &JoinError{fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("at most %d levels", MaxDepth)}
		}
		j.Changes = append(j.Changes, entry)
	}
	return nil
}

// ParseAccessToken reads the payload of an access_token event. Absent and null both mean that nothing changes, but they
// are told apart for the log. The error is a *JoinError.
func ParseAccessToken(payload []byte) (token string, present, isNullToken bool, err error) {
	if checkJSON(payload) != nil || !IsObject(payload) {
		return "", false, false, &JoinError{"payload", wantObject}
	}
	value, ok := Member(payload, "access_token")
	if !ok || isNull(value) {
		return "", ok, ok, nil
	}
	if token, ok = Text(value); !ok {
		return "", true, false, &JoinError{"access_token", wantText}
	}
	return token, true, false, nil
}

// given finds a member that is there and not null.
func given(object []byte, key string) ([]byte, bool) {
	value, ok := Member(object, key)
	return value, ok && !isNull(value)
}

// checkSection accepts an object, null and nothing.
func checkSection(path string, value []byte) error {
	if value == nil || isNull(value) || IsObject(value) {
		return nil
	}
	return &JoinError{path, wantObject}
}

// flexibleBool is a JSON boolean, or its text in any case: some SDKs send their settings as text.
func flexibleBool(value []byte) (b, ok bool) {
	text, isString := Text(value)
	if !isString {
		text = string(value)
	} else {
		text = strings.ToLower(text)
	}
	return text == "true", text == "true" || text == "false"
}

type maybeInt struct {
	value int64
	ok    bool
}

// integer reads a member written as an integer; 1e3 and 1.0 are not.
func integer(object []byte, key string) maybeInt {
	value, ok := Member(object, key)
	if !ok {
		return maybeInt{}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return maybeInt{n, err == nil}
}
