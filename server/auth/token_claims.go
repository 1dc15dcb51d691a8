package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"rowcast/server/protocol"
)

// object is a JSON object whose values are still text, so that numbers keep their digits.
type object map[string]json.RawMessage

// parseObject accepts one JSON object in valid UTF-8 in which no object, at any depth, names a member twice. Of two
// members with one name Go, json and jsonb do not read the same one, so a decision and a policy could disagree on who
// is asking.
func parseObject(text []byte) (object, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil || o == nil {
		return nil, errors.New("not a JSON object")
	}
	if err := refuseDuplicates(text); err != nil {
		return nil, err
	}
	return o, nil
}

func refuseDuplicates(text []byte) error {
	type level struct {
		names   map[string]bool // nil in an array
		isValue bool            // in an object: the next token is a value, not a name
	}
	var open []level
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("not JSON")
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open) - 1; n >= 0 && open[n].names != nil {
			in := &open[n]
			if !in.isValue {
				name := token.(string)
				if in.names[name] {
					return fmt.Errorf("names %s twice", quoteShort(name))
				}
				in.names[name], in.isValue = true, true
				continue
			}
			in.isValue = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		}
	}
}

// value returns a member; null counts as absent, as it does for ->> in SQL.
func (o object) value(name string) (json.RawMessage, bool) {
	v, found := o[name]
	if !found || string(v) == "null" {
		return nil, false
	}
	return v, true
}

// text returns a member that should be a string; ok is false where it is something else.
func (o object) text(name string) (s string, found, ok bool) {
	v, found := o.value(name)
	if !found {
		return "", false, true
	}
	return s, true, v[0] == '"' && json.Unmarshal(v, &s) == nil
}

// number returns a member that should be a number; ok is false where it is something else or beyond a float64.
func (o object) number(name string) (n float64, found, ok bool) {
	v, found := o.value(name)
	if !found {
		return 0, false, true
	}
	if c := v[0]; c != '-' && (c < '0' || c > '9') {
		return 0, true, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return n, true, err == nil
}

// find follows a name that may be a path. A member that has the whole name comes first, then the longest part of it up
// to a dot, because names like https://example.com/role hold dots of their own.
func (o object) find(path string) (json.RawMessage, bool) {
	if v, found := o.value(path); found {
		return v, true
	}
	for dot := strings.LastIndexByte(path, '.'); dot > 0; dot = strings.LastIndexByte(path[:dot], '.') {
		v, found := o.value(path[:dot])
		if !found {
			continue
		}
		var inner object
		if json.Unmarshal(v, &inner) != nil {
			continue
		}
		if v, found := inner.find(path[dot+1:]); found {
			return v, true
		}
	}
	return nil, false
}

type claimCheck func(claims object, now time.Time) *TokenError

// claimChecks lists what claims must pass, in the order in which a refusal is told.
func (v *Verifier) claimChecks() []claimCheck {
	return []claimCheck{checkExpiry, checkTimes, v.checkRequired, checkSubject, v.checkIssuer, v.checkAudience, v.checkRole}
}

// checkExpiry wants exp, where present, to be a number that is in the future before and after rounding to seconds.
func checkExpiry(claims object, now time.Time) *TokenError {
	exp, found, ok := claims.number("exp")
	switch {
	case !found:
		return nil // checkRequired has the sentence for it
	case !ok:
		return errClaim("exp", "must be a number of seconds")
	}
	if at := exactTime(exp); !at.After(now) {
		return errExpired(now.Sub(at))
	}
	if !wholeSecond(exp).After(now) {
		return &TokenError{Code: InvalidJWTToken, Text: protocol.TextTokenExpiry}
	}
	return nil
}

func checkTimes(claims object, now time.Time) *TokenError {
	if _, _, ok := claims.number("iat"); !ok {
		return errClaim("iat", "must be a number of seconds")
	}
	nbf, found, ok := claims.number("nbf")
	if !ok {
		return errClaim("nbf", "must be a number of seconds")
	}
	if found && wholeSecond(nbf).After(now.Add(notBeforeLeeway)) {
		return errClaim("nbf", "is still in the future")
	}
	return nil
}

// wholeSecond rounds to the second.
func wholeSecond(seconds float64) time.Time { return exactTime(math.Round(seconds)) }

// exactTime stays within the years 1970 to 9999, which every clock, timer and format can hold.
func exactTime(seconds float64) time.Time {
	const lastSecond = 253402300799 // 9999-12-31T23:59:59Z
	whole, fraction := math.Modf(min(max(seconds, 0), lastSecond))
	return time.Unix(int64(whole), int64(fraction*1e9))
}

func (v *Verifier) checkRequired(claims object, _ time.Time) *TokenError {
	if _, found := claims.value("exp"); !found {
		return errMissingClaims("claim exp is missing")
	}
	if _, found := claims.find(v.roleClaim); !found && v.defRole == "" {
		return errMissingClaims("claim " + quoteShort(v.roleClaim) + " is missing")
	}
	return nil
}

// checkSubject keeps out what Go and SQL would write differently, or SQL not at all: a changed right is announced with
// the subject as text, and must find every session of that person.
func checkSubject(claims object, _ time.Time) *TokenError {
	sub, _, ok := claims.text("sub")
	if !ok {
		return errClaim("sub", "must be a string")
	}
	if !plainText(sub) {
		return errClaim("sub", "holds a character that Postgres cannot store")
	}
	return nil
}

// plainText is false for NUL, and for the mark that Go puts in place of half a surrogate pair.
func plainText(s string) bool { return !strings.ContainsAny(s, "\x00\uFFFD") }

func (v *Verifier) checkIssuer(claims object, _ time.Time) *TokenError {
	if len(v.issuers) == 0 {
		return nil
	}
	if iss, found, ok := claims.text("iss"); !found || !ok || !slices.Contains(v.issuers, iss) {
		return errClaim("iss", notExpected)
	}
	return nil
}

func (v *Verifier) checkAudience(claims object, _ time.Time) *TokenError {
	if len(v.audiences) == 0 {
		return nil
	}
	accepted := func(aud string) bool { return slices.Contains(v.audiences, aud) }
	if aud, found, ok := claims.text("aud"); found && ok && accepted(aud) {
		return nil
	}
	var several []string
	if raw, found := claims.value("aud"); found && json.Unmarshal(raw, &several) == nil && slices.ContainsFunc(several, accepted) {
		return nil
	}
	return errClaim("aud", notExpected)
}

func (v *Verifier) checkRole(claims object, _ time.Time) *TokenError {
	_, refused := v.role(claims)
	return refused
}

// role returns the role a token asks for. Only an absent claim means the default role, a wrong one must not; and a list,
// as of groups, none of which is an allowed role: it speaks of something else.
func (v *Verifier) role(claims object) (string, *TokenError) {
	raw, found := claims.find(v.roleClaim)
	if !found {
		return v.allowed(v.defRole)
	}
	var role string
	var several []string
	switch {
	case raw[0] == '"' && json.Unmarshal(raw, &role) == nil:
		return v.allowed(role)
	case raw[0] != '[' || json.Unmarshal(raw, &several) != nil:
		return "", errClaim(v.roleClaim, "must be a string, or a list of strings")
	}
	slices.Sort(several)
	several = slices.Compact(several)
	among := slices.DeleteFunc(slices.Clone(several), func(r string) bool { return neverRole(r) || !slices.Contains(v.roles, r) })
	switch {
	case len(among) == 1:
		return among[0], nil
	case len(among) > 1:
		return "", errClaim(v.roleClaim, "names several roles that are allowed here, it must name one")
	case v.defRole != "":
		return v.allowed(v.defRole)
	case len(several) == 0:
		return "", errMissingClaims("claim " + quoteShort(v.roleClaim) + " is an empty list")
	}
	return "", errRole(several[0])
}

func (v *Verifier) allowed(role string) (string, *TokenError) {
	if neverRole(role) || !slices.Contains(v.roles, role) {
		return role, errRole(role)
	}
	return role, nil
}
