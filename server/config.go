package main

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"rowcast/server/jwks"
)

// Config is everything that an operator can set. Packages get what they need of it as plain values.
type Config struct {
	DatabaseURL       string
	ListenDatabaseURL string // never empty once parsed, where DatabaseURL is not

	JWTSecret      string
	JWTJWKS        string
	JWTJWKSURLs    []string
	JWTIssuers     []string
	JWTAudiences   []string
	JWTRoleClaim   string
	JWTDefaultRole string
	AllowedRoles   []string
	BypassRoles    []string

	Addr           string
	AdminAddr      string
	PrivateOnly    bool
	AllowedOrigins []string

	MaxConnections             int // of all limits, 0 means none
	MaxChannelsPerSocket       int
	MaxJoinsPerSecond          int
	MaxEventsPerSecond         int
	MaxBytesPerSecond          int
	MaxPresenceEventsPerSecond int
	MaxFrameBytes              int
	MaxPayloadBytes            int
	MaxPresenceStateBytes      int
	MaxReplayMessages          int
	MaxQueueBytes              int
	MaxRESTBodyBytes           int
	MaxRESTMessages            int // a second, from one caller
	MaxRESTBytes               int // the same
	MaxQueueAge                time.Duration
	IdleTimeout                time.Duration
	NoChannelTimeout           time.Duration
	MaxHeaderBytes             int
	PoolSize                   int
	FeedSource                 string
	DeafAfter                  time.Duration
	MaxDeaf                    time.Duration
	MessageRetention           time.Duration
	Watch                      string        // auto, report or off
	RightsPollInterval         time.Duration // 0: never
	RecheckInterval            time.Duration // 0: never
	DecisionLog                string        // off, log, sql or both
	DecisionRetention          time.Duration
	Publication                string
	MaxChangeBytes             int
	MaxSnapshotRows            int
	ChangesSlot                string // empty: a temporary one
	MaxSlotWALBytes            int

	AllowSecondNode bool

	LogLevel  slog.Level
	LogFormat string
}

// setting is one row of the table that flags, environment, help, logs and the documentation are made from.
type setting struct {
	name     string // in the environment; the flag is the same in lower case, with dashes
	def      string // default, as it would be written
	help     string
	secret   bool // may come from the file that NAME_FILE names, and is masked in logs
	required bool // by a server
	limit    bool // 0 lifts it
	into     func(*Config) value
}

func (s setting) flag() string { return strings.ReplaceAll(strings.ToLower(s.name), "_", "-") }

var settings = []setting{
	{name: "DATABASE_URL", secret: true, required: true,
		help: "connections for queries; may lead through PgBouncer in transaction mode",
		into: func(c *Config) value { return databaseValue{&c.DatabaseURL} }},
	{name: "LISTEN_DATABASE_URL", secret: true,
		help: "a direct connection for LISTEN, never through a transaction pooler; empty: DATABASE_URL",
		into: func(c *Config) value { return databaseValue{&c.ListenDatabaseURL} }},
	{name: "JWT_SECRET", secret: true,
		help: "the secret that HS256, HS384 and HS512 tokens are signed with; a server needs this, JWT_JWKS or JWT_JWKS_URL",
		into: func(c *Config) value { return textValue{&c.JWTSecret} }},
	{name: "JWT_JWKS", secret: true,
		help: "a JSON Web Key Set with the keys that tokens are verified with: RSA, EC, Ed25519, or oct for secrets",
		into: func(c *Config) value { return keySetValue{&c.JWTJWKS} }},
	{name: "JWT_JWKS_URL",
		help: "where key sets are fetched from, kept and fetched again; https, or http on localhost",
		into: func(c *Config) value { return listValue{&c.JWTJWKSURLs, jwks.CheckURL} }},
	{name: "JWT_ISSUER",
		help: "claim iss must be one of these; empty: unchecked",
		into: func(c *Config) value { return listValue{&c.JWTIssuers, nil} }},
	{name: "JWT_AUDIENCE",
		help: "claim aud must hold one of these; empty: unchecked",
		into: func(c *Config) value { return listValue{&c.JWTAudiences, nil} }},
	{name: "JWT_ROLE_CLAIM", def: "role",
		help: "the claim that names the Postgres role, or a path to it such as app_metadata.role",
		into: func(c *Config) value { return textValue{&c.JWTRoleClaim} }},
	{name: "JWT_DEFAULT_ROLE",
		help: "the role of a token without that claim; empty: such a token is refused",
		into: func(c *Config) value { return textValue{&c.JWTDefaultRole} }},
	{name: "ALLOWED_ROLES", def: "anon authenticated service_role",
		help: "a token that names any other role is refused before any SQL",
		into: func(c *Config) value { return listValue{&c.AllowedRoles, tokenRole} }},
	{name: "BYPASS_ROLES", def: "service_role",
		help: "of these, who may bypass row level security; any other that does is refused",
		into: func(c *Config) value { return listValue{&c.BypassRoles, tokenRole} }},
	{name: "ADDR", def: ":4000",
		help: "where clients connect",
		into: func(c *Config) value { return addressValue{&c.Addr} }},
	{name: "ADMIN_ADDR", def: "127.0.0.1:4001",
		help: "health, metrics, pprof and the list of sessions",
		into: func(c *Config) value { return addressValue{&c.AdminAddr} }},
	{name: "PRIVATE_ONLY", def: "false",
		help: "refuse public channels",
		into: func(c *Config) value { return boolValue{&c.PrivateOnly} }},
	{name: "ALLOWED_ORIGINS", def: "*",
		help: "browser origins that may connect, such as https://example.com; a request without Origin passes",
		into: func(c *Config) value { return listValue{&c.AllowedOrigins, origin} }},
	{name: "MAX_CONNECTIONS", def: "0", limit: true,
		help: "sockets on this server",
		into: func(c *Config) value { return numberValue{&c.MaxConnections} }},
	{name: "MAX_CHANNELS_PER_SOCKET", def: "100", limit: true,
		help: "channels joined at once on one socket",
		into: func(c *Config) value { return numberValue{&c.MaxChannelsPerSocket} }},
	{name: "MAX_JOINS_PER_SECOND", def: "100", limit: true,
		help: "joins on one socket",
		into: func(c *Config) value { return numberValue{&c.MaxJoinsPerSecond} }},
	{name: "MAX_EVENTS_PER_SECOND", def: "1000", limit: true,
		help: "messages from one socket",
		into: func(c *Config) value { return numberValue{&c.MaxEventsPerSecond} }},
	{name: "MAX_BYTES_PER_SECOND", def: "1000000", limit: true,
		help: "of messages from one socket; a single one may be larger, and those after it wait",
		into: func(c *Config) value { return numberValue{&c.MaxBytesPerSecond} }},
	{name: "MAX_PRESENCE_EVENTS_PER_SECOND", def: "50", limit: true,
		help: "presence events (track, untrack) from one socket",
		into: func(c *Config) value { return numberValue{&c.MaxPresenceEventsPerSecond} }},
	{name: "MAX_FRAME_BYTES", def: "5000000", limit: true,
		help: "one WebSocket frame from a client",
		into: func(c *Config) value { return numberValue{&c.MaxFrameBytes} }},
	{name: "MAX_PAYLOAD_BYTES", def: "3000000", limit: true,
		help: "the payload of one message",
		into: func(c *Config) value { return numberValue{&c.MaxPayloadBytes} }},
	{name: "MAX_PRESENCE_STATE_BYTES", def: "1000000", limit: true,
		help: "what may be tracked on one channel by all its members together; below MAX_QUEUE_BYTES, so that being told of it ends no reader",
		into: func(c *Config) value { return numberValue{&c.MaxPresenceStateBytes} }},
	{name: "MAX_QUEUE_BYTES", def: "1048576", limit: true,
		help: "what may wait for a slow reader behind the frame being written",
		into: func(c *Config) value { return numberValue{&c.MaxQueueBytes} }},
	{name: "MAX_REST_BODY_BYTES", def: "8000000", limit: true,
		help: "the body of one request over REST",
		into: func(c *Config) value { return numberValue{&c.MaxRESTBodyBytes} }},
	{name: "MAX_REST_MESSAGES_PER_SECOND", def: "1000", limit: true,
		help: "messages over REST from one user, or from all who have a role and no user id",
		into: func(c *Config) value { return numberValue{&c.MaxRESTMessages} }},
	{name: "MAX_REST_BYTES_PER_SECOND", def: "10000000", limit: true,
		help: "of the bodies of these requests, and of what is told about presence; a single one may be larger, and those after it are refused for as long as that takes",
		into: func(c *Config) value { return numberValue{&c.MaxRESTBytes} }},
	{name: "MAX_REPLAY_MESSAGES", def: "1000", limit: true,
		help: "messages that one replay brings",
		into: func(c *Config) value { return numberValue{&c.MaxReplayMessages} }},
	{name: "MAX_QUEUE_AGE", def: "60s", limit: true,
		help: "how long a frame may wait for a slow reader",
		into: func(c *Config) value { return durationValue{&c.MaxQueueAge} }},
	{name: "IDLE_TIMEOUT", def: "60s", limit: true,
		help: "a socket from which nothing is received for so long is closed",
		into: func(c *Config) value { return durationValue{&c.IdleTimeout} }},
	{name: "NO_CHANNEL_TIMEOUT", def: "10m", limit: true,
		help: "a socket without a channel is closed after so long",
		into: func(c *Config) value { return durationValue{&c.NoChannelTimeout} }},
	{name: "MAX_HEADER_BYTES", def: "65536",
		help: "the headers of one HTTP request, of which a token is one",
		into: func(c *Config) value { return numberValue{&c.MaxHeaderBytes} }},
	{name: "POOL_SIZE", def: "12",
		help: "connections to DATABASE_URL; LISTEN has one of its own",
		into: func(c *Config) value { return numberValue{&c.PoolSize} }},
	{name: "FEED_SOURCE", def: "auto",
		help: "how messages sent from SQL are heard: wal, from the write-ahead log, which takes wal_level = logical and a role that may replicate, and spares their transactions what NOTIFY costs; notify; or auto, the first where it can be had",
		into: func(c *Config) value { return choiceValue{&c.FeedSource, []string{"auto", "notify", "wal"}} }},
	{name: "DEAF_AFTER", def: "5s",
		help: "private delivery pauses after so long without proof that the database is heard; at least 2s",
		into: func(c *Config) value { return durationValue{&c.DeafAfter} }},
	{name: "MAX_DEAF", def: "30s", limit: true,
		help: "private channels are ended after pausing for so long",
		into: func(c *Config) value { return durationValue{&c.MaxDeaf} }},
	{name: "ALLOW_SECOND_NODE", def: "false",
		help: "serve although another server serves the same database: clients of one do not hear clients of the other",
		into: func(c *Config) value { return boolValue{&c.AllowSecondNode} }},
	{name: "MESSAGE_RETENTION", def: "72h", limit: true,
		help: "how long rows of realtime.messages are kept",
		into: func(c *Config) value { return durationValue{&c.MessageRetention} }},
	{name: "WATCH", def: "auto",
		help: "what policies depend on: auto finds it out and installs triggers where that is allowed; report only tells; off does not look, and only watch() counts",
		into: func(c *Config) value { return choiceValue{&c.Watch, []string{"auto", "report", "off"}} }},
	{name: "RIGHTS_POLL_INTERVAL", def: "1s",
		help: "how often the server looks whether policies, privileges and functions have changed; 0: only when it makes a decision",
		into: func(c *Config) value { return durationValue{&c.RightsPollInterval} }},
	{name: "RECHECK_INTERVAL", def: "5s",
		help: "how often everybody is decided again while policies depend on something whose changes cannot be noticed; 0: never",
		into: func(c *Config) value { return durationValue{&c.RecheckInterval} }},
	{name: "DECISION_LOG", def: "off",
		help: "who is let in where, until when, and why not: to the server's log, to the table realtime.decisions, or both",
		into: func(c *Config) value { return choiceValue{&c.DecisionLog, []string{"off", "log", "sql", "both"}} }},
	{name: "DECISION_RETENTION", def: "720h", limit: true,
		help: "how long rows of realtime.decisions are kept, in whole days",
		into: func(c *Config) value { return durationValue{&c.DecisionRetention} }},
	{name: "PUBLICATION", def: "supabase_realtime",
		help: "the publication whose tables Postgres Changes tells of; created if it is missing and may be",
		into: func(c *Config) value { return textValue{&c.Publication} }},
	{name: "MAX_CHANGE_BYTES", def: "1048576", limit: true,
		help: "a row of Postgres Changes; of a larger one only values of up to 64 bytes are delivered, with Error 413",
		into: func(c *Config) value { return numberValue{&c.MaxChangeBytes} }},
	{name: "MAX_SNAPSHOT_ROWS", def: "10000", limit: true,
		help: "rows that a subscription with snapshot begins with",
		into: func(c *Config) value { return numberValue{&c.MaxSnapshotRows} }},
	{name: "CHANGES_SLOT",
		help: "a replication slot of this name outlasts a lost connection, so that no changes are missed; empty: a temporary one, and a lost connection is a gap that subscribers are told of",
		into: func(c *Config) value { return textValue{&c.ChangesSlot} }},
	{name: "MAX_SLOT_WAL_BYTES", def: "1073741824", limit: true,
		help: "WAL that the slot of CHANGES_SLOT may hold back; one that holds more is dropped, and subscribers are told of a gap",
		into: func(c *Config) value { return numberValue{&c.MaxSlotWALBytes} }},
	{name: "LOG_LEVEL", def: "info",
		help: "the least severe lines that are logged",
		into: func(c *Config) value { return levelValue{&c.LogLevel} }},
	{name: "LOG_FORMAT", def: "auto",
		help: "auto is text on a terminal and JSON elsewhere",
		into: func(c *Config) value { return choiceValue{&c.LogFormat, []string{"auto", "text", "json"}} }},
}

// settingsNamed keeps the order of the table.
func settingsNamed(names ...string) []setting {
	var found []setting
	for _, s := range settings {
		if slices.Contains(names, s.name) {
			found = append(found, s)
		}
	}
	if len(found) != len(names) {
		panic(fmt.Sprintf("a name in %q is not a setting", names))
	}
	return found
}

// defaultConfig is what an operator who sets nothing gets.
func defaultConfig() Config {
	var c Config
	for _, s := range settings {
		if s.def == "" {
			continue
		}
		if err := s.into(&c).set(s.def); err != nil {
			panic(fmt.Sprintf("default of %s: %v", s.name, err))
		}
	}
	return c
}

// maxKeyURLs is more issuers than anybody trusts; every one costs a fetch every few minutes.
const maxKeyURLs = 20

// minDeafAfter leaves time for heartbeats on a busy machine.
const minDeafAfter = 2 * time.Second

// minPoolSize is one for each kind of question and two workers of the decider.
const minPoolSize = 4

// slotName is what Postgres takes for one.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// minHeaderBytes is what browsers send without a token.
const minHeaderBytes = 4096

// settle fills in what follows from other settings, and refuses settings that contradict each other.
func (c *Config) settle() error {
	if c.ListenDatabaseURL == "" {
		c.ListenDatabaseURL = c.DatabaseURL
	}
	switch {
	case c.DeafAfter < minDeafAfter:
		return usagef("DEAF_AFTER %s is shorter than %s: one late heartbeat would pause everybody", c.DeafAfter, minDeafAfter)
	case c.PoolSize < minPoolSize:
		return usagef("POOL_SIZE %d is below %d: decisions, the feed and its heartbeats would wait for one another", c.PoolSize, minPoolSize)
	case c.MaxHeaderBytes < minHeaderBytes:
		return usagef("MAX_HEADER_BYTES %d is below %d: a token would not fit", c.MaxHeaderBytes, minHeaderBytes)
	case len(c.JWTJWKSURLs) > maxKeyURLs:
		return usagef("JWT_JWKS_URL names %d addresses, at most %d", len(c.JWTJWKSURLs), maxKeyURLs)
	case len(c.AllowedRoles) == 0:
		return usagef("ALLOWED_ROLES is empty: every token would be refused; name at least one role")
	case c.JWTRoleClaim == "":
		return usagef("JWT_ROLE_CLAIM is empty: name the claim that holds the role")
	case c.JWTDefaultRole != "" && !slices.Contains(c.AllowedRoles, c.JWTDefaultRole):
		return usagef("JWT_DEFAULT_ROLE %q is not in ALLOWED_ROLES: add it there", c.JWTDefaultRole)
	case c.Publication == "":
		return usagef("PUBLICATION is empty: name the publication whose tables clients may subscribe to")
	case c.ChangesSlot != "" && !slotName.MatchString(c.ChangesSlot):
		return usagef("CHANGES_SLOT %q is no name of a replication slot: up to 63 letters a to z, digits and _", c.ChangesSlot)
	}
	return nil
}

// requireAll is for commands that run a server.
func (c *Config) requireAll() error {
	var names []string
	for _, s := range settings {
		if s.required {
			names = append(names, s.name)
		}
	}
	if err := c.require(names...); err != nil {
		return err
	}
	if c.JWTSecret == "" && c.JWTJWKS == "" && len(c.JWTJWKSURLs) == 0 {
		return usagef("JWT_SECRET, JWT_JWKS or JWT_JWKS_URL is required: set one of them in the environment or give its flag, such as --jwt-secret")
	}
	return nil
}

// require says which of the named settings is missing.
func (c *Config) require(names ...string) error {
	for _, s := range settingsNamed(names...) {
		if s.into(c).show() == "" {
			return usagef("%s is required: set it in the environment or give --%s", s.name, s.flag())
		}
	}
	return nil
}

// liftedLimits names every limit that is off, for the start-up log.
func (c *Config) liftedLimits() []string {
	var lifted []string
	for _, s := range settings {
		if text := s.into(c).show(); s.limit && (text == "0" || text == "0s") {
			lifted = append(lifted, s.name)
		}
	}
	return lifted
}

// shown is a setting's value as a log may hold it.
func (s setting) shown(c *Config) string {
	v := s.into(c)
	if !s.secret || v.show() == "" {
		return v.show()
	}
	if d, ok := v.(databaseValue); ok {
		return redactDatabase(*d.to)
	}
	return masked
}

// LogValue is the effective configuration, without its secrets.
func (c Config) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, len(settings))
	for _, s := range settings {
		attrs = append(attrs, slog.String(strings.ToLower(s.name), s.shown(&c)))
	}
	return slog.GroupValue(attrs...)
}

// String keeps secrets out of %v.
func (c Config) String() string { return c.LogValue().String() }

// GoString keeps them out of %#v.
func (c Config) GoString() string { return c.String() }
