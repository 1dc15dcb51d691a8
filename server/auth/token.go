package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// MaxTokenBytes bounds the work a stranger can cause before a signature is checked. Tokens of identity providers with
// long group lists reach 8 KB; HTTP servers and gateways refuse longer headers than this anyway.
const MaxTokenBytes = 16 << 10

// notBeforeLeeway forgives clocks that differ a little. Only nbf has one: a token that has expired has expired.
const notBeforeLeeway = 5 * time.Second

// Claims is what a verified token says about its bearer.
type Claims struct {
	Subject string          // claim sub, "" when there is none
	Role    string          // the Postgres role, one of the allowed ones
	Raw     json.RawMessage // the claims object exactly as signed: a JSON object, valid UTF-8, no name twice
	Expires time.Time       // claim exp in whole seconds
}

// VerifierOptions says which tokens are accepted.
type VerifierOptions struct {
	Secret       []byte           // shared secret of HS256, HS384 and HS512; of secret, keys and source one is enough
	Keys         *KeySet          // keys that stay as they are; may be nil
	Source       KeySource        // keys that are fetched; may be nil
	Issuers      []string         // claim iss must be one of these; empty: unchecked
	Audiences    []string         // claim aud must hold one of these; empty: unchecked
	RoleClaim    string           // claim that names the role, or a path to it such as app_metadata.role; empty: role
	DefaultRole  string           // role of a token without that claim; empty: such a token is refused
	AllowedRoles []string         // every other role is refused
	Now          func() time.Time // nil: time.Now
}

// Verifier decides whether a token is genuine, and whose it is. It is safe for concurrent use.
type Verifier struct {
	keys      keyring
	issuers   []string
	audiences []string
	roleClaim string
	defRole   string
	roles     []string
	now       func() time.Time
}

// NewVerifier refuses options under which any token, or none, would be accepted.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	if o.keyring().empty() {
		return nil, errors.New("verify tokens: there is neither a secret nor a key set")
	}
	if len(o.AllowedRoles) == 0 {
		return nil, errors.New("verify tokens: no role is allowed")
	}
	if slices.ContainsFunc(o.AllowedRoles, neverRole) {
		return nil, errors.New("verify tokens: an allowed role is empty or none, which would mean the server's own role")
	}
	if o.DefaultRole != "" && !slices.Contains(o.AllowedRoles, o.DefaultRole) {
		return nil, fmt.Errorf("verify tokens: the default role %q is not an allowed role", o.DefaultRole)
	}
	return newVerifier(o), nil
}

func (o VerifierOptions) keyring() keyring {
	return keyring{slices.Clone(o.Secret), o.Keys, o.Source}
}

func newVerifier(o VerifierOptions) *Verifier {
	v := &Verifier{
		keys:      o.keyring(),
		issuers:   slices.Clone(o.Issuers),
		audiences: slices.Clone(o.Audiences),
		roleClaim: o.RoleClaim,
		defRole:   o.DefaultRole,
		roles:     slices.Clone(o.AllowedRoles),
		now:       o.Now,
	}
	if v.roleClaim == "" {
		v.roleClaim = "role"
	}
	if v.now == nil {
		v.now = time.Now
	}
	return v
}

// neverRole tells the names that make SET ROLE go back to the session's own, more powerful role.
func neverRole(role string) bool { return role == "" || strings.EqualFold(role, "none") }

// Verify returns what a token says, or why it is refused: first its form, then its signature, then its claims, so that
// nothing is told about the claims of a token that we did not sign. It may wait, no longer than KeySource.Renew does, for a
// key that is not there yet.
func (v *Verifier) Verify(token string) (Claims, *TokenError) { return v.verify(token, true) }

// Recheck is Verify for a token that was accepted before: its key may have been withdrawn. It does not wait.
func (v *Verifier) Recheck(token string) *TokenError {
	_, refused := v.verify(token, false)
	return refused
}

// KeysChange tells whether there is any use in Recheck.
func (v *Verifier) KeysChange() bool { return v.keys.source != nil }

func (v *Verifier) verify(token string, renew bool) (Claims, *TokenError) {
	d, refused := decodeToken(token)
	if refused != nil {
		return Claims{}, refused
	}
	if refused := v.checkSignature(d, renew); refused != nil {
		return Claims{}, refused
	}
	now := v.now()
	for _, check := range v.claimChecks() {
		if refused := check(d.claims, now); refused != nil {
			return Claims{}, refused
		}
	}
	return v.read(d), nil
}

// read collects claims that have passed every check.
func (v *Verifier) read(d *decodedToken) Claims {
	c := Claims{Raw: d.raw}
	c.Subject, _, _ = d.claims.text("sub")
	c.Role, _ = v.role(d.claims)
	if exp, found, ok := d.claims.number("exp"); found && ok {
		c.Expires = wholeSecond(exp)
	}
	return c
}

// decodedToken is a token taken apart, nothing about it believed yet.
type decodedToken struct {
	text   string // what the signature is checked over, percent-decoded and without white space
	header object
	claims object
	raw    json.RawMessage
}

func decodeToken(token string) (*decodedToken, *TokenError) {
	if len(token) > MaxTokenBytes {
		return nil, errMalformed("longer than %d bytes", MaxTokenBytes)
	}
	text, err := prepareToken(token)
	if err != nil {
		return nil, errMalformed("percent-encoding is broken")
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errMalformed("has %d parts instead of 3", len(parts))
	}
	d := &decodedToken{text: text}
	var refused *TokenError
	if _, d.header, refused = decodePart("header", parts[0]); refused != nil {
		return nil, refused
	}
	if d.raw, d.claims, refused = decodePart("claims", parts[1]); refused != nil {
		return nil, refused
	}
	if _, found := d.header["crit"]; found {
		return nil, errMalformed("header crit demands extensions that are not supported")
	}
	return d, nil
}

// prepareToken undoes what query strings and copying do to tokens.
func prepareToken(token string) (string, error) {
	decoded, err := url.PathUnescape(token)
	if err != nil {
		return "", fmt.Errorf("percent-decode token: %w", err)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, decoded), nil
}

// strictBase64 leaves no two spellings of one token.
var strictBase64 = base64.RawURLEncoding.Strict()

func decodePart(name, part string) (json.RawMessage, object, *TokenError) {
	raw, err := strictBase64.DecodeString(part)
	if err != nil {
		return nil, nil, errMalformed("%s: not base64url", name)
	}
	o, err := parseObject(raw)
	if err != nil {
		return nil, nil, errMalformed("%s: %v", name, err)
	}
	return raw, o, nil
}
