package auth

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	good := signClaims(goodClaims)
	tests := []struct {
		name, token string
		options     func(*VerifierOptions)
		want        []string // beginnings of the problems, in order
	}{
		{"nothing wrong", good, nil, nil},
		{"no secret", good, func(o *VerifierOptions) { o.Secret = nil }, []string{"The signature cannot be checked without JWT_SECRET"}},
		{"everything wrong", signClaims(`{"role":"none","exp":1,"nbf":"x","aud":"b"}`),
			func(o *VerifierOptions) { o.Secret, o.Audiences = []byte("another"), []string{"a"} },
			[]string{"JwtSignatureError: ", "InvalidJWTToken: Token has expired ", "InvalidJWTToken: The claim `nbf` of the token", "InvalidJWTToken: The claim `aud` of the token", "RoleNotAllowed: "}},
		{"secret is base64", good, func(o *VerifierOptions) { o.Secret = []byte(base64.StdEncoding.EncodeToString([]byte(testSecret))) },
			[]string{"JwtSignatureError: ", "The signature fits JWT_SECRET after base64-decoding it"}},
		{"secret has a line end", good, func(o *VerifierOptions) { o.Secret = []byte(testSecret + "\n") },
			[]string{"JwtSignatureError: ", "The signature fits JWT_SECRET without the white space around it"}},
		{"asymmetric", signText(`{"alg":"ES256"}`, goodClaims), nil, []string{"JwtSignerError: ", "ES256 tokens are verified with the public keys"}},
		{"with Bearer", "Bearer " + good, nil, []string{"MalformedJWT: ", "Leave out the word Bearer"}},
		{"in quotes", `"` + good + `"`, nil, []string{"MalformedJWT: ", "Leave out the quotes"}},
		{"new-style key", "sb_secret_x", nil, []string{"MalformedJWT: ", "This is an API key"}},
		{"encrypted", "a.b.c.d.e", nil, []string{"MalformedJWT: ", "Five parts"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := testOptions()
			if tt.options != nil {
				tt.options(&o)
			}
			got := Inspect(tt.token, o).Problems
			if len(got) != len(tt.want) {
				t.Fatalf("problems: %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("problem %d: %q, want %q…", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestInspectTellsWhatTheTokenSays(t *testing.T) {
	t.Parallel()
	got := Inspect(signText(`{"alg":"HS512"}`, goodClaims), testOptions())
	want := Inspection{
		Algorithm: "HS512",
		Claims:    Claims{Subject: "ada", Role: "authenticated", Raw: json.RawMessage(goodClaims), Expires: time.Unix(1_700_000_100, 0)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inspection (-want +got):\n%s", diff)
	}
}

func TestMintClaims(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options MintOptions
		want    map[string]any
	}{
		{"an hour by default", MintOptions{Role: "anon"},
			map[string]any{"role": "anon", "iat": 1700000000.0, "exp": 1700003600.0}},
		{"parts of a second are rounded up", MintOptions{Role: "anon", TTL: 1500 * time.Millisecond},
			map[string]any{"role": "anon", "iat": 1700000000.0, "exp": 1700000002.0}},
		{"already expired", MintOptions{Role: "anon", TTL: -time.Minute},
			map[string]any{"role": "anon", "iat": 1700000000.0, "exp": 1699999940.0}},
		{"claims win", MintOptions{Subject: "ada", Role: "anon", Claims: map[string]any{"sub": "eve", "exp": json.RawMessage("1"), "app": map[string]any{"a": true}}},
			map[string]any{"sub": "eve", "role": "anon", "iat": 1700000000.0, "exp": 1.0, "app": map[string]any{"a": true}}},
		{"another role claim", MintOptions{Role: "anon", RoleClaim: "https://example.com/role"},
			map[string]any{"https://example.com/role": "anon", "iat": 1700000000.0, "exp": 1700003600.0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.options.Now = testNow
			token, err := Mint([]byte(testSecret), tt.options)
			if err != nil {
				t.Fatal(err)
			}
			d, refused := decodeToken(token)
			if refused != nil {
				t.Fatal(refused)
			}
			var got map[string]any
			if err := json.Unmarshal(d.raw, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMintRefuses(t *testing.T) {
	t.Parallel()
	if _, err := Mint(nil, MintOptions{}); err == nil {
		t.Error("minted without a secret")
	}
	for _, algorithm := range []string{"none", "RS256", "hs256"} {
		if token, err := Mint([]byte(testSecret), MintOptions{Algorithm: algorithm}); err == nil {
			t.Errorf("minted with %s: %s", algorithm, token)
		}
	}
}
