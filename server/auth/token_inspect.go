package auth

import (
	"encoding/base64"
	"strings"
)

// Inspection is everything that can be told about a token, whether or not it is accepted.
type Inspection struct {
	Algorithm string
	KeyID     string   // header kid
	Claims    Claims   // unproven unless there are no problems
	Problems  []string // each a sentence; empty: a server with these options accepts the token now
}

// Inspect looks for everything that is wrong with a token, where Verify stops at the first thing. The options are not
// required to be complete: without the key, the signature is a problem.
func Inspect(token string, o VerifierOptions) Inspection {
	d, refused := decodeToken(token)
	if refused != nil {
		problems := []string{refused.Error()}
		if hint := hintMalformed(token); hint != "" {
			problems = append(problems, hint)
		}
		return Inspection{Problems: problems}
	}
	v := newVerifier(o)
	var found Inspection
	found.Algorithm, _, _ = d.header.text("alg")
	found.KeyID, _, _ = d.header.text("kid")
	found.Claims = v.read(d)
	found.Problems = v.inspectSignature(d)
	now := v.now()
	for _, check := range v.claimChecks() {
		if refused := check(d.claims, now); refused != nil {
			found.Problems = append(found.Problems, refused.Error())
		}
	}
	return found
}

func (v *Verifier) inspectSignature(d *decodedToken) []string {
	alg, _, _ := d.header.text("alg")
	kty := methods[alg].kty
	if kty == "oct" && len(v.keys.secret) == 0 && v.keys.static == nil {
		return []string{"The signature cannot be checked without JWT_SECRET"}
	}
	refused := v.checkSignature(d, true)
	if refused == nil {
		return nil
	}
	problems := []string{refused.Error()}
	switch {
	case kty == "oct" && refused.Code == JwtSignatureError:
		for _, other := range readings(v.keys.secret) {
			guess := Verifier{keys: keyring{secret: other.key}}
			if guess.checkSignature(d, false) == nil {
				problems = append(problems, "The signature fits JWT_SECRET "+other.how)
			}
		}
	case kty != "oct" && kty != "" && refused.Code == JwtSignerError:
		problems = append(problems, hintPublicKey(d, alg))
	}
	return problems
}

// hintPublicKey says where the key is to be had that a token names.
func hintPublicKey(d *decodedToken, alg string) string {
	hint := alg + " tokens are verified with the public keys of whoever issued them: set JWT_JWKS_URL or JWT_JWKS"
	if kid, found, _ := d.header.text("kid"); found {
		hint += "; the key needed is the one with kid " + quoteKid(kid)
	}
	if iss, _, _ := d.claims.text("iss"); strings.HasPrefix(iss, "https://") {
		hint += "; most issuers name their address as jwks_uri in " + quoteKid(strings.TrimSuffix(iss, "/")+"/.well-known/openid-configuration")
	}
	return hint
}

type reading struct {
	key []byte
	how string
}

// readings are the secrets that people mean when they give this one.
func readings(secret []byte) []reading {
	var all []reading
	text := strings.TrimSpace(string(secret))
	if text != "" && text != string(secret) {
		all = append(all, reading{[]byte(text), "without the white space around it"})
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) > 0 {
			return append(all, reading{key, "after base64-decoding it"})
		}
	}
	return all
}

func hintMalformed(token string) string {
	token = strings.TrimSpace(token)
	switch {
	case len(token) >= len("bearer ") && strings.EqualFold(token[:len("bearer ")], "bearer "):
		return "Leave out the word Bearer"
	case strings.HasPrefix(token, "sb_publishable_"), strings.HasPrefix(token, "sb_secret_"):
		return "This is an API key that only a gateway can exchange for a JWT"
	case strings.HasPrefix(token, `"`):
		return "Leave out the quotes"
	case strings.Count(token, ".") == 4:
		return "Five parts make an encrypted token (JWE); a signed one is needed"
	}
	return ""
}
