package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// signedWith tells, independently of the code under test, whether any of the HS algorithms made this signature.
func signedWith(secret, token string) bool {
	prepared, err := prepareToken(token)
	if err != nil {
		return false
	}
	dot := strings.LastIndexByte(prepared, '.')
	if dot < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(prepared[dot+1:])
	if err != nil {
		return false
	}
	for _, make := range []func() hash.Hash{sha256.New, sha512.New384, sha512.New} {
		mac := hmac.New(make, []byte(secret))
		mac.Write([]byte(prepared[:dot]))
		if hmac.Equal(mac.Sum(nil), signature) {
			return true
		}
	}
	return false
}

// checkVerified holds for every input whatsoever: what is accepted was signed, names an allowed role, has time left and
// is told exactly as it was signed.
func checkVerified(t interface {
	Helper()
	Fatalf(string, ...any)
}, v *Verifier, token string) (accepted bool) {
	t.Helper()
	claims, refused := v.Verify(token)
	if refused != nil {
		if refused.Code == "" || refused.Text == "" {
			t.Fatalf("refused without a reason: %#v", refused)
		}
		return false
	}
	switch {
	case !signedWith(testSecret, token):
		t.Fatalf("accepted an unsigned token: %q", token)
	case !slices.Contains(v.roles, claims.Role):
		t.Fatalf("accepted role %q", claims.Role)
	case !claims.Expires.After(testNow):
		t.Fatalf("accepted a token that expired at %v", claims.Expires)
	case !json.Valid(claims.Raw) || !utf8.Valid(claims.Raw) || len(token) > MaxTokenBytes:
		t.Fatalf("accepted claims that are no JSON text: %q", claims.Raw)
	}
	return true
}

func FuzzVerify(f *testing.F) {
	good := signClaims(goodClaims)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for _, token := range []string{
		good, "", "..", "a.b.c", "%", good + "=", none + good[strings.IndexByte(good, '.'):], none + "." + strings.Split(good, ".")[1] + ".",
	} {
		f.Add(token, `{"alg":"HS256"}`, goodClaims)
	}
	f.Add(good, `{"alg":"none"}`, goodClaims)
	f.Add(good, `{"alg":"HS512","crit":["exp"]}`, goodClaims)
	f.Add(good, `{"alg":"HS384"}`, `{"role":"none","exp":1e999}`)
	f.Add(good, `{"alg":"HS256","alg":"none"}`, `{"role":"anon","role":"postgres","exp":9999999999}`)
	f.Add(good, `{"alg":"HS256"}`, `{"role":{"role":["\ud800"]},"exp":-0.0,"nbf":1E400}`)
	v := newTestVerifier(f, func(o *VerifierOptions) { o.RoleClaim = "role" })
	f.Fuzz(func(t *testing.T, token, header, claims string) {
		checkVerified(t, v, token)
		checkVerified(t, v, signText(header, claims))
		unsigned := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		for _, end := range []string{"", ".", ".AA"} {
			if checkVerified(t, v, unsigned+end) {
				t.Fatalf("accepted without a signature: %q", unsigned+end)
			}
		}
		for _, text := range []string{token, signText(header, claims)} {
			_, refused := v.Verify(text)
			if found := Inspect(text, testOptions()); (len(found.Problems) == 0) != (refused == nil) {
				t.Fatalf("%q: refused with %v, inspected with %q", text, refused, found.Problems)
			}
		}
	})
}

// FuzzParseObject: what is accepted is what encoding/json reads, member by member, and no object in it names one twice.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{"a":1,"b":[{"c":null}]}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":[{"b":1,"b":2}]}`, `{"a":{"a":{"a":1}},"b":{"a":1}}`,
		`{"\ud800":1,"\udfff":2}`, `{"a":1}x`, `{}`, ` {} `, `[]`, `null`, `{"a":"\u0000"}`, "{\"a\":\"\xff\"}", `{"":{"":[[],{}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseObject(text)
		var want map[string]json.RawMessage
		readable := utf8.Valid(text) && json.Unmarshal(text, &want) == nil && want != nil
		if readable = readable && !namesTwice(t, text); readable != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil && !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
	})
}

// namesTwice tells by another way than the code under test, level by level, whether an object names a member twice: then
// it holds fewer members than its text has names.
func namesTwice(t *testing.T, text []byte) bool {
	t.Helper()
	var object map[string]json.RawMessage
	var array []json.RawMessage
	names := 0
	if json.Unmarshal(text, &object) == nil && object != nil {
		decoder := json.NewDecoder(bytes.NewReader(text))
		_, _ = decoder.Token()
		for ; decoder.More(); names++ {
			var value json.RawMessage
			if _, err := decoder.Token(); err != nil {
				t.Fatal(err)
			}
			if err := decoder.Decode(&value); err != nil {
				t.Fatal(err)
			}
			array = append(array, value)
		}
		if names != len(object) {
			return true
		}
	} else if json.Unmarshal(text, &array) != nil {
		return false
	}
	return slices.ContainsFunc(array, func(value json.RawMessage) bool { return namesTwice(t, value) })
}

// Every change of one byte, anywhere, is refused. Strict base64 leaves no two spellings of one signature.
func TestEveryByteOfATokenCounts(t *testing.T) {
	t.Parallel()
	v := newTestVerifier(t, nil)
	good := signClaims(goodClaims)
	if _, refused := v.Verify(good); refused != nil {
		t.Fatalf("the token itself: %v", refused)
	}
	changed := []byte(good)
	for i := range changed {
		for b := range 256 {
			if changed[i] = byte(b); changed[i] == good[i] {
				continue
			}
			if _, refused := v.Verify(string(changed)); refused == nil {
				t.Fatalf("byte %d changed from %q to %q is accepted", i, good[i], changed[i])
			}
		}
		changed[i] = good[i]
	}
}

// What Mint makes, Verify reads back; what another secret made, it refuses.
func TestMintVerifyRoundTrip(t *testing.T) {
	t.Parallel()
	v := newTestVerifier(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		o := MintOptions{
			Subject:   rapid.String().Filter(plainText).Draw(t, "sub"),
			Role:      rapid.SampledFrom([]string{"anon", "authenticated", "service_role"}).Draw(t, "role"),
			Algorithm: rapid.SampledFrom([]string{"", "HS256", "HS384", "HS512"}).Draw(t, "alg"),
			Claims:    map[string]any{"note": rapid.String().Draw(t, "note")},
			Now:       testNow,
		}
		token, err := Mint([]byte(testSecret), o)
		if err != nil {
			t.Fatal(err)
		}
		claims, refused := v.Verify(token)
		if refused != nil {
			t.Fatalf("refused: %v", refused)
		}
		if claims.Subject != o.Subject || claims.Role != o.Role {
			t.Fatalf("got %q as %q, want %q as %q", claims.Subject, claims.Role, o.Subject, o.Role)
		}
		foreign, err := Mint([]byte(testSecret+"!"), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, refused := v.Verify(foreign); refused == nil || refused.Code != JwtSignatureError {
			t.Fatalf("another secret: %v", refused)
		}
	})
}
