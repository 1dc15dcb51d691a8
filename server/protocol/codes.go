package protocol

import (
	"fmt"
	"slices"
)

// Code names a refusal, a failure or a close, the same for the client, the log and the metrics.
type Code string

// What stops a join.
const (
	TopicNameRequired          Code = "TopicNameRequired"
	TopicTooLong               Code = "TopicTooLong"
	InvalidJoinPayload         Code = "InvalidJoinPayload"
	PrivateOnly                Code = "PrivateOnly"
	ClientJoinRateLimitReached Code = "ClientJoinRateLimitReached"
	ChannelRateLimitReached    Code = "ChannelRateLimitReached"
	InvalidJWTToken            Code = "InvalidJWTToken"
	MalformedJWT               Code = "MalformedJWT"
	JwtSignatureError          Code = "JwtSignatureError"
	JwtSignerError             Code = "JwtSignerError"
	JwtKeysMissing             Code = "JwtKeysMissing"
	RoleNotAllowed             Code = "RoleNotAllowed"
	Unauthorized               Code = "Unauthorized"
	UnableToReplayMessages     Code = "UnableToReplayMessages"
	JoinSuperseded             Code = "JoinSuperseded"
	NotSupported               Code = "NotSupported"
)

// What the database cannot do at the moment.
const (
	UnableToConnectToProject Code = "UnableToConnectToProject"
	Deaf                     Code = "Deaf"
)

// What stops a message.
const (
	UnmatchedTopic                   Code = "UnmatchedTopic"
	MalformedWebSocketMessage        Code = "MalformedWebSocketMessage"
	PayloadSizeExceeded              Code = "PayloadSizeExceeded"
	InvalidBroadcast                 Code = "InvalidBroadcast"
	SendDenied                       Code = "SendDenied"
	MessagePerSecondRateLimitReached Code = "MessagePerSecondRateLimitReached"
	MessagesWithheld                 Code = "MessagesWithheld"
	BinaryNotSupported               Code = "BinaryNotSupported"
	ReplayGap                        Code = "ReplayGap"
)

// What stops changes of rows.
const (
	PostgresChangesRefused     Code = "PostgresChangesRefused"
	PostgresChangesUnavailable Code = "PostgresChangesUnavailable"
	PostgresChangesWithheld    Code = "PostgresChangesWithheld"
	PostgresChangesSnapshot    Code = "PostgresChangesSnapshot"
	PostgresChangesGap         Code = "PostgresChangesGap"

	// … of a join that waits for them.
	PostgresChangesSubscribeTimeout  Code = "PostgresChangesSubscribeTimeout"
	RealtimeDisabledForConfiguration Code = "RealtimeDisabledForConfiguration"
)

// What stops a request over REST, beside what stops a message.
const (
	MissingAPIKey        Code = "MissingAPIKey"
	OriginNotAllowed     Code = "OriginNotAllowed"
	MethodNotAllowed     Code = "MethodNotAllowed"
	HeadersTooLarge      Code = "HeadersTooLarge"
	UnsupportedMediaType Code = "UnsupportedMediaType"
	MalformedBody        Code = "MalformedBody"
	BodyTooLarge         Code = "BodyTooLarge"
	BodyTooSlow          Code = "BodyTooSlow"
	ServerBusy           Code = "ServerBusy"
	RLSPolicyError       Code = "RlsPolicyError"
	QueryCanceled        Code = "QueryCanceled"
)

// What stops a presence event.
const (
	InvalidPresencePayload         Code = "InvalidPresencePayload"
	UnknownPresenceEvent           Code = "UnknownPresenceEvent"
	TrackTooLarge                  Code = "TrackTooLarge"
	PresenceFull                   Code = "PresenceFull"
	PresenceDenied                 Code = "PresenceDenied"
	ClientPresenceRateLimitReached Code = "ClientPresenceRateLimitReached"
)

// What ends a channel or a socket.
const (
	NoLongerAuthorized Code = "NoLongerAuthorized"
	RealtimeRestarting Code = "RealtimeRestarting"
	ServerDisconnect   Code = "ServerDisconnect"
	Disconnected       Code = "Disconnected"
)

// Sentences beyond the first of their code, for Code.Because, and those of system messages that are no refusals. Those
// with verbs are for fmt.Sprintf.
const (
	TextTokenExpired       = "Token has expired %d seconds ago"
	TextTokenClaims        = "Fields `role` and `exp` are required in JWT"
	TextTokenExpiry        = "Token expiration time is invalid"
	TextTokenClaim         = "The claim `%s` of the token %s"
	TextSignerKey          = `Failed to generate JWT signer for key ID (kid) "%s", check your JWT secret or JWKS configuration`
	TextReplayParams       = "Replay params are not valid"
	TextReplayFailed       = "Realtime was unable to replay messages"
	TextGapLimit           = "More was sent meanwhile than is replayed, the newest %d messages follow"
	TextGapDropped         = "Something that was sent meanwhile may not be kept any more"
	TextGapUnreadable      = "A message could not be read from the database"
	TextReplicationReady   = "Replication connection established"
	TextBroadcastNotObject = "The payload of a broadcast must be an object"
	TextBroadcastKey       = "A broadcast may not have a key named `%s`"
	TextMessagesLost       = "Messages may have been lost while the database was not heard"
	TextMessageDropped     = "A message was lost: it is too large, or cannot be read"
	TextTooManyHeld        = "More messages were waiting for a decision about you than may wait"
	TextBroadcastEvent     = "The event of a broadcast must be text"
	TextTooManyBytes       = "Too many bytes per second"
	TextTopicLength        = "A topic may be at most %d bytes long"
	TextEventLength        = "An event may be at most %d bytes long"
	TextIDLength           = "An id may be at most %d bytes long"
	TextTooDeep            = "is nested too deeply"
	TextBlank              = "can't be blank"
	TextInvalid            = "is invalid"
	TextPayloadSize        = "Payload size exceeds tenant limit"
	TextRefused            = "Unauthorized"
	TextNoDatabase         = "Tenant database unavailable"
	TextRateLimit          = "You have exceeded your rate limit"
	TextBatchSize          = "Too many messages to broadcast, please reduce the batch size"
	TextSomeRefused        = "%d of %d messages were refused"
	TextDisconnected       = "You were disconnected: %s"
	TextJoinLeft           = "The topic was left before its join was answered"
	TextNoLongerPresent    = "You no longer have permission to be present on this Channel topic: %s"
)

// Sentences about changes of rows. Those of PostgresChangesRefused are Supabase Realtime's, where it has some; and of these that
// tell of something good, or of nothing bad, none has a code.
const (
	TextSubscribed       = "Subscribed to PostgreSQL"
	TextTruncated        = "TRUNCATE %s.%s"
	TextSnapshotComplete = "Snapshot complete: %d rows"

	TextChangesParams       = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %s"
	TextChangesFilter       = "Error parsing `filter` params: %s"
	TextChangesSelect       = "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]"
	TextChangesNumbers      = "Error parsing `numbers` params: expected \"string\" or \"number\""
	TextChangesSnapshot     = "Error parsing `snapshot` params: expected true or false"
	TextChangesWildSelect   = "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
	TextChangesWildSnapshot = "A snapshot is not supported for wildcard subscriptions. Provide an explicit schema and table name."
	TextChangesNotPublished = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: %s"
	TextChangesException    = "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: %s. Exception: %s"

	TextChangesUnreadable = "Changes cannot be read from the database: %s"
	TextChangesSlotWaits  = "Changes cannot be read yet: transactions have to end first that were there before (see slot_blocked of rowcast doctor)"
	TextChangesGrant      = "Changes of %s.%s are told without their rows: %s"
	TextChangesUndecided  = "Changes of %s.%s are kept from you: whether you may see the rows cannot be decided"
	TextSnapshotTooLarge  = "Unable to give a snapshot of %s.%s: there are more than %d rows, and a filter may leave fewer"
	TextSnapshotRefused   = "Unable to give a snapshot of %s.%s: %s"
	TextSnapshotFailed    = "Unable to give a snapshot of %s.%s at the moment: it is tried again"
	TextSnapshotOvertaken = "Unable to give a snapshot: more changes than may wait came meanwhile, several times"
	TextSnapshotBusy      = "Unable to give a snapshot: too many are asked for at the moment"
	TextSnapshotSlow      = "Unable to give a snapshot: it was not done in %s, and others wait for theirs"
	TextChangesTimeout    = "Timed out after %dms waiting for the postgres_changes subscription"
	TextChangesTimeoutWhy = TextChangesTimeout + ": %s"
	TextGapStream         = "Changes may have been missed while the database was not heard"
	TextGapUndecided      = "Changes may have been missed: who may see them could not be found out"
	TextGapExcess         = "Changes may have been missed: too many came while the snapshot was given, which begins again"
	TextGapAgain          = "Changes may have been missed: the snapshot was not complete, and begins again"
)

// Place says where a code can appear.
type Place uint8

const (
	InJoinReply Place = 1 << iota
	InPushReply
	InSystem
	InREST
	InClose
)

// Entry is a line of the table of codes.
type Entry struct {
	Code  Code
	Texts []string // the usual sentence first; verbs stand for what differs each time
	REST  []string // the sentences over REST, where they are others
	Where Place
	Close int  // WebSocket close code, if Where has InClose
	Bare  bool // clients know the sentence alone, without "<Code>: "
}

// closeRestart is the WebSocket close code of a server that restarts (the IANA registry).
const closeRestart = 1012

// closePolicy is that of RFC 6455 for a client that is not wanted.
const closePolicy = 1008

// refusedOverREST is all that a token that is refused is told there; the code says more.
var refusedOverREST = []string{TextRefused}

// changesRefused is what is wrong with entries that no changes can be told for.
var changesRefused = []string{
	TextChangesNotPublished, TextChangesException, TextChangesParams, TextChangesFilter, TextChangesSelect, TextChangesWildSelect,
	TextChangesNumbers, TextChangesSnapshot, TextChangesWildSnapshot,
}

// table holds every code once. Sentences that upstream also sends are upstream's to the letter: programs match them.
var table = []Entry{
	{Code: TopicNameRequired, Where: InJoinReply, Texts: []string{"You must provide a topic name"}},
	{Code: TopicTooLong, Where: InJoinReply, Texts: []string{TextTopicLength}},
	{Code: InvalidJoinPayload, Where: InJoinReply, Texts: []string{"%s"}}, // the JoinError
	{Code: PrivateOnly, Where: InJoinReply | InREST, Texts: []string{"This project only allows private channels"}},
	{Code: ClientJoinRateLimitReached, Where: InJoinReply,
		Texts: []string{"Too many joins per second"}},
	{Code: ChannelRateLimitReached, Where: InJoinReply, Texts: []string{"Too many channels"}},
	{Code: InvalidJWTToken, Where: InJoinReply | InSystem | InREST,
		Texts: []string{TextTokenExpired, TextTokenClaims, TextTokenExpiry, TextTokenClaim}, REST: refusedOverREST},
	{Code: MalformedJWT, Where: InJoinReply | InSystem | InREST, Texts: []string{"The token provided is not a valid JWT"}, REST: refusedOverREST},
	{Code: JwtSignatureError, Where: InJoinReply | InSystem | InREST, Texts: []string{"Failed to validate JWT signature"}, REST: refusedOverREST},
	{Code: JwtSignerError, Where: InJoinReply | InSystem | InREST,
		Texts: []string{"Failed to generate JWT signer, check your JWT secret or JWKS configuration", TextSignerKey}, REST: refusedOverREST},
	{Code: JwtKeysMissing, Where: InJoinReply | InSystem | InREST,
		Texts: []string{"The keys that tokens are verified with cannot be fetched at the moment, please try again"}},
	{Code: RoleNotAllowed, Where: InJoinReply | InSystem | InREST, Texts: []string{"The role `%s` is not allowed to use this server"}, REST: refusedOverREST},
	{Code: Unauthorized, Where: InJoinReply | InSystem | InREST,
		Texts: []string{"You do not have permissions to read from this Channel topic: %s"}, REST: refusedOverREST},
	{Code: UnableToReplayMessages, Where: InJoinReply | InSystem,
		Texts: []string{"Replay is not allowed for public channels", TextReplayParams, TextReplayFailed}},
	{Code: JoinSuperseded, Where: InJoinReply, Texts: []string{"Another join of this topic took the place of this one", TextJoinLeft}},
	{Code: NotSupported, Where: InPushReply | InSystem | InREST, Texts: []string{"This server does not support %s"}},

	{Code: UnableToConnectToProject, Where: InJoinReply | InPushReply | InSystem | InREST,
		Texts: []string{"Realtime was unable to connect to the project database"}, REST: []string{TextNoDatabase}},
	{Code: Deaf, Where: InJoinReply | InPushReply | InSystem | InREST,
		Texts: []string{"Realtime cannot prove that it hears the database, private channels pause until it does"}, REST: []string{TextNoDatabase}},

	{Code: UnmatchedTopic, Where: InPushReply, Bare: true, Texts: []string{"unmatched topic"}},
	{Code: MalformedWebSocketMessage, Where: InPushReply, Texts: []string{"%s"}}, // the DecodeError
	{Code: PayloadSizeExceeded, Where: InPushReply | InREST, Bare: true, Texts: []string{"payload_size_exceeded"}, REST: []string{TextPayloadSize}},
	{Code: InvalidBroadcast, Where: InPushReply | InSystem | InREST,
		Texts: []string{TextBroadcastNotObject, TextBroadcastKey, TextBroadcastEvent},
		REST:  []string{TextBlank, TextInvalid, TextTooDeep, TextTopicLength, TextEventLength, TextIDLength}},
	{Code: SendDenied, Where: InPushReply | InSystem | InREST,
		Texts: []string{"You do not have permissions to write to this Channel topic: %s"}, REST: []string{TextRefused, TextSomeRefused}},
	{Code: MessagePerSecondRateLimitReached, Where: InPushReply | InSystem | InREST,
		Texts: []string{"Too many messages per second", TextTooManyBytes}, REST: []string{TextRateLimit, TextBatchSize, TextTooManyBytes}},
	{Code: MessagesWithheld, Where: InSystem, Texts: []string{"%d messages were withheld from you: %s", TextMessagesLost, TextMessageDropped, TextTooManyHeld}},
	{Code: BinaryNotSupported, Where: InSystem,
		Texts: []string{"A binary message was withheld from you: only wire version 2.0.0 can carry it"}},
	{Code: ReplayGap, Where: InSystem,
		Texts: []string{"Nothing is known here of the messages to go on after, the newest %d messages follow", TextGapLimit, TextGapDropped, TextGapUnreadable}},

	{Code: PostgresChangesRefused, Where: InSystem, Bare: true, Texts: changesRefused},
	{Code: RealtimeDisabledForConfiguration, Where: InJoinReply, Texts: changesRefused},
	{Code: PostgresChangesSubscribeTimeout, Where: InJoinReply, Texts: []string{TextChangesTimeout, TextChangesTimeoutWhy}},
	{Code: PostgresChangesUnavailable, Where: InSystem | InJoinReply,
		Texts: []string{"Changes cannot be read from the database at the moment: it is tried again", TextChangesUnreadable, TextChangesSlotWaits}},
	{Code: PostgresChangesWithheld, Where: InSystem, Texts: []string{TextChangesUndecided, TextChangesGrant}},
	{Code: PostgresChangesSnapshot, Where: InSystem,
		Texts: []string{TextSnapshotTooLarge, TextSnapshotRefused, TextSnapshotFailed, TextSnapshotOvertaken, TextSnapshotBusy, TextSnapshotSlow}},
	{Code: PostgresChangesGap, Where: InSystem, Texts: []string{TextGapStream, TextGapUndecided, TextGapExcess, TextGapAgain}},

	{Code: MissingAPIKey, Where: InREST, Texts: refusedOverREST},
	{Code: OriginNotAllowed, Where: InREST, Texts: []string{"Origin not allowed"}},
	{Code: MethodNotAllowed, Where: InREST, Texts: []string{"Method not allowed"}},
	{Code: HeadersTooLarge, Where: InREST, Texts: []string{"The headers may be at most %d bytes long as JSON"}},
	{Code: UnsupportedMediaType, Where: InREST,
		Texts: []string{"Unsupported Media Type. Use application/json or application/octet-stream"}},
	{Code: MalformedBody, Where: InREST, Texts: []string{"%s"}},
	{Code: BodyTooLarge, Where: InREST, Texts: []string{"The body may be at most %d bytes long"}},
	{Code: BodyTooSlow, Where: InREST, Texts: []string{"The body did not arrive in time"}},
	{Code: ServerBusy, Where: InREST, Texts: []string{"Too many requests"}},
	{Code: RLSPolicyError, Where: InREST, Texts: []string{"RLS policy error"}},
	{Code: QueryCanceled, Where: InREST, Texts: []string{"Query canceled"}},

	{Code: InvalidPresencePayload, Where: InPushReply, Bare: true, Texts: []string{"Presence track payload must be a map"}},
	{Code: UnknownPresenceEvent, Where: InPushReply, Texts: []string{"A presence event must be track or untrack"}},
	{Code: TrackTooLarge, Where: InPushReply, Texts: []string{"Track message size exceeded"}},
	{Code: PresenceFull, Where: InPushReply, Texts: []string{"The presence of this Channel topic holds as much as it may: %s"}},
	{Code: PresenceDenied, Where: InPushReply | InSystem,
		Texts: []string{"You do not have permissions to be present on this Channel topic: %s", TextNoLongerPresent}},
	{Code: ClientPresenceRateLimitReached, Where: InPushReply, Texts: []string{"Client presence rate limit exceeded"}},

	{Code: NoLongerAuthorized, Where: InSystem, Bare: true,
		Texts: []string{"You no longer have permission to read from this Channel topic: %s"}},
	{Code: RealtimeRestarting, Where: InJoinReply | InClose | InREST, Close: closeRestart,
		Texts: []string{"Realtime is restarting, please standby"}, REST: []string{"%s"}},
	{Code: ServerDisconnect, Where: InSystem | InClose, Close: closeRestart, Bare: true,
		Texts: []string{"Server requested disconnect"}},
	{Code: Disconnected, Where: InJoinReply | InSystem | InClose, Close: closePolicy, Texts: []string{"You were disconnected", TextDisconnected}},
}

var byCode = func() map[Code]Entry {
	m := make(map[Code]Entry, len(table))
	for _, e := range table {
		m[e.Code] = e
	}
	return m
}()

// Codes is the whole table, in its order, for documentation and checks. It is a copy.
func Codes() []Entry {
	entries := slices.Clone(table)
	for i := range entries {
		entries[i].Texts, entries[i].REST = slices.Clone(entries[i].Texts), slices.Clone(entries[i].REST)
	}
	return entries
}

// Text is the usual sentence of c, without the code. The args are what its verbs stand for.
func (c Code) Text(args ...any) string {
	e, ok := byCode[c]
	if !ok {
		return string(c)
	}
	return fmt.Sprintf(e.Texts[0], args...)
}

// Reason is what a client is told: `<Code>: <text>`, or the text alone where clients have always been told no more.
func (c Code) Reason(args ...any) string { return c.Because(c.Text(args...)) }

// Because is Reason with another sentence than the usual one.
func (c Code) Because(text string) string {
	if byCode[c].Bare {
		return text
	}
	return string(c) + ": " + text
}

// Response is the response of a reply with status error: {"reason": …} and no other key, as realtime-js joins all of
// them into its message. An oversized payload is answered with a bare string.
func (c Code) Response(args ...any) []byte { return c.ResponseBecause(c.Text(args...)) }

// ResponseBecause is Response with another sentence than the usual one.
func (c Code) ResponseBecause(text string) []byte {
	reason := c.Because(text)
	if c == PayloadSizeExceeded {
		return AppendString(nil, reason)
	}
	return append(AppendString([]byte(`{"reason":`), reason), '}')
}

// DenialRead is the sentence for somebody who may not receive on a topic, given with its prefix.
func DenialRead(topic string) string { return Unauthorized.Text(SubTopic(topic)) }

// NoLongerRead is the sentence for somebody who may not receive on a topic any more.
func NoLongerRead(topic string) string { return NoLongerAuthorized.Text(SubTopic(topic)) }

// GapLimit is the sentence for somebody who lacks more than is replayed.
func GapLimit(following int) string { return fmt.Sprintf(TextGapLimit, following) }
