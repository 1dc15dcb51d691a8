package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// MaxKeySetBytes bounds a key set before it is parsed. Those of big identity providers hold a few keys of 2 KB each.
const MaxKeySetBytes = 256 << 10

const (
	// maxKeys bounds what one key set can cost.
	maxKeys = 100
	// maxKid is longer than the thumbprints and UUIDs that providers name keys by.
	maxKid = 256
	// RSA keys below 2048 bits can be factored (NIST SP 800-131A); beyond 8192 every token would cost milliseconds.
	minRSABits, maxRSABits = 2048, 8192
	// shortKey is what RFC 7518 wants of an HS256 key; shorter ones work, and are named.
	shortKey = 32
)

// KeySet is the usable keys of a JSON Web Key Set (RFC 7517). It does not change.
type KeySet struct {
	keys  map[keyName]verifyKey
	Notes []string // about keys that are not used, or should not be; for the operator's log
}

// Len is how many keys can be used.
func (s *KeySet) Len() int { return len(s.keys) }

// keyName is what a token names its key by: the kid, and by its algorithm the type.
type keyName struct{ kty, kid string }

// verifyKey is a key and the algorithms that it may be used with, which the key decides and never the token.
type verifyKey struct {
	key        any // in the form that golang-jwt wants
	algorithms []string
}

func (k verifyKey) fits(alg string) bool { return slices.Contains(k.algorithms, alg) }

// ParseKeySet reads a key set. A key that cannot be used is left out with a note; a set without any that can is an error.
// Published says that strangers can read the set too: what is secret in it is none, and is left out.
func ParseKeySet(text []byte, published bool) (*KeySet, error) {
	if len(text) > MaxKeySetBytes {
		return nil, fmt.Errorf("longer than %d bytes", MaxKeySetBytes)
	}
	document, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if keys, found := document.value("keys"); !found || json.Unmarshal(keys, &list) != nil {
		return nil, errors.New(`not a key set: want {"keys":[…]}`)
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	set := &KeySet{keys: map[keyName]verifyKey{}}
	for i, raw := range list {
		if err := set.add(raw, published); err != nil {
			set.Notes = append(set.Notes, fmt.Sprintf("key %d not used: %v", i+1, err))
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New(strings.Join(append([]string{"no usable key"}, set.Notes...), "; "))
	}
	return set, nil
}

func (s *KeySet) add(raw json.RawMessage, published bool) error {
	var jwk object
	if json.Unmarshal(raw, &jwk) != nil || jwk == nil {
		return errors.New("not an object")
	}
	kid, found, ok := jwk.text("kid")
	switch {
	case !ok:
		return errors.New("kid is not a string")
	case !found || kid == "":
		return errors.New("no kid, by which tokens name their key")
	case len(kid) > maxKid:
		return fmt.Errorf("kid is longer than %d bytes", maxKid)
	}
	if err := s.addNamed(kid, jwk, published); err != nil {
		return fmt.Errorf("kid %s: %w", quoteKid(kid), err)
	}
	return nil
}

func (s *KeySet) addNamed(kid string, jwk object, published bool) error {
	if err := checkPurpose(jwk); err != nil {
		return err
	}
	kty, _, _ := jwk.text("kty")
	if _, holds := jwk["d"]; holds {
		return errors.New("holds its private part: who can read it can sign tokens, so make another and keep it where tokens are signed")
	}
	var key verifyKey
	var err error
	switch kty {
	case "RSA":
		key, err = parseRSA(jwk)
	case "EC":
		key, err = parseEC(jwk)
	case "OKP":
		key, err = parseOKP(jwk)
	case "oct":
		if published {
			return errors.New("a secret (oct) that is published is none: give it in JWT_JWKS")
		}
		key, err = parseOct(jwk)
	default:
		return fmt.Errorf("kty %s is not RSA, EC, OKP or oct", quoteShort(kty))
	}
	if err != nil {
		return err
	}
	if alg, found, ok := jwk.text("alg"); !ok || found && !key.fits(alg) {
		return fmt.Errorf("alg %s is none that this key is used with here (%s)", quoteShort(alg), strings.Join(key.algorithms, ", "))
	} else if found {
		key.algorithms = []string{alg}
	}
	name := keyName{kty, kid}
	if _, twice := s.keys[name]; twice {
		return errors.New("another key of this type has the same kid; the first counts")
	}
	if secret, ok := key.key.([]byte); ok && len(secret) < shortKey {
		s.Notes = append(s.Notes, fmt.Sprintf("kid %s: %d bytes are short enough to be guessed; want %d", quoteKid(kid), len(secret), shortKey))
	}
	s.keys[name] = key
	return nil
}

// checkPurpose leaves out keys for encryption, which providers publish beside the others.
func checkPurpose(jwk object) error {
	if use, found, ok := jwk.text("use"); !ok || found && use != "sig" {
		return errors.New("use is not sig")
	}
	raw, found := jwk.value("key_ops")
	var operations []string
	if found && (json.Unmarshal(raw, &operations) != nil || !slices.Contains(operations, "verify")) {
		return errors.New("key_ops lack verify")
	}
	return nil
}

func parseRSA(jwk object) (verifyKey, error) {
	n, err := jwk.bytes("n")
	if err != nil {
		return verifyKey{}, err
	}
	e, err := jwk.bytes("e")
	if err != nil {
		return verifyKey{}, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	switch bits := modulus.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return verifyKey{}, fmt.Errorf("RSA of %d bits, want %d to %d", bits, minRSABits, maxRSABits)
	case modulus.Bit(0) == 0:
		return verifyKey{}, errors.New("RSA modulus is even")
	case exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0:
		return verifyKey{}, errors.New("RSA exponent is not an odd number from 3 to 2^31-1")
	}
	key := &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	return verifyKey{key, []string{"RS256", "RS384", "RS512"}}, nil
}

func parseEC(jwk object) (verifyKey, error) {
	var curve elliptic.Curve
	var algorithm string
	switch crv, _, _ := jwk.text("crv"); crv {
	case "P-256":
		curve, algorithm = elliptic.P256(), "ES256"
	case "P-384":
		curve, algorithm = elliptic.P384(), "ES384"
	case "P-521":
		curve, algorithm = elliptic.P521(), "ES512"
	default:
		return verifyKey{}, fmt.Errorf("crv %s is not P-256, P-384 or P-521", quoteShort(crv))
	}
	point := []byte{4} // SEC 1, uncompressed
	for _, name := range []string{"x", "y"} {
		coordinate, err := jwk.bytes(name)
		if err != nil {
			return verifyKey{}, err
		}
		if size := (curve.Params().BitSize + 7) / 8; len(coordinate) != size {
			return verifyKey{}, fmt.Errorf("%s has %d bytes, want %d", name, len(coordinate), size)
		}
		point = append(point, coordinate...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return verifyKey{}, errors.New("x and y are no point on the curve")
	}
	return verifyKey{key, []string{algorithm}}, nil
}

func parseOKP(jwk object) (verifyKey, error) {
	if crv, _, _ := jwk.text("crv"); crv != "Ed25519" {
		return verifyKey{}, fmt.Errorf("crv %s is not Ed25519", quoteShort(crv))
	}
	x, err := jwk.bytes("x")
	if err != nil {
		return verifyKey{}, err
	}
	if len(x) != ed25519.PublicKeySize {
		return verifyKey{}, fmt.Errorf("x has %d bytes, want %d", len(x), ed25519.PublicKeySize)
	}
	return verifyKey{ed25519.PublicKey(x), []string{"EdDSA", "Ed25519"}}, nil
}

func parseOct(jwk object) (verifyKey, error) {
	k, err := jwk.bytes("k")
	if err != nil {
		return verifyKey{}, err
	}
	return verifyKey{k, []string{"HS256", "HS384", "HS512"}}, nil
}

// bytes returns a member that should be bytes as base64url. Some write the padding, which RFC 7515 leaves out.
func (o object) bytes(name string) ([]byte, error) {
	text, found, ok := o.text(name)
	if !found || !ok || text == "" {
		return nil, fmt.Errorf("%s is missing, or not a string", name)
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url", name)
	}
	return b, nil
}
