package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/auth/authtest"
	"rowcast/server/metrics"
)

// identity is the shape of what a provider publishes and issues (testdata/jwks).
type identity struct {
	Signer        string // a key beside it, or secret
	JWKS          json.RawMessage
	Header        json.RawMessage
	Claims        map[string]any
	Subject, Role string
}

// publishing answers for one address, and for no other.
type publishing struct {
	t    *testing.T
	url  string
	jwks []byte
}

func (p publishing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() != p.url {
		p.t.Errorf("asked %s, not %s", r.URL, p.url)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(p.jwks)))}, nil
}

// The settings that docs/identity-providers.md tells for a provider accept a token as that provider makes them, with the
// subject and the role that it says; they refuse other issuers' and audiences', and accept a key for everybody that
// rowcast token makes with them.
func TestIdentityProviders(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/identity-providers.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	files := map[string]string{
		"Supabase Auth": "supabase", "Auth.js": "authjs", "Firebase Authentication": "firebase", "Clerk": "clerk", "Auth0": "auth0",
		"Amazon Cognito": "cognito", "Keycloak": "keycloak",
	}
	for title, file := range files {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, rest, _ := strings.Cut(sections[title], "```sh\n")
			lines, _, found := strings.Cut(rest, "```")
			if !found {
				t.Fatal("no settings in the section")
			}
			tryIdentity(t, newEnvironment(strings.Fields(lines)), readIdentity(t, file))
		})
	}
	for title, text := range sections {
		if strings.Contains(text, "```sh") && files[title] == "" {
			t.Errorf("nothing tries the settings for %s", title)
		}
	}
}

func readIdentity(t *testing.T, file string) (id identity) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "jwks", file+".json"))
	if err == nil {
		err = json.Unmarshal(text, &id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func tryIdentity(t *testing.T, env environment, id identity) {
	t.Helper()
	verify := func(env environment, token string) (auth.Claims, *auth.TokenError) {
		env["DATABASE_URL"] = "postgres://localhost/app"
		c, err := parseAll(nil, env)
		if err == nil {
			err = c.requireAll()
		}
		if err != nil {
			t.Fatal(err)
		}
		o := c.verifierOptions()
		if len(c.JWTJWKSURLs) > 0 {
			keys := c.fetchedKeys(publishing{t, c.JWTJWKSURLs[0], id.JWKS}, slog.New(slog.DiscardHandler), metrics.New())
			if err := keys.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			o.Source = keys
		}
		v, err := auth.NewVerifier(o)
		if err != nil {
			t.Fatal(err)
		}
		return v.Verify(token)
	}
	if claims, refused := verify(env, id.token(t, env, nil)); refused != nil || claims.Subject != id.Subject || claims.Role != id.Role {
		t.Errorf("got %q as %q, refused with %v; want %q as %q", claims.Subject, claims.Role, refused, id.Subject, id.Role)
	}
	for setting, claim := range map[string]string{"JWT_ISSUER": "iss", "JWT_AUDIENCE": "aud"} {
		if _, refused := verify(env, id.token(t, env, map[string]any{claim: "https://elsewhere.example"})); (refused == nil) != (env[setting] == "") {
			t.Errorf("a token with another %s: %v", claim, refused)
		}
	}
	if _, refused := verify(env, id.token(t, env, map[string]any{"exp": 1700000000})); refused == nil || refused.Code != auth.InvalidJWTToken {
		t.Errorf("a token that has expired: %v", refused)
	}
	if env["JWT_SECRET"] == "" {
		env["JWT_SECRET"] = testSecret
	}
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	minted := runProgram(t, lines, "token", "--role", "anon", "--ttl", "87600h")
	if minted.code != exitGood || minted.errout != "" {
		t.Fatalf("make a key for everybody: %+v", minted)
	}
	if claims, refused := verify(env, strings.TrimSpace(minted.out)); refused != nil || claims.Role != "anon" {
		t.Errorf("the key for everybody: %q, %v", claims.Role, refused)
	}
}

// token is one as the provider makes them, with some claims changed.
func (id identity) token(t *testing.T, env environment, change map[string]any) string {
	t.Helper()
	claims := map[string]any{}
	for _, from := range []map[string]any{id.Claims, change} {
		for name, value := range from {
			claims[name] = value
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if id.Signer == "secret" {
		signed, err := auth.Mint([]byte(env["JWT_SECRET"]), auth.MintOptions{Claims: claims})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	var header struct{ Alg string }
	if err := json.Unmarshal(id.Header, &header); err != nil {
		t.Fatal(err)
	}
	return authtest.Load(t, id.Signer, "").Sign(header.Alg, string(id.Header), string(text))
}
