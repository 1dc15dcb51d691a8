package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/auth/authtest"
)

type result struct {
	code        int
	out, errout string
}

func runProgram(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var out, errout bytes.Buffer
	code := run(t.Context(), args, env, &out, &errout)
	if lines := strings.Count(errout.String(), "\n"); lines > 1 {
		t.Errorf("%q: more than one line on stderr: %s", args, errout.String())
	}
	return result{code, out.String(), errout.String()}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}, {"help", "--help"}} {
		got := runProgram(t, nil, args...)
		if got.code != exitGood || got.errout != "" {
			t.Errorf("%q: %+v", args, got)
		}
		for _, c := range rowcast().commands {
			if !strings.Contains(got.out, "\n  "+c.name+" ") {
				t.Errorf("%q does not list %s", args, c.name)
			}
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "rowcast: no subcommand; see rowcast --help\n"},
		{[]string{"swerve"}, "rowcast: unknown subcommand \"swerve\"; see rowcast --help\n"},
		{[]string{"help", "swerve"}, "rowcast help: unknown subcommand \"swerve\"; see rowcast --help\n"},
		{[]string{"help", "policy", "lnit"}, "rowcast help: unknown subcommand \"lnit\"; see rowcast policy --help\n"},
		{[]string{"policy", "test", "no \x1b[31m\u202efile"}, "rowcast policy: open no �[31m�file: no such file or directory\n"},
		{[]string{"version", "now"}, "rowcast version: unexpected argument \"now\"; see rowcast version --help\n"},
	} {
		if got := runProgram(t, nil, tt.args...); got.code != exitUsage || got.errout != tt.want || got.out != "" {
			t.Errorf("%q: %+v", tt.args, got)
		}
	}
}

func TestEverySubcommandHasHelp(t *testing.T) {
	t.Parallel()
	for _, c := range rowcast().commands {
		if c.name == "help" {
			continue
		}
		direct, asked := runProgram(t, nil, c.name, "--help"), runProgram(t, nil, "help", c.name)
		if direct != asked || direct.code != exitGood || !strings.HasPrefix(direct.out, "Usage: rowcast "+c.name) {
			t.Errorf("%s: --help gives %+v, help gives %+v", c.name, direct, asked)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	env := []string{"JWT_SECRET=sesame", "JWT_ISSUER=us them", "JWT_AUDIENCE=app"}
	minted := runProgram(t, env, "token", "--sub", "ada", "--role", "authenticated", "--ttl", "90s",
		"--claim", `app={"plan":"pro"}`, "--claim", "n=12345678901234567890", "--claim", "zip=00123", "--claim", `quoted="7"`, "--claim", "eq=a=b", "--claim", "nil=null")
	if minted.code != exitGood || minted.errout != "" {
		t.Fatalf("mint: %+v", minted)
	}
	token, found := strings.CutSuffix(minted.out, "\n")
	if !found || strings.ContainsAny(token, " \n") {
		t.Fatalf("the token does not stand alone: %q", minted.out)
	}
	verifier, err := auth.NewVerifier(auth.VerifierOptions{
		Secret: []byte("sesame"), Issuers: []string{"us"}, Audiences: []string{"app"}, AllowedRoles: []string{"authenticated"},
	})
	if err != nil {
		t.Fatal(err)
	}
	claims, refused := verifier.Verify(token)
	if refused != nil {
		t.Fatal(refused)
	}
	if left := time.Until(claims.Expires); claims.Subject != "ada" || left <= 0 || left > 91*time.Second {
		t.Errorf("claims: %+v", claims)
	}
	for _, want := range []string{`"app":{"plan":"pro"}`, `"n":12345678901234567890`, `"zip":"00123"`, `"quoted":"7"`, `"eq":"a=b"`, `"nil":"null"`} {
		if !strings.Contains(string(claims.Raw), want) {
			t.Errorf("claims %s lack %s", claims.Raw, want)
		}
	}

	inspected := runProgram(t, env, "token", "inspect", token)
	if inspected.code != exitGood || !strings.Contains(inspected.out, "subject    \"ada\"\n") || !strings.Contains(inspected.out, "good ") {
		t.Errorf("inspect: %+v", inspected)
	}
	foreign := runProgram(t, nil, "token", "inspect", token, "--jwt-secret", "another", "--allowed-roles", "anon")
	if foreign.code != exitFinding || strings.Count(foreign.out, "\nwrong ") != 2 || foreign.errout != "rowcast token: a server with these settings refuses this token: 2 problems\n" {
		t.Errorf("inspect with other settings: %+v", foreign)
	}
	unchecked := runProgram(t, nil, "token", "inspect", token)
	if unchecked.code != exitFinding || !strings.Contains(unchecked.errout, "cannot be checked without JWT_SECRET") {
		t.Errorf("inspect without a secret: %+v", unchecked)
	}
}

// A token of an identity provider is verified with the keys that are configured; without them it is said which are needed.
func TestInspectTokensOfProviders(t *testing.T) {
	t.Parallel()
	key := authtest.Load(t, "p256", "key-1")
	token := key.Token("ES256", `{"iss":"https://issuer.example/auth/v1","sub":"ada","role":"authenticated","exp":9999999999}`)
	provider := newKeyServer(t)
	provider.publish(key)
	away := newKeyServer(t)
	static := authtest.Set(key.JWK(nil))
	for _, tt := range []struct {
		name  string
		env   []string
		code  int
		wants []string
	}{
		{"a key set", []string{"JWT_JWKS=" + static}, exitGood, []string{`algorithm  "ES256"`, `key id     "key-1"`, `subject    "ada"`, "\ngood "}},
		{"an address", []string{"JWT_JWKS_URL=" + provider.URL}, exitGood, []string{"\ngood "}},
		{"a secret only", []string{"JWT_SECRET=sesame"}, exitFinding, []string{"JwtSignerError: ",
			`the key needed is the one with kid "key-1"`, `"https://issuer.example/auth/v1/.well-known/openid-configuration"`}},
		{"another key", []string{"JWT_JWKS=" + octKeySet}, exitFinding, []string{`(kid) "key-1"`, "set JWT_JWKS_URL or JWT_JWKS"}},
		{"an address that does not answer", []string{"JWT_JWKS_URL=" + away.URL}, exitFinding, []string{"note       fetch keys from " + away.URL + ": answered 503", "JwtKeysMissing: "}},
	} {
		got := runProgram(t, tt.env, "token", "inspect", token)
		if got.code != tt.code {
			t.Errorf("%s: %+v", tt.name, got)
		}
		for _, want := range tt.wants {
			if !strings.Contains(got.out, want) {
				t.Errorf("%s: %s lacks %q", tt.name, got.out, want)
			}
		}
	}
}

func TestTokenThatWouldBeRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--role", "postgres"}, {"--role", "anon", "--ttl", "-1m"}, {"--role", "anon", "--claim", "exp=1"}} {
		got := runProgram(t, []string{"JWT_SECRET=sesame"}, append([]string{"token"}, args...)...)
		if got.code != exitGood || strings.Count(got.out, ".") != 2 || !strings.Contains(got.errout, "will refuse this token") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestTokenUsage(t *testing.T) {
	t.Parallel()
	secret := []string{"JWT_SECRET=sesame"}
	for _, tt := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, []string{"--role", "anon"}, "JWT_SECRET is required: set it in the environment or give --jwt-secret"},
		{[]string{"JWT_SECRET="}, []string{"--role", "anon"}, "JWT_SECRET is required: set it in the environment or give --jwt-secret"},
		{secret, nil, "no role: give --role, one of anon, authenticated, service_role"},
		{secret, []string{"--role", "anon", "--ttl", "0"}, "--ttl 0 would expire at once: give a duration such as 1h"},
		{secret, []string{"--role", "anon", "--ttl", "soon"}, `invalid value "soon" for flag --ttl: parse error; see rowcast token --help`},
		{secret, []string{"--role", "anon", "--claim", "x"}, `invalid value "x" for flag --claim: want name=value; see rowcast token --help`},
		{secret, []string{"--role", "anon", "ada"}, `unexpected argument "ada"; see rowcast token --help`},
		{secret, []string{"inspect"}, "want one token; see rowcast token inspect --help"},
	} {
		got := runProgram(t, tt.env, append([]string{"token"}, tt.args...)...)
		if got.code != exitUsage || got.out != "" || got.errout != "rowcast token: "+tt.want+"\n" {
			t.Errorf("%q: %+v, want %s", tt.args, got, tt.want)
		}
	}
}

func TestTokenRoleClaim(t *testing.T) {
	t.Parallel()
	env := []string{"JWT_SECRET=sesame", "JWT_ROLE_CLAIM=https://example.com/role"}
	minted := runProgram(t, env, "token", "--role", "anon")
	if minted.code != exitGood || minted.errout != "" {
		t.Fatalf("mint: %+v", minted)
	}
	inspected := runProgram(t, env, "token", "inspect", strings.TrimSpace(minted.out))
	if inspected.code != exitGood || !strings.Contains(inspected.out, `role       "anon"`) {
		t.Errorf("inspect: %+v", inspected)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var status int
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"ADDR=:" + port, "MAX_CONNECTIONS=not asked for here"}

	status, body = http.StatusOK, "ready\n"
	if got := runProgram(t, env, "health"); got != (result{exitGood, "ready\n", ""}) {
		t.Errorf("ready: %+v", got)
	}
	status, body = http.StatusServiceUnavailable, "database: no answer\nlistener: deaf\n"
	if got := runProgram(t, env, "health"); got != (result{exitFinding, "", "rowcast health: not ready: 503 Service Unavailable database: no answer listener: deaf\n"}) {
		t.Errorf("not ready: %+v", got)
	}
	server.Close()
	if got := runProgram(t, nil, "health", "--addr", "0.0.0.0:"+port); got.code != exitFinding || !strings.Contains(got.errout, "no server answers") {
		t.Errorf("no server: %+v", got)
	}
}

func TestHealthGivesUp(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := runProgram(t, nil, "health", "--addr", listener.Addr().String(), "--timeout", "20ms")
	if got.code != exitFinding || !strings.Contains(got.errout, "deadline") {
		t.Errorf("silent server: %+v", got)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		":4000": "127.0.0.1:4000", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "10.0.0.7:1": "10.0.0.7:1", "db.example:1": "db.example:1",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s: got %s, want %s", listen, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := runProgram(t, nil, "version"); got.code != exitGood || !strings.HasPrefix(got.out, "rowcast ") || !strings.Contains(got.out, " go1.") {
		t.Errorf("version: %+v", got)
	}
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
	}}
	if got, want := describeBuild(info), "v1.2.3 0123456789ab modified"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := describeBuild(&debug.BuildInfo{}), "(devel)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
