package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite files that are made from code")

func parseAll(args []string, env environment) (Config, error) {
	return newFlags("serve [flags]", "Serves.", settings).parseOnly(args, env)
}

// octKeySet is a key set as short as they come.
const octKeySet = `{"keys":[{"kty":"oct","kid":"k1","k":"c2VzYW1lLCBhbmQgc2VzYW1lIGFnYWluLCBhbmQgYWdhaW4"}]}`

func TestDefaults(t *testing.T) {
	t.Parallel()
	got, err := parseAll(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		JWTRoleClaim: "role", AllowedRoles: []string{"anon", "authenticated", "service_role"}, BypassRoles: []string{"service_role"},
		Addr: ":4000", AdminAddr: "127.0.0.1:4001", AllowedOrigins: []string{"*"},
		MaxChannelsPerSocket: 100, MaxJoinsPerSecond: 100, MaxEventsPerSecond: 1000, MaxPresenceEventsPerSecond: 50, MaxPresenceStateBytes: 1_000_000,
		MaxFrameBytes: 5_000_000, MaxPayloadBytes: 3_000_000, MaxQueueBytes: 1_048_576,
		MaxBytesPerSecond: 1_000_000, MaxHeaderBytes: 65536, PoolSize: 12, FeedSource: "auto", IdleTimeout: time.Minute, NoChannelTimeout: 10 * time.Minute,
		MaxRESTBodyBytes: 8_000_000, MaxRESTMessages: 1000, MaxRESTBytes: 10_000_000,
		MaxReplayMessages: 1000, MaxQueueAge: time.Minute, DeafAfter: 5 * time.Second, MaxDeaf: 30 * time.Second, MessageRetention: 72 * time.Hour,
		Watch: "auto", RightsPollInterval: time.Second, RecheckInterval: 5 * time.Second, DecisionLog: "off", DecisionRetention: 720 * time.Hour, LogFormat: "auto",
		Publication: "supabase_realtime", MaxChangeBytes: 1_048_576, MaxSnapshotRows: 10_000, MaxSlotWALBytes: 1 << 30,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"MAX_CONNECTIONS"}, got.liftedLimits()); diff != "" {
		t.Errorf("lifted limits: %s", diff)
	}
}

// Every setting can be given both ways, and the flag wins.
func TestEverySettingAsFlagAndEnvironment(t *testing.T) {
	t.Parallel()
	samples := map[string][2]string{"text": {"one", "two"}, "URL": {"postgres://a/b", "postgres://c/d"}, "list": {"one two", "three"},
		"host:port": {"127.0.0.1:1", ":2"}, "number": {"7000", "8000"}, "duration": {"1m0s", "2h0m0s"}, "true|false": {"true", "false"},
		"debug|info|warn|error": {"debug", "error"}, "auto|text|json": {"text", "json"}, "off|log|sql|both": {"sql", "both"}, "auto|report|off": {"report", "off"}, "auto|notify|wal": {"notify", "wal"}}
	samples["JSON"] = [2]string{octKeySet, strings.Replace(octKeySet, "k1", "k2", 1)}
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			sample := samples[s.into(&Config{}).kind()]
			if s.name == "JWT_JWKS_URL" {
				sample = [2]string{"https://issuer.example/jwks http://localhost:9999/auth/v1/.well-known/jwks.json", "http://[::1]/"}
			}
			if s.name == "ALLOWED_ORIGINS" {
				sample = [2]string{"https://a.example http://localhost:3000", "https://*.example.com"}
			}
			extra := environment{"ALLOWED_ROLES": "one two"}
			if s.name == "JWT_DEFAULT_ROLE" {
				sample = [2]string{"one", "two"}
			}
			check := func(args []string, env environment, want string) {
				t.Helper()
				for name, text := range extra {
					if _, set := env[name]; !set {
						env[name] = text
					}
				}
				c, err := parseAll(args, env)
				if err != nil {
					t.Fatal(err)
				}
				if got := s.into(&c).show(); got != want {
					t.Errorf("%q %q: got %q, want %q", args, env, got, want)
				}
			}
			check(nil, environment{s.name: sample[0]}, sample[0])
			check([]string{"--" + s.flag() + "=" + sample[0]}, environment{}, sample[0])
			check([]string{"--" + s.flag() + "=" + sample[0]}, environment{s.name: sample[1]}, sample[0])
			if s.secret {
				file := filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(file, []byte(sample[0]+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				check(nil, environment{s.name + "_FILE": file}, sample[0])
				check(nil, environment{s.name + "_FILE": file, s.name: ""}, sample[0])
				check([]string{"--" + s.flag() + "-file", file}, environment{s.name: sample[1]}, sample[0])
				check([]string{"--" + s.flag(), sample[1]}, environment{s.name + "_FILE": file}, sample[1])
			}
		})
	}
}

func TestBooleanFlagNeedsNoValue(t *testing.T) {
	t.Parallel()
	c, err := parseAll([]string{"--private-only", "--addr", ":1"}, nil)
	if err != nil || !c.PrivateOnly || c.Addr != ":1" {
		t.Errorf("got %v, %v, %v", c.PrivateOnly, c.Addr, err)
	}
}

func TestListenFollowsDatabase(t *testing.T) {
	t.Parallel()
	c, err := parseAll(nil, environment{"DATABASE_URL": "postgres://a/b"})
	if err != nil || c.ListenDatabaseURL != "postgres://a/b" {
		t.Errorf("got %q, %v", c.ListenDatabaseURL, err)
	}
}

func TestMalformedSettings(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		env  environment
		want string
	}{
		{"unknown flag", []string{"--adr", ":1"}, nil, "unknown flag --adr; see rowcast serve --help"},
		{"flag of a setting that does not exist", []string{"--jwt-jwks-uri=https://x"}, nil, "unknown flag --jwt-jwks-uri; see rowcast serve --help"},
		{"flag without a value", []string{"--addr"}, nil, "no value for flag --addr; see rowcast serve --help"},
		{"stray argument", []string{"now"}, nil, `unexpected argument "now"; see rowcast serve --help`},
		{"stray argument after flags", []string{"--addr", ":1", "--", "--addr"}, nil, `unexpected argument "--addr"; see rowcast serve --help`},
		{"no number", nil, environment{"MAX_CONNECTIONS": "many"}, `MAX_CONNECTIONS "many": want a whole number, 0 or more`},
		{"number below zero", []string{"--max-frame-bytes", "-1"}, nil, `--max-frame-bytes "-1": want a whole number, 0 or more`},
		{"number with a unit", nil, environment{"MAX_QUEUE_BYTES": "1MB"}, `MAX_QUEUE_BYTES "1MB": want a whole number, 0 or more`},
		{"number too big", nil, environment{"MAX_QUEUE_BYTES": "99999999999999999999"}, `MAX_QUEUE_BYTES "99999999999999999999": want a whole number, 0 or more`},
		{"empty number", nil, environment{"MAX_CONNECTIONS": ""}, `MAX_CONNECTIONS "": want a whole number, 0 or more`},
		{"no duration", nil, environment{"MESSAGE_RETENTION": "3 days"}, `MESSAGE_RETENTION "3 days": want a duration such as 90s, 15m or 72h`},
		{"no boolean", []string{"--private-only=perhaps"}, nil, `--private-only "perhaps": want true or false`},
		{"no level", nil, environment{"LOG_LEVEL": "info+1"}, `LOG_LEVEL "info+1": want debug, info, warn or error`},
		{"no format", nil, environment{"LOG_FORMAT": "xml"}, `LOG_FORMAT "xml": want one of auto, text, json`},
		{"no address", nil, environment{"ADDR": "4000"}, `ADDR "4000": want host:port or :port, such as 127.0.0.1:4000`},
		{"port too big", nil, environment{"ADDR": ":65536"}, `ADDR ":65536": want host:port or :port, such as 127.0.0.1:4000`},
		{"origin with a path", nil, environment{"ALLOWED_ORIGINS": "https://a.example/"}, `ALLOWED_ORIGINS "https://a.example/": want * or origins such as https://example.com, without a path, separated by spaces`},
		{"roles with commas", nil, environment{"ALLOWED_ROLES": "anon,authenticated"}, `ALLOWED_ROLES "anon,authenticated": want roles separated by spaces, not commas`},
		{"issuers with commas", nil, environment{"JWT_ISSUER": "a, b"}, `JWT_ISSUER "a, b": want words separated by spaces, not commas`},
		{"key set that is none", nil, environment{"JWT_JWKS": "sesame"}, "JWT_JWKS: not a JSON object"},
		{"key set in a list", nil, environment{"JWT_JWKS": "[]"}, "JWT_JWKS: not a JSON object"},
		{"key set without a key", nil, environment{"JWT_JWKS": `{"keys":[]}`}, "JWT_JWKS: no usable key"},
		{"key set without a usable key", nil, environment{"JWT_JWKS": `{"keys":[{"kty":"oct","k":"c2VzYW1l"}]}`}, "JWT_JWKS: no usable key; key 1 not used: no kid, by which tokens name their key"},
		{"keys over http", nil, environment{"JWT_JWKS_URL": "https://a.example http://b.example/jwks"}, `JWT_JWKS_URL "https://a.example http://b.example/jwks": want https: what is fetched over http anybody on the way can change; only localhost may be http`},
		{"keys from no address", nil, environment{"JWT_JWKS_URL": "issuer.example/jwks"}, `JWT_JWKS_URL "issuer.example/jwks": want addresses such as https://example.com/.well-known/jwks.json, separated by spaces`},
		{"keys from a file", nil, environment{"JWT_JWKS_URL": "file:///etc/passwd"}, `JWT_JWKS_URL "file:///etc/passwd": want addresses such as https://example.com/.well-known/jwks.json, separated by spaces`},
		{"keys with a password", nil, environment{"JWT_JWKS_URL": "https://u:p@a.example/jwks"}, `JWT_JWKS_URL "https://u:p@a.example/jwks": an address with a user or password in it is not asked: key sets are public`},
		{"keys from everywhere", nil, environment{"JWT_JWKS_URL": strings.Repeat("https://a.example ", 21)}, "JWT_JWKS_URL names 21 addresses, at most 20"},
		{"role none", nil, environment{"ALLOWED_ROLES": "anon none"}, `ALLOWED_ROLES "anon none": none is not a role: to Postgres it means the server's own`},
		{"no roles", nil, environment{"ALLOWED_ROLES": " "}, "ALLOWED_ROLES is empty: every token would be refused; name at least one role"},
		{"no role claim", nil, environment{"JWT_ROLE_CLAIM": ""}, "JWT_ROLE_CLAIM is empty: name the claim that holds the role"},
		{"default role not allowed", nil, environment{"JWT_DEFAULT_ROLE": "postgres"}, `JWT_DEFAULT_ROLE "postgres" is not in ALLOWED_ROLES: add it there`},
		{"no connection string", nil, environment{"DATABASE_URL": "secret"}, "DATABASE_URL: want postgres://user:password@host:5432/database, with special characters of the password percent-encoded"},
		{"secret and file", nil, environment{"JWT_SECRET": "a", "JWT_SECRET_FILE": "b"}, "JWT_SECRET and JWT_SECRET_FILE are both set: keep one"},
		{"secret and file as flags", []string{"--jwt-secret", "a", "--jwt-secret-file", "b"}, nil, "--jwt-secret and --jwt-secret-file are both set: keep one"},
		{"no file", nil, environment{"JWT_SECRET_FILE": "/nowhere/x"}, "JWT_SECRET_FILE: open /nowhere/x: no such file or directory"},
		{"empty file", nil, environment{"JWT_SECRET_FILE": empty}, "JWT_SECRET_FILE: " + empty + " is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := parseAll(tt.args, tt.env)
			if err == nil {
				t.Fatalf("accepted: %v", c)
			}
			if _, ok := err.(*usageError); !ok || err.Error() != tt.want {
				t.Errorf("got  %s (%T)\nwant %s", err, err, tt.want)
			}
		})
	}
}

func TestEmptyListMeansNothing(t *testing.T) {
	t.Parallel()
	c, err := parseAll(nil, environment{"BYPASS_ROLES": "", "ALLOWED_ORIGINS": ""})
	if err != nil || len(c.BypassRoles) != 0 || len(c.AllowedOrigins) != 0 {
		t.Errorf("got %q and %q, %v: an empty list must not turn into the default", c.BypassRoles, c.AllowedOrigins, err)
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	c := defaultConfig()
	if err := c.requireAll(); err == nil || err.Error() != "DATABASE_URL is required: set it in the environment or give --database-url" {
		t.Errorf("without a database: %v", err)
	}
	c.DatabaseURL = "postgres://a/b"
	if err := c.requireAll(); err == nil || !strings.HasPrefix(err.Error(), "JWT_SECRET, JWT_JWKS or JWT_JWKS_URL is required: ") {
		t.Errorf("without a secret or a key: %v", err)
	}
	for name, set := range map[string]func(*Config){
		"a secret":   func(c *Config) { c.JWTSecret = "x" },
		"a key set":  func(c *Config) { c.JWTJWKS = octKeySet },
		"an address": func(c *Config) { c.JWTJWKSURLs = []string{"https://issuer.example/jwks"} },
	} {
		c := c
		if set(&c); c.requireAll() != nil {
			t.Errorf("with %s: %v", name, c.requireAll())
		}
	}
}

func TestLiftedLimits(t *testing.T) {
	t.Parallel()
	env, want := environment{}, []string(nil)
	for _, s := range settings {
		if s.limit {
			env[s.name] = "0"
			want = append(want, s.name)
		}
	}
	c, err := parseAll(nil, env)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.liftedLimits()); diff != "" || len(want) < 8 {
		t.Errorf("lifted limits (-want +got):\n%s", diff)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	c := defaultConfig()
	c.DatabaseURL = "postgres://app:sesame@db.example/app?sslpassword=sesame"
	c.ListenDatabaseURL = "host=db.example password='open sesame' user=app"
	c.JWTSecret = "sesame"
	c.JWTJWKS = strings.Replace(octKeySet, "k1", "sesame", 1)
	var log bytes.Buffer
	newLogger(c, &log).Info("configuration", "config", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("configuration", "config", c)
	fmt.Fprintf(&log, "%v %+v %#v %s %v", c, c, c, c, &c)
	if strings.Contains(log.String(), "sesame") {
		t.Errorf("a secret was printed: %s", log.String())
	}
	var line struct{ Config map[string]string }
	if err := json.Unmarshal(bytes.SplitN(log.Bytes(), []byte("\n"), 2)[0], &line); err != nil {
		t.Fatal(err)
	}
	if len(line.Config) != len(settings) || line.Config["database_url"] != "postgres://app:***@db.example/app?sslpassword=***" ||
		line.Config["listen_database_url"] != "host=db.example password=*** user=app" || line.Config["jwt_secret"] != "***" {
		t.Errorf("logged configuration: %v", line.Config)
	}
}

func TestRedactDatabase(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://u:p@h:5432/db":                     "postgres://u:***@h:5432/db",
		"postgresql://u@h/db?sslmode=require":          "postgresql://u@h/db?sslmode=require",
		"postgres://u:p%40%2F@h1:1,h2:2/db":            "postgres://u:***@h1:1,h2:2/db",
		"postgres:///db?host=/tmp&password=p":          "postgres:///db?host=%2Ftmp&password=***",
		"postgres://u:p@ss/word@h/db":                  masked,
		"postgres://u:p/w@h/db":                        masked,
		"postgres://u:1?w@h/db":                        masked,
		"postgres://u:1#w@h/db":                        masked,
		"postgres://u:%zz@h/db":                        masked,
		"host=h dbname=d":                              "host=h dbname=d",
		" host = h  password = p ":                     "host=h password=***",
		`host=h password='a b\' host=c' dbname='my d'`: `host=h password=*** dbname='my d'`,
		`password=a\ b host=h`:                         `password=*** host=h`,
		"host=h password='open":                        masked,
		"just text":                                    masked,
		"mysql://u:p@h/db":                             masked,
		"":                                             masked,
	} {
		if got := redactDatabase(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	t.Parallel()
	_, err := parseAll([]string{"--help"}, nil)
	help, ok := err.(helpAsked)
	if !ok {
		t.Fatalf("got %v", err)
	}
	for _, s := range settings {
		if want := "--" + s.flag() + " " + s.into(&Config{}).kind() + " [" + s.name + "]"; !strings.Contains(string(help), want) {
			t.Errorf("help lacks %q", want)
		}
		if !strings.Contains(string(help), s.help) {
			t.Errorf("help lacks %q", s.help)
		}
	}
}

// The page holds the table as it is made from settings; go test -run Documentation -update writes it.
func TestDocumentationListsEverySetting(t *testing.T) {
	t.Parallel()
	const page, begin, end = "../docs/configuration.md", "<!-- settings -->\n", "<!-- end of settings -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s lacks its marks", page)
	}
	want := "| name | default | meaning |\n|---|---|---|\n"
	for _, s := range settings {
		want += s.markdown()
	}
	if table == want {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the settings; run the test with -update (-page +settings):\n%s", page, cmp.Diff(table, want))
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s setting) markdown() string {
	def := "–"
	switch {
	case s.required:
		def = "required"
	case s.def != "":
		def = "`" + s.def + "`"
	}
	meaning := s.help
	if s.limit {
		meaning += "; `0`: no limit"
	}
	return fmt.Sprintf("| `%s` | %s | %s |\n", s.name, def, strings.ReplaceAll(meaning, "|", `\|`))
}
