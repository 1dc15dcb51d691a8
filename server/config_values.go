package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"rowcast/server/auth"
)

// masked stands for a secret that is set.
const masked = "***"

// value is one field of a Config that can be written as text. The errors of set say what is wanted instead; they never
// repeat the text, which may be a secret.
type value interface {
	set(text string) error
	show() string // "" when nothing is set
	kind() string // for help
}

type textValue struct{ to *string }

func (v textValue) set(text string) error { *v.to = text; return nil }
func (v textValue) show() string          { return *v.to }
func (v textValue) kind() string          { return "text" }

// keySetValue is a JSON Web Key Set, which may hold secrets.
type keySetValue struct{ to *string }

func (v keySetValue) show() string { return *v.to }
func (v keySetValue) kind() string { return "JSON" }
func (v keySetValue) set(text string) error {
	if text != "" {
		if _, err := auth.ParseKeySet([]byte(text), false); err != nil {
			return err
		}
	}
	*v.to = text
	return nil
}

type boolValue struct{ to *bool }

func (v boolValue) show() string { return strconv.FormatBool(*v.to) }
func (v boolValue) kind() string { return "true|false" }
func (v boolValue) set(text string) error {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("want true or false")
	}
	*v.to = b
	return nil
}

type numberValue struct{ to *int }

func (v numberValue) show() string { return strconv.Itoa(*v.to) }
func (v numberValue) kind() string { return "number" }
func (v numberValue) set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("want a whole number, 0 or more")
	}
	*v.to = n
	return nil
}

type durationValue struct{ to *time.Duration }

func (v durationValue) show() string { return v.to.String() }
func (v durationValue) kind() string { return "duration" }
func (v durationValue) set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("want a duration such as 90s, 15m or 72h")
	}
	*v.to = d
	return nil
}

type levelValue struct{ to *slog.Level }

func (v levelValue) show() string { return strings.ToLower(v.to.String()) }
func (v levelValue) kind() string { return "debug|info|warn|error" }
func (v levelValue) set(text string) error {
	if !slices.Contains(strings.Split(v.kind(), "|"), strings.ToLower(text)) {
		return errors.New("want debug, info, warn or error")
	}
	return v.to.UnmarshalText([]byte(text))
}

type choiceValue struct {
	to    *string
	among []string
}

func (v choiceValue) show() string { return *v.to }
func (v choiceValue) kind() string { return strings.Join(v.among, "|") }
func (v choiceValue) set(text string) error {
	if !slices.Contains(v.among, text) {
		return fmt.Errorf("want one of %s", strings.Join(v.among, ", "))
	}
	*v.to = text
	return nil
}

// listValue is several words separated by white space.
type listValue struct {
	to    *[]string
	check func(word string) error // may be nil
}

func (v listValue) show() string { return strings.Join(*v.to, " ") }
func (v listValue) kind() string { return "list" }
func (v listValue) set(text string) error {
	words := strings.Fields(text)
	for _, word := range words {
		if strings.HasSuffix(word, ",") {
			return errors.New("want words separated by spaces, not commas")
		}
		if v.check == nil {
			continue
		}
		if err := v.check(word); err != nil {
			return err
		}
	}
	*v.to = words
	return nil
}

// tokenRole keeps out the word that makes SET ROLE return to the server's own role.
func tokenRole(word string) error {
	switch {
	case strings.EqualFold(word, "none"):
		return errors.New("none is not a role: to Postgres it means the server's own")
	case strings.Contains(word, ","):
		return errors.New("want roles separated by spaces, not commas")
	}
	return nil
}

func origin(word string) error {
	if word == "*" {
		return nil
	}
	scheme, host, found := strings.Cut(word, "://")
	if !found || scheme == "" || host == "" || strings.ContainsAny(host, "/?#@,") {
		return errors.New("want * or origins such as https://example.com, without a path, separated by spaces")
	}
	return nil
}

type addressValue struct{ to *string }

func (v addressValue) show() string { return *v.to }
func (v addressValue) kind() string { return "host:port" }
func (v addressValue) set(text string) error {
	_, port, err := net.SplitHostPort(text)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
		return errors.New("want host:port or :port, such as 127.0.0.1:4000")
	}
	*v.to = text
	return nil
}

// databaseValue is a connection string in either of the forms that Postgres tools take. It is checked no further here:
// only connecting tells whether it is right.
type databaseValue struct{ to *string }

func (v databaseValue) show() string { return *v.to }
func (v databaseValue) kind() string { return "URL" }
func (v databaseValue) set(text string) error {
	if text != "" && !isDatabaseURL(text) && redactKeywords(text) == masked {
		return errors.New("want postgres://user:password@host:5432/database, with special characters of the password percent-encoded")
	}
	*v.to = text
	return nil
}

// redactDatabase shows a connection string without its passwords, and nothing at all of one that it cannot read with
// certainty.
func redactDatabase(text string) string {
	if isDatabaseURL(text) {
		return redactURL(text)
	}
	return redactKeywords(text)
}

func isDatabaseURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return masked
	}
	if strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		return masked // a password with a bare / ? or # in it ends up here, and would be shown
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return masked
	}
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, masked)
		}
	}
	user := ""
	if u.User != nil {
		user = url.PathEscape(u.User.Username())
		if _, has := u.User.Password(); has {
			user += ":" + masked
		}
		user += "@"
	}
	redacted := u.Scheme + "://" + user + u.Host + u.EscapedPath()
	if len(query) > 0 {
		redacted += "?" + strings.ReplaceAll(query.Encode(), url.QueryEscape(masked), masked)
	}
	return redacted
}

// redactKeywords reads the form host=… user=… password='…'.
func redactKeywords(text string) string {
	var words []string
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(rest) {
		name, after, found := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || strings.ContainsAny(name, " \t\r\n'") {
			return masked
		}
		content, remaining, ok := cutKeywordValue(strings.TrimSpace(after))
		if !ok {
			return masked
		}
		switch hidden := "password"; {
		case strings.Contains(strings.ToLower(name), hidden):
			content = masked
		case strings.Contains(strings.ToLower(content), hidden):
			return masked // user= password=…: without a value of its own, user takes what follows
		}
		words = append(words, name+"="+content)
		rest = remaining
	}
	if len(words) == 0 {
		return masked
	}
	return strings.Join(words, " ")
}

// cutKeywordValue takes one value, quotes included, off the front.
func cutKeywordValue(text string) (content, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case quoted && c == '\'' && i > 0:
			return text[:i+1], text[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return text[:i], text[i:], true
		}
	}
	return text, "", !quoted
}
