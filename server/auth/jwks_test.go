package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"rowcast/server/auth/authtest"
)

const testOct = "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw" // testSecret

func oct(kid string, more map[string]any) map[string]any {
	jwk := map[string]any{"kty": "oct", "kid": kid, "k": testOct}
	for name, value := range more {
		jwk[name] = value
	}
	return jwk
}

func mustParse(t testing.TB, keys ...map[string]any) *KeySet {
	t.Helper()
	set, err := ParseKeySet([]byte(authtest.Set(keys...)), false)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// withKeys verifies with a key set and without a secret.
func withKeys(t testing.TB, keys ...map[string]any) *Verifier {
	t.Helper()
	return newTestVerifier(t, func(o *VerifierOptions) { o.Secret, o.Keys = nil, mustParse(t, keys...) })
}

// Of every algorithm a token is accepted that its key signed, and none that it did not.
func TestAlgorithmsOfKeySets(t *testing.T) {
	t.Parallel()
	load := func(name string) authtest.Key { return authtest.Load(t, name, name) }
	keys := map[string]authtest.Key{
		"RS256": load("rsa"), "RS384": load("rsa"), "RS512": load("rsa"), "ES256": load("p256"), "ES384": load("p384"), "ES512": load("p521"),
		"EdDSA": load("ed25519"), "Ed25519": load("ed25519"),
	}
	var all []map[string]any
	for _, key := range keys {
		all = append(all, key.JWK(nil))
	}
	all = append(all, oct("oct", nil))
	v := withKeys(t, all...)
	for alg, key := range keys {
		token := key.Token(alg, goodClaims)
		if claims, refused := v.Verify(token); refused != nil || claims.Subject != "ada" {
			t.Errorf("%s: %v, %v", alg, claims, refused)
		}
		dot := strings.LastIndexByte(token, '.')
		for name, bad := range map[string]string{
			"other claims":      key.Token(alg, `{"x":1}`)[:strings.LastIndexByte(key.Token(alg, `{"x":1}`), '.')] + token[dot:],
			"no signature":      token[:dot+1],
			"half a signature":  token[:dot+1] + token[dot+1:dot+1+(len(token)-dot)/2/4*4],
			"signature of zero": token[:dot+1] + base64.RawURLEncoding.EncodeToString(make([]byte, base64.RawURLEncoding.DecodedLen(len(token)-dot-1))),
		} {
			if _, refused := v.Verify(bad); refused == nil || refused.Code != JwtSignatureError {
				t.Errorf("%s with %s: %v", alg, name, refused)
			}
		}
	}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		if _, refused := v.Verify(signText(fmt.Sprintf(`{"alg":%q,"kid":"oct"}`, alg), goodClaims)); refused != nil {
			t.Errorf("%s: %v", alg, refused)
		}
	}
}

// Which key a token is verified with, by its algorithm and kid.
func TestChoiceOfKeys(t *testing.T) {
	t.Parallel()
	rsa, ec, ed := authtest.Load(t, "rsa", "one"), authtest.Load(t, "p256", "one"), authtest.Load(t, "ed25519", "three")
	const (
		noSigner  = "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS configuration"
		noKey     = `JwtSignerError: Failed to generate JWT signer for key ID (kid) "%s", check your JWT secret or JWKS configuration`
		signature = "JwtSignatureError: Failed to validate JWT signature"
	)
	hs := func(header string) string { return signText(header, goodClaims) }
	named := func(kid string) string { return fmt.Sprintf(noKey, kid) }
	other := []byte("another secret of thirty-two bytes")
	otherOct := oct("x", map[string]any{"k": base64.RawURLEncoding.EncodeToString(other)})
	long := strings.Repeat("k", 1000)
	tests := []struct {
		name, token string
		secret      []byte
		keys        []map[string]any
		want        string // empty: accepted
	}{
		{"types share a kid: RSA", rsa.Token("RS256", goodClaims), nil, []map[string]any{ec.JWK(nil), rsa.JWK(nil)}, ""},
		{"types share a kid: EC", ec.Token("ES256", goodClaims), nil, []map[string]any{rsa.JWK(nil), ec.JWK(nil)}, ""},
		{"no kid", ec.Sign("ES256", `{"alg":"ES256"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, noSigner},
		{"kid null", ec.Sign("ES256", `{"alg":"ES256","kid":null}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, noSigner},
		{"kid a number", ec.Sign("ES256", `{"alg":"ES256","kid":1}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, noSigner},
		{"kid a list", ec.Sign("ES256", `{"alg":"ES256","kid":["one"]}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, noSigner},
		{"kid twice", ec.Sign("ES256", `{"alg":"ES256","kid":"two","kid":"one"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, "MalformedJWT: The token provided is not a valid JWT"},
		{"kid in another case", ec.Sign("ES256", `{"alg":"ES256","kid":"ONE"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, named("ONE")},
		{"kid with a quote and a line", ec.Sign("ES256", `{"alg":"ES256","kid":"a\"\n\u202e'"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, named(`a\"\n\u202e'`)},
		{"kid that is a path", ec.Sign("ES256", `{"alg":"ES256","kid":"../../dev/null"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, named("../../dev/null")},
		{"kid very long", ec.Sign("ES256", `{"alg":"ES256","kid":"`+long+`"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, named(long[:128] + "…")},
		{"kid of another type", ed.Sign("EdDSA", `{"alg":"EdDSA","kid":"one"}`, goodClaims), nil, []map[string]any{ec.JWK(nil), ed.JWK(nil)}, named("one")},
		{"no key set", ec.Token("ES256", goodClaims), []byte(testSecret), nil, noSigner},
		{"another curve's algorithm", ec.Sign("ES384", `{"alg":"ES384","kid":"one"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, named("one")},
		{"the key's own algorithm", rsa.Token("RS256", goodClaims), nil, []map[string]any{rsa.JWK(map[string]any{"alg": "RS256"})}, ""},
		{"another than the key's own", rsa.Token("RS512", goodClaims), nil, []map[string]any{rsa.JWK(map[string]any{"alg": "RS256"})}, named("one")},
		{"PS256", rsa.Sign("RS256", `{"alg":"PS256","kid":"one"}`, goodClaims), nil, []map[string]any{rsa.JWK(nil)}, noSigner},
		{"ES256K", ec.Sign("ES256", `{"alg":"ES256K","kid":"one"}`, goodClaims), nil, []map[string]any{ec.JWK(nil)}, noSigner},
		{"Ed448", ed.Sign("EdDSA", `{"alg":"Ed448","kid":"three"}`, goodClaims), nil, []map[string]any{ed.JWK(nil)}, noSigner},
		{"none with a kid", ed.Sign("EdDSA", `{"alg":"none","kid":"three"}`, goodClaims), nil, []map[string]any{ed.JWK(nil)}, noSigner},

		{"HS without a kid: the secret", hs(`{"alg":"HS256"}`), []byte(testSecret), []map[string]any{otherOct}, ""},
		{"HS with a foreign kid: the secret", hs(`{"alg":"HS256","kid":"y"}`), []byte(testSecret), []map[string]any{otherOct}, ""},
		{"HS with a kid that is no text: the secret", hs(`{"alg":"HS256","kid":7}`), []byte(testSecret), []map[string]any{otherOct}, ""},
		{"HS with the kid of an oct key: that key", hs(`{"alg":"HS256","kid":"x"}`), other, []map[string]any{oct("x", nil)}, ""},
		{"HS with the kid of an oct key: not the secret", hs(`{"alg":"HS256","kid":"x"}`), []byte(testSecret), []map[string]any{otherOct}, signature},
		{"HS with the kid of an oct key for another algorithm", hs(`{"alg":"HS512","kid":"x"}`), []byte(testSecret), []map[string]any{oct("x", map[string]any{"alg": "HS256"})}, named("x")},
		{"HS with the kid of a public key: the secret", hs(`{"alg":"HS256","kid":"one"}`), []byte(testSecret), []map[string]any{rsa.JWK(nil)}, ""},
		{"HS without a secret", hs(`{"alg":"HS256"}`), nil, []map[string]any{rsa.JWK(nil)}, noSigner},
		{"HS without a secret, of an unknown kid", hs(`{"alg":"HS256","kid":"y"}`), nil, []map[string]any{otherOct}, named("y")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, refused := newTestVerifier(t, func(o *VerifierOptions) {
				if o.Secret = tt.secret; tt.keys != nil {
					o.Keys = mustParse(t, tt.keys...)
				}
			}).Verify(tt.token)
			got := ""
			if refused != nil {
				got = refused.Join()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What is public of a key must never serve as a secret: a token that is "signed" with it is refused, in every form that
// the public key has.
func TestPublicKeysAreNoSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"rsa", "p256", "ed25519"} {
		key := authtest.Load(t, name, "k1")
		v := withKeys(t, key.JWK(nil), oct("secret", nil))
		jwk := key.JWK(nil)
		text, _ := json.Marshal(jwk)
		forms := [][]byte{text, []byte(authtest.Set(jwk)), {}}
		for _, member := range []string{"n", "x", "y", "e"} {
			if s, ok := jwk[member].(string); ok {
				raw, _ := base64.RawURLEncoding.DecodeString(s)
				forms = append(forms, []byte(s), raw)
			}
		}
		for _, form := range forms {
			for _, header := range []string{`{"alg":"HS256","kid":"k1"}`, `{"alg":"HS256"}`, `{"alg":"HS256","kid":"secret"}`} {
				if _, refused := v.Verify(signWith(form, header, goodClaims)); refused == nil {
					t.Fatalf("%s: its public half signed with %s", name, header)
				}
			}
		}
	}
}

// Keys that a token brings along, or points to, are not used, however well they fit it.
func TestKeysInTokensAreIgnored(t *testing.T) {
	t.Parallel()
	ours, theirs := authtest.Load(t, "p256", "k1"), authtest.Load(t, "ed25519", "k1")
	v := withKeys(t, ours.JWK(nil))
	jwk, _ := json.Marshal(theirs.JWK(nil))
	for _, more := range []string{`"jwk":` + string(jwk), `"jku":"http://127.0.0.1:1/jwks"`, `"x5u":"http://127.0.0.1:1/"`, `"x5c":["AA"]`} {
		if _, refused := v.Verify(theirs.Sign("EdDSA", `{"alg":"EdDSA","kid":"k1",`+more+`}`, goodClaims)); refused == nil || refused.Code != JwtSignerError {
			t.Errorf("%s: %v", more, refused)
		}
		if _, refused := v.Verify(ours.Sign("ES256", `{"alg":"ES256","kid":"k1",`+more+`}`, goodClaims)); refused != nil {
			t.Errorf("our own token with %s: %v", more, refused)
		}
	}
}

func TestParseKeySet(t *testing.T) {
	t.Parallel()
	rsa, ec, ed := authtest.Load(t, "rsa", "k"), authtest.Load(t, "p256", "k"), authtest.Load(t, "ed25519", "k")
	number := func(bits uint, add int64) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return base64.RawURLEncoding.EncodeToString(n.Add(n, big.NewInt(add)).Bytes())
	}
	m := func(name string, value any) map[string]any { return map[string]any{name: value} }
	tests := []struct {
		name string
		key  map[string]any
		want string // part of the note; empty: usable
	}{
		{"RSA", rsa.JWK(nil), ""}, {"EC", ec.JWK(nil), ""}, {"OKP", ed.JWK(nil), ""}, {"oct", oct("k", nil), ""},
		{"without use", rsa.JWK(m("use", nil)), ""},
		{"with key_ops", rsa.JWK(m("key_ops", []string{"verify"})), ""},
		{"with members that are unknown", rsa.JWK(map[string]any{"x5c": []string{"AA"}, "ext": true, "dp2": 1}), ""},
		{"with padding", ed.JWK(m("x", ed.JWK(nil)["x"].(string)+"=")), ""},
		{"for encryption", rsa.JWK(m("use", "enc")), "use is not sig"},
		{"for encryption, by alg", rsa.JWK(map[string]any{"use": nil, "alg": "RSA-OAEP"}), `alg "RSA-OAEP" is none`},
		{"for another algorithm", rsa.JWK(m("alg", "PS256")), `alg "PS256" is none`},
		{"for HS256", rsa.JWK(m("alg", "HS256")), `alg "HS256" is none`},
		{"alg is a number", rsa.JWK(m("alg", 256)), "alg"},
		{"for signing only", rsa.JWK(m("key_ops", []string{"sign"})), "key_ops lack verify"},
		{"key_ops is a text", rsa.JWK(m("key_ops", "verify")), "key_ops lack verify"},
		{"no kid", rsa.JWK(m("kid", nil)), "no kid"},
		{"empty kid", rsa.JWK(m("kid", "")), "no kid"},
		{"kid is a number", rsa.JWK(m("kid", 1)), "kid is not a string"},
		{"long kid", rsa.JWK(m("kid", strings.Repeat("k", 257))), "kid is longer"},
		{"no kty", rsa.JWK(m("kty", nil)), `kty "" is not`},
		{"unknown kty", rsa.JWK(m("kty", "LWE")), `kty "LWE" is not`},
		{"kty of another", rsa.JWK(m("kty", "EC")), "crv"},
		{"private RSA", rsa.JWK(m("d", "AQAB")), "private part"},
		{"private EC", ec.JWK(m("d", "AQAB")), "private part"},
		{"private OKP", ed.JWK(m("d", "AQAB")), "private part"},
		{"RSA of 1024 bits", rsa.JWK(m("n", number(1024, 1))), "RSA of 1024 bits"},
		{"RSA of 2047 bits", rsa.JWK(m("n", number(2047, 1))), "RSA of 2047 bits"},
		{"RSA of 16384 bits", rsa.JWK(m("n", number(16384, 1))), "RSA of 16384 bits"},
		{"RSA modulus even", rsa.JWK(m("n", number(2048, 2))), "even"},
		{"RSA modulus missing", rsa.JWK(m("n", nil)), "n is missing"},
		{"RSA modulus a number", rsa.JWK(m("n", 5)), "n is missing"},
		{"RSA modulus no base64url", rsa.JWK(m("n", "a+b/")), "n is not base64url"},
		{"RSA exponent 1", rsa.JWK(m("e", "AQ")), "exponent"},
		{"RSA exponent even", rsa.JWK(m("e", "BA")), "exponent"},
		{"RSA exponent huge", rsa.JWK(m("e", number(64, 1))), "exponent"},
		{"EC on another curve", ec.JWK(m("crv", "P-384")), "x has 32 bytes, want 48"},
		{"EC on an unknown curve", ec.JWK(m("crv", "secp256k1")), `crv "secp256k1" is not`},
		{"EC off the curve", ec.JWK(m("y", ec.JWK(nil)["x"])), "no point on the curve"},
		{"EC short", ec.JWK(m("x", "AQ")), "x has 1 bytes, want 32"},
		{"Ed448", ed.JWK(m("crv", "Ed448")), `crv "Ed448" is not Ed25519`},
		{"X25519", ed.JWK(m("crv", "X25519")), `crv "X25519" is not Ed25519`},
		{"Ed25519 short", ed.JWK(m("x", "AQ")), "x has 1 bytes, want 32"},
		{"oct empty", oct("k", m("k", "")), "k is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spare := authtest.Load(t, "p384", "spare")
			set := mustParse(t, tt.key, spare.JWK(nil))
			switch {
			case tt.want == "" && (set.Len() != 2 || len(set.Notes) != 0):
				t.Errorf("%d keys, %q", set.Len(), set.Notes)
			case tt.want != "" && (set.Len() != 1 || len(set.Notes) != 1 || !strings.Contains(set.Notes[0], tt.want)):
				t.Errorf("%d keys, %q, want a note %q", set.Len(), set.Notes, tt.want)
			}
			if _, err := ParseKeySet([]byte(authtest.Set(tt.key)), false); (err == nil) != (tt.want == "") {
				t.Errorf("alone: %v", err)
			}
		})
	}
}

func TestKeySetsAsAWhole(t *testing.T) {
	t.Parallel()
	key := authtest.Load(t, "p256", "k").JWK(nil)
	good := authtest.Set(key)
	var many []map[string]any
	for i := range 101 {
		many = append(many, oct(fmt.Sprint(i), nil))
	}
	for name, text := range map[string]string{
		"empty": "", "null": "null", "a list": "[]", "no keys": "{}", "keys null": `{"keys":null}`, "keys an object": `{"keys":{}}`,
		"an empty list": `{"keys":[]}`, "no objects": `{"keys":[1,"x",null]}`, "something behind": good + "{}", "not UTF-8": good[:len(good)-2] + "\xff]}",
		"keys twice": `{"keys":[],` + good[1:], "a member twice": strings.Replace(good, `"kid"`, `"kid":"x","kid"`, 1),
		"a page": "<html></html>", "101 keys": authtest.Set(many...), "long": good + strings.Repeat(" ", MaxKeySetBytes),
	} {
		if set, err := ParseKeySet([]byte(text), true); err == nil {
			t.Errorf("%s: %d keys", name, set.Len())
		}
	}
	first, second := authtest.Load(t, "p256", "same"), authtest.Load(t, "p384", "same")
	set := mustParse(t, first.JWK(nil), second.JWK(nil))
	if set.Len() != 1 || len(set.Notes) != 1 || !strings.Contains(set.Notes[0], "the first counts") {
		t.Errorf("two keys of one kid and type: %d, %q", set.Len(), set.Notes)
	}
	short := mustParse(t, oct("k", map[string]any{"k": "c2VzYW1l"}))
	if short.Len() != 1 || len(short.Notes) != 1 || !strings.Contains(short.Notes[0], "6 bytes are short enough to be guessed") {
		t.Errorf("a short secret: %d, %q", short.Len(), short.Notes)
	}
	if set, err := ParseKeySet([]byte(authtest.Set(key, oct("o", nil))), true); err != nil || set.Len() != 1 || !strings.Contains(set.Notes[0], "published") {
		t.Errorf("a secret that is published: %v, %v", set, err)
	}
	for _, note := range slices.Concat(set.Notes, short.Notes) {
		if strings.Contains(note, "c2VzYW1l") || strings.Contains(note, "sesame") {
			t.Errorf("a note holds a key: %s", note)
		}
	}
}

// FuzzParseKeySet: whatever is read, nothing panics, every key left can be used with an algorithm, and nobody else's
// signature is good.
func FuzzParseKeySet(f *testing.F) {
	var all []map[string]any
	for _, name := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		all = append(all, authtest.Load(f, name, name).JWK(nil))
	}
	f.Add(authtest.Set(append(all, oct("oct", nil))...))
	for _, seed := range []string{
		`{"keys":[]}`, `{"keys":[{}]}`, `[]`, `{"keys":[null,1]}`, `{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"}]}`,
		`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":""}]}`,
		`{"keys":[{"kty":"oct","kid":"k","k":"AA","alg":"none","use":"sig","key_ops":[]}]}`, `{"keys":[{"kid":"\ud800","kty":"oct","k":"AA=="}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, published := range []bool{false, true} {
			set, err := ParseKeySet([]byte(text), published)
			if err != nil {
				continue
			}
			if set.Len() == 0 {
				t.Fatal("a set without a key is no error")
			}
			v := newVerifier(VerifierOptions{Keys: set, AllowedRoles: []string{"authenticated"}})
			for name, key := range set.keys {
				if _, secret := key.key.([]byte); secret && published {
					t.Fatal("a secret was read from a published set")
				}
				if len(key.algorithms) == 0 || name.kid == "" {
					t.Fatalf("%v is of no use: %v", name, key)
				}
				for _, alg := range key.algorithms {
					if methods[alg].kty != name.kty {
						t.Fatalf("%v is for %s", name, alg)
					}
					kid, _ := json.Marshal(name.kid)
					token := signWith([]byte("guessed"), fmt.Sprintf(`{"alg":%q,"kid":%s}`, alg, kid), goodClaims)
					if refused := v.checkSignatureOf(token); refused == nil && string(mustBytes(key.key)) != "guessed" {
						t.Fatalf("%v accepted a signature that it did not make", name)
					}
				}
			}
		}
	})
}

func mustBytes(key any) []byte {
	b, _ := key.([]byte)
	return b
}

func (v *Verifier) checkSignatureOf(token string) *TokenError {
	d, refused := decodeToken(token)
	if refused != nil {
		return refused
	}
	return v.checkSignature(d, false)
}
