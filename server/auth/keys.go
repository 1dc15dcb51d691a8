package auth

import (
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// KeySource gives keys that may change while the server runs.
type KeySource interface {
	// Keys gives the sets that may be used at this moment; lost tells that there was another, which is too old now.
	Keys() (sets []*KeySet, lost bool)
	// Renew has the keys looked for anew, because a token names one that is missing. It returns once that is done, or when
	// it takes too long; at once, if it was done just before. complete is false if there may be keys that the source could
	// not get.
	Renew() (complete bool)
}

// methods are the algorithms there are. None of them is ever used with a key that is not for it.
var methods = map[string]struct {
	kty    string
	method jwt.SigningMethod
}{
	"HS256": {"oct", jwt.SigningMethodHS256}, "HS384": {"oct", jwt.SigningMethodHS384}, "HS512": {"oct", jwt.SigningMethodHS512},
	"RS256": {"RSA", jwt.SigningMethodRS256}, "RS384": {"RSA", jwt.SigningMethodRS384}, "RS512": {"RSA", jwt.SigningMethodRS512},
	"ES256": {"EC", jwt.SigningMethodES256}, "ES384": {"EC", jwt.SigningMethodES384}, "ES512": {"EC", jwt.SigningMethodES512},
	"EdDSA": {"OKP", jwt.SigningMethodEdDSA}, "Ed25519": {"OKP", jwt.SigningMethodEdDSA},
}

// keyring is every key there is.
type keyring struct {
	secret []byte    // shared, of HS tokens; nil: none
	static *KeySet   // may be nil
	source KeySource // may be nil
}

func (r keyring) empty() bool { return len(r.secret) == 0 && r.static == nil && r.source == nil }

// find gives the keys of which one must have signed a token: more than one where two sets have a kid in common. renew allows
// to wait for keys that are new; without it, the key is one that there was, and has been withdrawn unless its set is lost.
func (r keyring) find(alg, kid string, renew bool) ([]any, *TokenError) {
	name := keyName{methods[alg].kty, kid}
	if name.kty == "oct" {
		return r.findSecret(alg, name)
	}
	switch {
	case r.static == nil && r.source == nil:
		return nil, errNoSigner("algorithm %s needs a public key, and there is no JWKS", alg)
	case kid == "":
		return nil, errNoSigner("header kid is missing; algorithm %s needs it", alg)
	}
	found, missing := r.lookup(alg, name)
	if len(found) == 0 && r.source != nil && renew && len(kid) <= maxKid {
		missing = !r.source.Renew()
		found, _ = r.lookup(alg, name)
	}
	switch {
	case len(found) > 0:
		return found, nil
	case missing:
		return nil, errKeysUnavailable(kid)
	}
	return nil, errNoKey(kid)
}

// findSecret prefers the secret that the token names. Identity providers put a kid on HS tokens that names nothing, too.
func (r keyring) findSecret(alg string, name keyName) ([]any, *TokenError) {
	if r.static != nil {
		if key, found := r.static.keys[name]; found && !key.fits(alg) {
			return nil, errNoKey(name.kid)
		} else if found {
			return []any{key.key}, nil
		}
	}
	switch {
	case len(r.secret) > 0:
		return []any{r.secret}, nil
	case r.static != nil && name.kid != "":
		return nil, errNoKey(name.kid)
	}
	return nil, errNoSigner("there is no secret for algorithm %s", alg)
}

func (r keyring) lookup(alg string, name keyName) (found []any, lost bool) {
	var sets []*KeySet
	if r.source != nil {
		sets, lost = r.source.Keys()
	}
	if r.static != nil {
		sets = slices.Insert(slices.Clone(sets), 0, r.static)
	}
	for _, set := range sets {
		if key, ok := set.keys[name]; ok && key.fits(alg) {
			found = append(found, key.key)
		}
	}
	return found, lost
}

// checkSignature takes the algorithm from the header only to choose among those that the keys are for. Keys, or addresses of
// keys, that a token brings along (jwk, jku, x5c, x5u) are not looked at.
func (v *Verifier) checkSignature(d *decodedToken, renew bool) *TokenError {
	alg, found, ok := d.header.text("alg")
	switch {
	case !found:
		return errNoSigner("header alg is missing")
	case !ok:
		return errNoSigner("header alg is not a string")
	}
	method, known := methods[alg]
	if !known {
		return errNoSigner("algorithm %s is not accepted", quoteShort(alg))
	}
	kid, _, _ := d.header.text("kid")
	keys, refused := v.keys.find(alg, kid, renew)
	if refused != nil {
		return refused
	}
	dot := strings.LastIndexByte(d.text, '.')
	signature, err := strictBase64.DecodeString(d.text[dot+1:])
	if err != nil {
		return errMalformed("signature: not base64url")
	}
	if !slices.ContainsFunc(keys, func(key any) bool { return method.method.Verify(d.text[:dot], signature, key) == nil }) {
		return errBadSignature()
	}
	return nil
}
