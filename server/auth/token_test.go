package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testSecret = "a secret of at least thirty-two bytes"

var testNow = time.Unix(1_700_000_000, 250_000_000)

func testOptions() VerifierOptions {
	return VerifierOptions{
		Secret:       []byte(testSecret),
		AllowedRoles: []string{"anon", "authenticated", "service_role"},
		Now:          func() time.Time { return testNow },
	}
}

func newTestVerifier(t testing.TB, change func(*VerifierOptions)) *Verifier {
	t.Helper()
	o := testOptions()
	if change != nil {
		change(&o)
	}
	v, err := NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// signText signs any two texts, without the library under test, so that broken headers and claims get a true signature.
func signText(header, claims string) string { return signWith([]byte(testSecret), header, claims) }

// signWith signs with any secret.
func signWith(secret []byte, header, claims string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	var make func() hash.Hash
	switch {
	case strings.Contains(header, "HS384"):
		make = sha512.New384
	case strings.Contains(header, "HS512"):
		make = sha512.New
	default:
		make = sha256.New
	}
	mac := hmac.New(make, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func signClaims(claims string) string { return signText(`{"alg":"HS256","typ":"JWT"}`, claims) }

const goodClaims = `{"sub":"ada","role":"authenticated","exp":1700000100}`

func TestVerifyAccepts(t *testing.T) {
	t.Parallel()
	want := Claims{Subject: "ada", Role: "authenticated", Raw: json.RawMessage(goodClaims), Expires: time.Unix(1_700_000_100, 0)}
	with := func(claims string, change func(*Claims)) Claims {
		c := want
		c.Raw = json.RawMessage(claims)
		if change != nil {
			change(&c)
		}
		return c
	}
	good := signClaims(goodClaims)
	tests := []struct {
		name, token string
		options     func(*VerifierOptions)
		want        Claims
	}{
		{"HS256", good, nil, want},
		{"HS384", signText(`{"alg":"HS384"}`, goodClaims), nil, want},
		{"HS512", signText(`{"alg":"HS512"}`, goodClaims), nil, want},
		{"kid is ignored", signText(`{"alg":"HS256","kid":"k1"}`, goodClaims), nil, want},
		{"embedded keys are ignored", signText(`{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","x5c":["AA"]}`, goodClaims), nil, want},
		{"percent-encoded", url.QueryEscape(strings.ReplaceAll(good, ".", "\n.")), nil, want},
		{"white space anywhere", " " + good[:20] + "\r\n\t" + good[20:] + "\u00a0", nil, want},
		{"no sub", signClaims(`{"role":"anon","exp":1700000100}`), nil,
			with(`{"role":"anon","exp":1700000100}`, func(c *Claims) { c.Subject, c.Role = "", "anon" })},
		{"null sub", signClaims(`{"sub":null,"role":"anon","exp":1700000100}`), nil,
			with(`{"sub":null,"role":"anon","exp":1700000100}`, func(c *Claims) { c.Subject, c.Role = "", "anon" })},
		{"decimal exp is rounded", signClaims(`{"sub":"ada","role":"authenticated","exp":1700000099.5,"iat":1.5}`), nil,
			with(`{"sub":"ada","role":"authenticated","exp":1700000099.5,"iat":1.5}`, nil)},
		{"exp beyond every clock", signClaims(`{"sub":"ada","role":"authenticated","exp":1e300}`), nil,
			with(`{"sub":"ada","role":"authenticated","exp":1e300}`, func(c *Claims) { c.Expires = time.Unix(253402300799, 0) })},
		{"iat in the future", signClaims(`{"sub":"ada","role":"authenticated","exp":1700000100,"iat":1800000000}`), nil,
			with(`{"sub":"ada","role":"authenticated","exp":1700000100,"iat":1800000000}`, nil)},
		{"nbf within the leeway", signClaims(`{"sub":"ada","role":"authenticated","exp":1700000100,"nbf":1700000005}`), nil,
			with(`{"sub":"ada","role":"authenticated","exp":1700000100,"nbf":1700000005}`, nil)},
		{"spaces around values", signClaims(` { "sub" : "ada" , "role" : "authenticated" , "exp" : 1700000100 } `), nil,
			with(` { "sub" : "ada" , "role" : "authenticated" , "exp" : 1700000100 } `, nil)},
		{"issuer and audience", signClaims(`{"sub":"ada","role":"authenticated","exp":1700000100,"iss":"b","aud":"y"}`),
			func(o *VerifierOptions) { o.Issuers, o.Audiences = []string{"a", "b"}, []string{"x", "y"} },
			with(`{"sub":"ada","role":"authenticated","exp":1700000100,"iss":"b","aud":"y"}`, nil)},
		{"one of several audiences", signClaims(`{"sub":"ada","role":"authenticated","exp":1700000100,"aud":["z","y"]}`),
			func(o *VerifierOptions) { o.Audiences = []string{"x", "y"} },
			with(`{"sub":"ada","role":"authenticated","exp":1700000100,"aud":["z","y"]}`, nil)},
		{"default role", signClaims(`{"sub":"ada","exp":1700000100}`),
			func(o *VerifierOptions) { o.DefaultRole = "authenticated" },
			with(`{"sub":"ada","exp":1700000100}`, nil)},
		{"one allowed role in a list", signClaims(`{"sub":"ada","groups":["x","authenticated","none","authenticated"],"exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim = "groups" },
			with(`{"sub":"ada","groups":["x","authenticated","none","authenticated"],"exp":1700000100}`, nil)},
		{"a list that names no allowed role means the default", signClaims(`{"sub":"ada","realm":{"roles":["x","none"]},"exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim, o.DefaultRole = "realm.roles", "authenticated" },
			with(`{"sub":"ada","realm":{"roles":["x","none"]},"exp":1700000100}`, nil)},
		{"role under a path", signClaims(`{"sub":"ada","role":"x","app":{"meta":{"role":"authenticated"}},"exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim = "app.meta.role" },
			with(`{"sub":"ada","role":"x","app":{"meta":{"role":"authenticated"}},"exp":1700000100}`, nil)},
		{"role under a name with dots", signClaims(`{"sub":"ada","https://example.com/role":"authenticated","exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim = "https://example.com/role" },
			with(`{"sub":"ada","https://example.com/role":"authenticated","exp":1700000100}`, nil)},
		{"path through a name with dots", signClaims(`{"sub":"ada","https://example.com/claims":{"role":"authenticated"},"exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim = "https://example.com/claims.role" },
			with(`{"sub":"ada","https://example.com/claims":{"role":"authenticated"},"exp":1700000100}`, nil)},
		{"the whole name before the path", signClaims(`{"sub":"ada","a.b":"authenticated","a":{"b":"anon"},"exp":1700000100}`),
			func(o *VerifierOptions) { o.RoleClaim = "a.b" },
			with(`{"sub":"ada","a.b":"authenticated","a":{"b":"anon"},"exp":1700000100}`, nil)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, refused := newTestVerifier(t, tt.options).Verify(tt.token)
			if refused != nil {
				t.Fatalf("refused: %v", refused)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	const (
		malformed = "MalformedJWT: The token provided is not a valid JWT"
		signature = "JwtSignatureError: Failed to validate JWT signature"
		signer    = "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS configuration"
		missing   = "InvalidJWTToken: Fields `role` and `exp` are required in JWT"
		list      = "InvalidJWTToken: The claim `role` of the token must be a string, or a list of strings"
	)
	good := signClaims(goodClaims)
	b64 := base64.RawURLEncoding.EncodeToString
	unsigned := func(header string) string { return b64([]byte(header)) + "." + b64([]byte(goodClaims)) + "." }
	claims := func(more string) string {
		return signClaims(`{"sub":"ada","role":"authenticated","exp":1700000100,` + more + `}`)
	}
	tests := []struct {
		name, token string
		options     func(*VerifierOptions)
		want        string
	}{
		{"empty", "", nil, malformed},
		{"no JWT", "sb_publishable_abc", nil, malformed},
		{"two parts", good[:strings.LastIndex(good, ".")], nil, malformed},
		{"four parts", good + ".AA", nil, malformed},
		{"too long", strings.Repeat(" ", MaxTokenBytes) + good, nil, malformed},
		{"broken percent-encoding", good + "%zz", nil, malformed},
		{"padded base64", strings.Replace(good, ".", "=.", 1), nil, malformed},
		{"signature is no base64", good[:len(good)-3] + "$$$", nil, malformed},
		{"header is an array", signText(`["HS256"]`, goodClaims), nil, malformed},
		{"header is null", signText(`null`, goodClaims), nil, malformed},
		{"header names alg twice", signText(`{"alg":"none","alg":"HS256"}`, goodClaims), nil, malformed},
		{"header has crit", signText(`{"alg":"HS256","crit":["b64"],"b64":false}`, goodClaims), nil, malformed},
		{"claims are a string", signClaims(`"ada"`), nil, malformed},
		{"claims are null", signClaims(`null`), nil, malformed},
		{"claims are an array", signClaims(`[` + goodClaims + `]`), nil, malformed},
		{"something after the claims", signClaims(goodClaims + `{}`), nil, malformed},
		{"claims are not UTF-8", claims("\"x\":\"\xff\""), nil, malformed},
		{"a claim twice", claims(`"role":"service_role"`), nil, malformed},
		{"a claim twice, once escaped", claims(`"r\u006fle":"service_role"`), nil, malformed},
		{"an inner claim twice", claims(`"app":[{"a":1,"a":2}]`), nil, malformed},

		{"alg none", unsigned(`{"alg":"none"}`), nil, signer},
		{"alg NONE", unsigned(`{"alg":"NONE"}`), nil, signer},
		{"alg nOnE with a signature", signText(`{"alg":"nOnE"}`, goodClaims), nil, signer},
		{"alg missing", signText(`{"typ":"JWT"}`, goodClaims), nil, signer},
		{"alg null", signText(`{"alg":null}`, goodClaims), nil, signer},
		{"alg a number", signText(`{"alg":256}`, goodClaims), nil, signer},
		{"alg in lower case", signText(`{"alg":"hs256"}`, goodClaims), nil, signer},
		{"alg unknown", signText(`{"alg":"HS1"}`, goodClaims), nil, signer},
		{"alg RS256", signText(`{"alg":"RS256","kid":"k1"}`, goodClaims), nil, signer},
		{"alg ES256", signText(`{"alg":"ES256"}`, goodClaims), nil, signer},
		{"alg EdDSA", signText(`{"alg":"EdDSA"}`, goodClaims), nil, signer},

		{"no signature", good[:strings.LastIndex(good, ".")+1], nil, signature},
		{"another secret", good, func(o *VerifierOptions) { o.Secret = []byte("another") }, signature},
		{"another algorithm's signature", unsigned(`{"alg":"HS512"}`) + good[strings.LastIndex(good, ".")+1:], nil, signature},
		{"another secret, and expired", signClaims(`{"exp":1}`), func(o *VerifierOptions) { o.Secret = []byte("another") }, signature},

		{"exp passed", signClaims(`{"role":"anon","exp":1699999988}`), nil, "InvalidJWTToken: Token has expired 12 seconds ago"},
		{"exp now", signClaims(`{"role":"anon","exp":1700000000}`), nil, "InvalidJWTToken: Token has expired 0 seconds ago"},
		{"exp zero", signClaims(`{"role":"anon","exp":0}`), nil, "InvalidJWTToken: Token has expired 1700000000 seconds ago"},
		{"exp far below zero", signClaims(`{"role":"anon","exp":-1e300}`), nil, "InvalidJWTToken: Token has expired 1700000000 seconds ago"},
		{"exp rounds down to now", signClaims(`{"role":"anon","exp":1700000000.4}`), nil, "InvalidJWTToken: Token expiration time is invalid"},
		{"exp a string", signClaims(`{"role":"anon","exp":"1700000100"}`), nil, "InvalidJWTToken: The claim `exp` of the token must be a number of seconds"},
		{"exp beyond numbers", signClaims(`{"role":"anon","exp":1e999}`), nil, "InvalidJWTToken: The claim `exp` of the token must be a number of seconds"},
		{"exp missing", signClaims(`{"role":"anon"}`), nil, missing},
		{"exp null", signClaims(`{"role":"anon","exp":null}`), nil, missing},
		{"exp under another case", signClaims(`{"role":"anon","EXP":1700000100}`), nil, missing},
		{"expired and no role", signClaims(`{"exp":1699999999}`), nil, "InvalidJWTToken: Token has expired 1 seconds ago"},
		{"iat a string", claims(`"iat":"1"`), nil, "InvalidJWTToken: The claim `iat` of the token must be a number of seconds"},
		{"nbf in the future", claims(`"nbf":1700000006`), nil, "InvalidJWTToken: The claim `nbf` of the token is still in the future"},
		{"nbf a string", claims(`"nbf":"1"`), nil, "InvalidJWTToken: The claim `nbf` of the token must be a number of seconds"},

		{"sub a number", signClaims(`{"sub":42,"role":"anon","exp":1700000100}`), nil, "InvalidJWTToken: The claim `sub` of the token must be a string"},
		{"sub with NUL", signClaims(`{"sub":"a\u0000","role":"anon","exp":1700000100}`), nil, "InvalidJWTToken: The claim `sub` of the token holds a character that Postgres cannot store"},
		{"sub with half a surrogate pair", signClaims(`{"sub":"a\ud800","role":"anon","exp":1700000100}`), nil, "InvalidJWTToken: The claim `sub` of the token holds a character that Postgres cannot store"},

		{"role missing", signClaims(`{"exp":1700000100}`), nil, missing},
		{"role null", signClaims(`{"role":null,"exp":1700000100}`), nil, missing},
		{"role under another case", signClaims(`{"Role":"anon","exp":1700000100}`), nil, missing},
		{"role an object", signClaims(`{"role":{"anon":true},"exp":1700000100}`), nil, list},
		{"role a list of more than strings", signClaims(`{"role":["anon",1],"exp":1700000100}`), nil, list},
		{"role a list of two that are allowed", signClaims(`{"role":["anon","x","authenticated"],"exp":1700000100}`), nil, "InvalidJWTToken: The claim `role` of the token names several roles that are allowed here, it must name one"},
		{"role a list of none that is allowed", signClaims(`{"role":["x","none",""],"exp":1700000100}`), nil, "RoleNotAllowed: The role `` is not allowed to use this server"},
		{"role an empty list", signClaims(`{"role":[],"exp":1700000100}`), nil, missing},
		{"role a number is not the default", signClaims(`{"role":1,"exp":1700000100}`), func(o *VerifierOptions) { o.DefaultRole = "anon" }, list},
		{"role empty", signClaims(`{"role":"","exp":1700000100}`), nil, "RoleNotAllowed: The role `` is not allowed to use this server"},
		{"role none", signClaims(`{"role":"none","exp":1700000100}`), nil, "RoleNotAllowed: The role `none` is not allowed to use this server"},
		{"role postgres", signClaims(`{"role":"postgres","exp":1700000100}`), nil, "RoleNotAllowed: The role `postgres` is not allowed to use this server"},
		{"role in another case", signClaims(`{"role":"ANON","exp":1700000100}`), nil, "RoleNotAllowed: The role `ANON` is not allowed to use this server"},
		{"role with a space", signClaims(`{"role":"anon ","exp":1700000100}`), nil, "RoleNotAllowed: The role `anon ` is not allowed to use this server"},
		{"role very long", signClaims(`{"role":"` + strings.Repeat("x", 1000) + `","exp":1700000100}`), nil, "RoleNotAllowed: The role `" + strings.Repeat("x", 63) + "…` is not allowed to use this server"},
		{"role at the end of a path", signClaims(`{"role":"anon","app":{"role":"postgres"},"exp":1700000100}`), func(o *VerifierOptions) { o.RoleClaim = "app.role" }, "RoleNotAllowed: The role `postgres` is not allowed to use this server"},
		{"path through a string", signClaims(`{"role":"anon","app":"role","exp":1700000100}`), func(o *VerifierOptions) { o.RoleClaim = "app.role" }, missing},

		{"iss missing", claims(`"x":1`), func(o *VerifierOptions) { o.Issuers = []string{"a"} }, "InvalidJWTToken: The claim `iss` of the token is not the one expected here"},
		{"iss another", claims(`"iss":"b"`), func(o *VerifierOptions) { o.Issuers = []string{"a"} }, "InvalidJWTToken: The claim `iss` of the token is not the one expected here"},
		{"iss a list", claims(`"iss":["a"]`), func(o *VerifierOptions) { o.Issuers = []string{"a"} }, "InvalidJWTToken: The claim `iss` of the token is not the one expected here"},
		{"aud missing", claims(`"x":1`), func(o *VerifierOptions) { o.Audiences = []string{"a"} }, "InvalidJWTToken: The claim `aud` of the token is not the one expected here"},
		{"aud another", claims(`"aud":["b","c"]`), func(o *VerifierOptions) { o.Audiences = []string{"a"} }, "InvalidJWTToken: The claim `aud` of the token is not the one expected here"},
		{"aud empty", claims(`"aud":[]`), func(o *VerifierOptions) { o.Audiences = []string{"a"} }, "InvalidJWTToken: The claim `aud` of the token is not the one expected here"},
		{"aud a mixed list", claims(`"aud":["a",1]`), func(o *VerifierOptions) { o.Audiences = []string{"a"} }, "InvalidJWTToken: The claim `aud` of the token is not the one expected here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, refused := newTestVerifier(t, tt.options).Verify(tt.token)
			if refused == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if refused.Join() != tt.want {
				t.Errorf("got  %s\nwant %s", refused.Join(), tt.want)
			}
			if diff := cmp.Diff(Claims{}, got); diff != "" {
				t.Errorf("a refused token still gave claims: %s", diff)
			}
		})
	}
}

func TestVerifyUsesTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newTestVerifier(t, func(o *VerifierOptions) { o.Now = nil })
		token, err := Mint([]byte(testSecret), MintOptions{Subject: "ada", Role: "anon", TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		if _, refused := v.Verify(token); refused != nil {
			t.Fatalf("refused before its time: %v", refused)
		}
		time.Sleep(time.Nanosecond)
		if _, refused := v.Verify(token); refused == nil || refused.System() != "Token has expired 0 seconds ago" {
			t.Fatalf("at exp: %v", refused)
		}
	})
}

func TestTokenErrorTexts(t *testing.T) {
	t.Parallel()
	expired := errExpired(3 * time.Second)
	if got := expired.Handshake(); got != "Token has expired" {
		t.Errorf("handshake: %s", got)
	}
	if got := expired.System(); got != "Token has expired 3 seconds ago" {
		t.Errorf("system: %s", got)
	}
	other := errNoSigner("algorithm %s", "x")
	if other.Handshake() != other.Text || other.System() != other.Text {
		t.Errorf("handshake %q and system %q differ from %q", other.Handshake(), other.System(), other.Text)
	}
	if got, want := other.Error(), other.Join()+" (algorithm x)"; got != want {
		t.Errorf("error: %s, want %s", got, want)
	}
}

func TestNewVerifierRefusesUnsafeOptions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*VerifierOptions){
		"no secret and no keys":  func(o *VerifierOptions) { o.Secret = nil },
		"empty secret":           func(o *VerifierOptions) { o.Secret = []byte{} },
		"no roles":               func(o *VerifierOptions) { o.AllowedRoles = nil },
		"role none":              func(o *VerifierOptions) { o.AllowedRoles = []string{"anon", "none"} },
		"role empty":             func(o *VerifierOptions) { o.AllowedRoles = []string{""} },
		"default role not among": func(o *VerifierOptions) { o.DefaultRole = "postgres" },
	} {
		o := testOptions()
		change(&o)
		if _, err := NewVerifier(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
