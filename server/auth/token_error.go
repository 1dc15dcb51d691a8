package auth

import (
	"fmt"
	"strconv"
	"time"

	"rowcast/server/protocol"
)

// The codes a refused token is answered with.
const (
	InvalidJWTToken   = protocol.InvalidJWTToken   // a claim is missing, out of date or not accepted
	MalformedJWT      = protocol.MalformedJWT      // not a JWT at all
	JwtSignatureError = protocol.JwtSignatureError // not signed with a key of ours
	JwtSignerError    = protocol.JwtSignerError    // no key of ours fits its algorithm, or is the one it names
	JwtKeysMissing    = protocol.JwtKeysMissing    // its key may be one that could not be fetched; this passes
	RoleNotAllowed    = protocol.RoleNotAllowed    // names a Postgres role that tokens may not use
)

// textExpired is what the handshake says of a token whose time is over, word by word as Supabase Realtime.
const textExpired = "Token has expired"

// TokenError says why a token is refused. Code and Text may be shown to the client. Detail is for the operator's log;
// it never holds a part of the token's signature or of a key.
type TokenError struct {
	Code   protocol.Code
	Text   string
	Detail string

	handshake string // differs from Text where the handshake has a sentence of its own
}

// Handshake is the sentence of the HTTP answer to a refused connection.
func (e *TokenError) Handshake() string {
	if e.handshake != "" {
		return e.handshake
	}
	return e.Text
}

// Join is the reason in the reply to a refused join.
func (e *TokenError) Join() string { return e.Code.Because(e.Text) }

// System is the message of the system event that comes before a channel is closed.
func (e *TokenError) System() string { return e.Text }

// Error holds everything known, for logs.
func (e *TokenError) Error() string {
	if e.Detail == "" {
		return e.Join()
	}
	return e.Join() + " (" + e.Detail + ")"
}

// Passes tells of a refusal that says nothing about the token, and is over some time.
func (e *TokenError) Passes() bool { return e.Code == JwtKeysMissing }

// Expired is the refusal of claims whose time is over, nil before.
func (c Claims) Expired(now time.Time) *TokenError {
	if c.Expires.After(now) {
		return nil
	}
	return errExpired(now.Sub(c.Expires))
}

func errExpired(ago time.Duration) *TokenError {
	return &TokenError{Code: InvalidJWTToken, Text: fmt.Sprintf(protocol.TextTokenExpired, int64(ago/time.Second)), handshake: textExpired}
}

func errMalformed(format string, args ...any) *TokenError {
	return &TokenError{Code: MalformedJWT, Text: MalformedJWT.Text(), Detail: fmt.Sprintf(format, args...)}
}

func errNoSigner(format string, args ...any) *TokenError {
	return &TokenError{Code: JwtSignerError, Text: JwtSignerError.Text(), Detail: fmt.Sprintf(format, args...)}
}

func errNoKey(kid string) *TokenError {
	return &TokenError{Code: JwtSignerError, Text: fmt.Sprintf(protocol.TextSignerKey, inside(quoteKid(kid)))}
}

func errKeysUnavailable(kid string) *TokenError {
	return &TokenError{Code: JwtKeysMissing, Text: JwtKeysMissing.Text(), Detail: "kid " + quoteKid(kid)}
}

func errBadSignature() *TokenError {
	return &TokenError{Code: JwtSignatureError, Text: JwtSignatureError.Text()}
}

func errMissingClaims(detail string) *TokenError {
	return &TokenError{Code: InvalidJWTToken, Text: protocol.TextTokenClaims, Detail: detail}
}

// notExpected ends the sentence about a claim that must equal a configured value.
const notExpected = "is not the one expected here"

// errClaim names the claim at fault, where Supabase Realtime would answer with an internal error.
func errClaim(name, problem string) *TokenError {
	return &TokenError{Code: InvalidJWTToken, Text: fmt.Sprintf(protocol.TextTokenClaim, name, problem)}
}

func errRole(role string) *TokenError {
	return &TokenError{Code: RoleNotAllowed, Text: RoleNotAllowed.Text(inside(quoteShort(role)))}
}

// inside takes the quotes off.
func inside(quoted string) string { return quoted[1 : len(quoted)-1] }

// quoteShort quotes a value that a stranger chose, bounded to what a Postgres name can hold.
func quoteShort(s string) string { return quoteUpTo(63, s) }

// quoteKid leaves room for the thumbprints that keys are named by.
func quoteKid(s string) string { return quoteUpTo(128, s) }

func quoteUpTo(longest int, s string) string {
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strconv.Quote(s)
}
