package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"rowcast/server/socket"
)

// FuzzPolicyHeaders: whatever headers a request has, policies read a JSON object of those with x-, and of no others.
func FuzzPolicyHeaders(f *testing.F) {
	f.Add("x-client-info", "supabase-js/2", "caf\xe9")
	f.Add("X-A", "\"\\\u2028<>&\x00", "")
	f.Add("Authorization", "Bearer x", "y")
	f.Add("x-\xff", "a", "b")
	f.Add("x-", "", "")
	f.Fuzz(func(t *testing.T, name, value, second string) {
		h := http.Header{"Accept": {"*/*"}}
		h.Add(name, value)
		h.Add(name, second)
		text := policyHeaders(h)
		var shown map[string]string
		if err := json.Unmarshal([]byte(text), &shown); err != nil || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%q: %v", text, err)
		}
		if !strings.HasPrefix(strings.ToLower(name), "x-") {
			if len(shown) != 0 {
				t.Fatalf("%q is shown: %s", name, text)
			}
			return
		}
		if len(shown) != 1 {
			t.Fatalf("%q is not shown alone: %s", name, text)
		}
		for shownName, shownValue := range shown {
			if want := strings.ToValidUTF8(value+", "+second, "\ufffd"); shownValue != want || shownName != strings.ToLower(shownName) {
				t.Fatalf("%q: %q is shown as %q: %q", name, want, shownName, shownValue)
			}
		}
	})
}

// FuzzSettings: a value that is accepted is shown in a form that is accepted, and means the same; one that is refused is not
// repeated, and changes nothing.
func FuzzSettings(f *testing.F) {
	for i, s := range settings {
		f.Add(byte(i), s.def)
	}
	for _, text := range []string{"", " ", "0", "-1", "+5", "1_000", "0x10", "1e3", "99999999999999999999", "true", "T", "72h", "1h1ns", "-5s", "1.5h", ":0", "[::1]:80", ":65536",
		"none", "None anon", "a,b", "https://a.example https://b.example", "*", "https://", "postgres://u:p@h/d", "host=h password='x y'", "debug", "DEBUG+4", "json", "\x00", "\xff"} {
		for i := range settings {
			f.Add(byte(i), text)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, text string) {
		s := settings[int(which)%len(settings)]
		c := defaultConfig()
		before := s.into(&c).show()
		if err := s.into(&c).set(text); err != nil {
			const mark = "SENTINEL"
			if err := s.into(&c).set(text + mark); err != nil && strings.Contains(err.Error(), mark) {
				t.Errorf("%s repeats what it refuses: %v", s.name, err)
			}
			c = defaultConfig()
			_ = s.into(&c).set(text)
			if after := s.into(&c).show(); after != before {
				t.Errorf("%s: %q is refused, and makes %q of %q", s.name, text, after, before)
			}
			return
		}
		shown, again := s.into(&c).show(), defaultConfig()
		if err := s.into(&again).set(shown); err != nil || s.into(&again).show() != shown {
			t.Errorf("%s: %q is shown as %q, which is read as %q: %v", s.name, text, shown, s.into(&again).show(), err)
		}
	})
}

// FuzzRedact: a password does not get through, wherever it stands, and in a URL not even one that is written without the
// escapes it needs.
func FuzzRedact(f *testing.F) {
	for _, password := range []string{"secret", "p@ss/w?rd#1", "'quoted'", `back\slash`, "with space", "%41", "\x00", "=", "a&password=b"} {
		f.Add(password, "user", "sslmode=disable")
	}
	f.Add("secret", "user", "user=")
	f.Fuzz(func(t *testing.T, password, user, more string) {
		const mark = "SENTINEL" // what must not be shown; whatever stands around it
		password = password[:len(password)/2] + mark + password[len(password)/2:]
		if strings.Contains(user+more, mark) {
			return
		}
		quotedPassword := "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(password) + "'"
		for _, text := range []string{
			(&url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: "h:5432", Path: "/d", RawQuery: url.Values{"a": {more}}.Encode()}).String(),
			"postgres://" + user + ":" + password + "@h:5432/d?" + more,
			"postgres://h/d?" + url.Values{"user": {user}, "password": {password}}.Encode() + "&" + more,
			"postgres://h/d?" + more + "&sslpassword=" + url.QueryEscape(password),
			"host=h user=u password=" + quotedPassword + " dbname=d",
			"password = " + quotedPassword,
			more + " PASSWORD=" + quotedPassword,
			"host=h sslpassword=" + quotedPassword + " " + more,
		} {
			if shown := redactDatabase(text); strings.Contains(shown, mark) {
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
	})
}

// FuzzPublicBytes: a connection on which anything at all is sent gets answers of HTTP, or none, and ends. That nothing is left
// behind the bubble sees to.
func FuzzPublicBytes(f *testing.F) {
	for _, request := range []string{
		upgradeRequest("/socket/websocket?apikey=x", ""), upgradeRequest("/realtime/v1/websocket", "X-Api-Key: x\r\nContent-Length: 1\r\n"),
		"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx",
		"POST /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\nffffffff\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "",
		upgradeRequest("/socket/websocket?vsn=2.0.0&apikey="+"good", "") + string(clientFrame(fin|opText, "hello")) + string(clientFrame(fin|opClose, "")),
		"OPTIONS /api/broadcast HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Headers: a, b\r\n\r\n",
		"GET /realtime/v1/api/ping HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\n\r\nGET /api/presence/a HTTP/1.1\r\nHost: x\r\nApikey: " + goodToken + "\r\n\r\n",
		"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nApikey: " + goodToken + "\r\nContent-Length: 59\r\n\r\n" + `{"messages":[{"topic":"t","event":"e","payload":{"a":[1]}}]}`,
		"POST /api/broadcast/t%2f1/events/e%20?private=false HTTP/1.1\r\nHost: x\r\nAuthorization: bearer " + goodToken + "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n",
		"POST /api/broadcast/t/events/e?private=true HTTP/1.1\r\nHost: x\r\nApikey: " + goodToken + "\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\n\xff",
	} {
		f.Add([]byte(request))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			sockets := socket.NewServer(socket.Options{MaxFrameBytes: 1 << 10, MaxQueueBytes: 1 << 10, Open: openGood})
			sockets.Start()
			defer sockets.Close()
			near := pipe(t, sockets)
			go func() { _, _ = near.Write(sent) }()
			_ = near.SetReadDeadline(time.Now().Add(5 * time.Minute))
			heard, err := io.ReadAll(near)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("%q: the connection goes on: %v", sent, err)
			}
			for r := bufio.NewReader(bytes.NewReader(heard)); ; {
				if _, err := r.Peek(1); err != nil {
					return
				}
				answer, err := http.ReadResponse(r, nil)
				if err != nil || !slices.Contains([]int{100, 101, 200, 202, 204, 301, 307, 400, 401, 403, 404, 405, 408, 411, 413, 415, 417, 422, 429, 431, 501, 503, 505}, answer.StatusCode) {
					t.Fatalf("%q is answered %q: %v", sent, heard, err)
				}
				if answer.StatusCode == http.StatusSwitchingProtocols {
					return // frames: see FuzzClientBytes
				}
				_, _ = io.Copy(io.Discard, answer.Body)
			}
		})
	})
}

// openGood is an opener that lets in whoever says good.
func openGood(r *http.Request) (socket.Opener, *socket.Refusal) {
	if r.URL.Query().Get("apikey") != "good" {
		return nil, &socket.Refusal{Status: http.StatusUnauthorized, Message: "no", Reason: "test"}
	}
	return func(*socket.Conn) socket.Handler { return deafHandler{} }, nil
}

type deafHandler struct{}

func (deafHandler) Frame(bool, []byte)   {}
func (deafHandler) InUse() bool          { return true }
func (deafHandler) Closed(socket.Reason) {}
