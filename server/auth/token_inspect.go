package auth

import (
	"encoding/base64"
	"strings"
)

// Inspection is everything that can be told about a token, whether or not it is accepted.
type Inspection struct {
	Algorithm string
	Claims    Claims   // unproven unless there are no problems
	Problems  []string // each a sentence; empty: a server with these options accepts the token now
}

// Inspect looks for everything that is wrong with a token, where Verify stops at the first thing. The options are not
// required to be complete: without a secret, the signature is a problem.
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
	found.Claims = v.read(d)
	found.Problems = inspectSignature(v, d, o.Secret)
	now := v.now()
	for _, check := range v.claimChecks() {
		if refused := check(d.claims, now); refused != nil {
			found.Problems = append(found.Problems, refused.Error())
		}
	}
	return found
}

func inspectSignature(v *Verifier, d *decodedToken, secret []byte) []string {
	if len(secret) == 0 {
		return []string{"The signature cannot be checked without JWT_SECRET"}
	}
	refused := v.checkSignature(d)
	if refused == nil {
		return nil
	}
	problems := []string{refused.Error()}
	if refused.Code == JwtSignatureError {
		for _, other := range readings(secret) {
			guess := Verifier{keys: sharedSecret(other.key)}
			if guess.checkSignature(d) == nil {
				problems = append(problems, "The signature fits JWT_SECRET "+other.how)
			}
		}
	}
	return problems
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
