package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
	"rowcast/server/protocol"
)

// hearers are members of one room, one of each wire version, who keep what they are told as it comes.
type hearers struct{ v1, v2 *raw }

// listenAs has somebody join in both versions.
func (r *running) listenAs(user, topic string, isPrivate bool) hearers {
	r.t.Helper()
	tok := token(r.t, user, "authenticated", nil)
	h := hearers{r.connect(), r.upgrade(tok)}
	h.v1.write([]byte(upgradeRequest("/socket/websocket?vsn=1.0.0&apikey="+tok, "")))
	if got := h.v1.response(); got.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatal(got.Status)
	}
	h.v1.message(fmt.Sprintf(`{"topic":"realtime:%s","event":"phx_join","payload":{"config":{"private":%t}},"ref":"1"}`, topic, isPrivate))
	h.v2.message(fmt.Sprintf(`["1","1","realtime:%s","phx_join",{"config":{"private":%t}}]`, topic, isPrivate))
	for _, c := range []*raw{h.v1, h.v2} {
		if _, reply, err := c.next(); err != nil || !strings.Contains(string(reply), `"status":"ok"`) {
			r.t.Fatalf("join %s: %s %v", topic, reply, err)
		}
	}
	return h
}

// hear compares the next frame with what is wanted of it: text as it is, binary as in Go.
func (c *raw) hear(what, want string) {
	c.t.Helper()
	op, payload, err := c.next()
	got := string(payload)
	if op == opBinary {
		got = fmt.Sprintf("%q", payload)
	}
	if err != nil || got != want {
		c.t.Errorf("%s: heard %s (%v), want %s", what, got, err, want)
	}
}

// What is sent over REST reaches members of both wire versions, in the form that each understands.
func TestRESTReachesMembers(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	r.exec(allowMembers + `insert into members values ('u1', 'room:1/x')`)
	tok := token(t, "u1", "authenticated", nil)
	for _, isPrivate := range []bool{false, true} {
		h, other := r.listenAs("u1", "room:1/x", isPrivate), r.listenAs("u1", "room:1/x", isPrivate)
		send := func(method, path, body string, more ...string) {
			t.Helper()
			if isPrivate && path != batchPath {
				path += "?private=true&apikey=x&vsn=1.0.0"
			}
			got := r.rest(method, path, tok, body, more...)
			if got.status != http.StatusAccepted || got.body != "" || got.header.Get("X-Request-Id") == "" {
				t.Fatalf("%s: %d %q %v", path, got.status, got.body, got.header)
			}
		}
		single := func(event string) string { return "/realtime/v1/api/broadcast/room%3A1%2Fx/events/" + event }
		send("POST", batchPath, fmt.Sprintf(`{"messages":[
			{"topic":"room:1/x","event":"plain","payload":{"n": 1},"private":%t},
			{"topic":"room:1/x","event":"named","payload":[1, null],"private":%[1]t,"id":"m1"}]}`, isPrivate))
		send("POST", single("e%20%C3%A4"), ` {"n": 1.0, "private": false} `, "Content-Type: application/json; charset=utf-8")
		send("POST", single("list"), `[1,"x"]`)
		send("POST", single("none"), ``)
		send("POST", single("bytes"), "\x00\xff{", "Content-Type: application/octet-stream")
		send("POST", single("empty"), "", "Content-Type: application/octet-stream")
		send("POST", single("last"), `"end"`)
		for _, h := range []hearers{h, other} {
			text := func(event, payload, meta string) (string, string) {
				p := fmt.Sprintf(`{"event":"%s","payload":%s,"type":"broadcast"%s}`, event, payload, meta)
				return `{"event":"broadcast","payload":` + p + `,"ref":null,"topic":"realtime:room:1/x"}`, `[null,null,"realtime:room:1/x","broadcast",` + p + `]`
			}
			v1, v2 := text("plain", `{"n": 1}`, "")
			h.v1.hear("batch", v1)
			h.v2.hear("batch", v2)
			v1, v2 = text("named", `[1, null]`, `,"meta":{"id":"m1"}`)
			h.v1.hear("batch with an id", v1)
			h.v2.hear("batch with an id", v2)
			for _, s := range []struct{ event, payload string }{{"e ä", `{"n": 1.0, "private": false}`}, {"list", `[1,"x"]`}, {"none", `{}`}, {"last", `"end"`}} {
				v1, _ = text(s.event, s.payload, "")
				if s.event == "last" {
					h.v1.hear("no bytes", `{"event":"system","payload":{"extension":"broadcast","status":"error","message":"`+
						protocol.BinaryNotSupported.Reason()+`","channel":"room:1/x"},"ref":null,"topic":"realtime:room:1/x"}`)
					h.v2.hear("bytes", fmt.Sprintf("%q", "\x04\x11\x05\x00\x00realtime:room:1/xbytes\x00\xff{"))
					h.v2.hear("no bytes", fmt.Sprintf("%q", "\x04\x11\x05\x00\x00realtime:room:1/xempty"))
				}
				h.v1.hear(s.event, v1)
				h.v2.hear(s.event, fmt.Sprintf("%q", "\x04\x11"+string(rune(len(s.event)))+"\x00\x01realtime:room:1/x"+s.event+s.payload))
			}
		}
	}
	if n := metricstest.Value(t, r.metrics, "realtime_broadcasts_total", "rest"); n != 16 {
		t.Errorf("%v broadcasts were counted", n)
	}
}

// Who calls is in the header Authorization, or else in apikey, and nowhere else.
func TestRESTAuthentication(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	good, bad := token(t, "u1", "authenticated", nil), signed(`{"alg":"HS256"}`, `{"role":"authenticated","exp":1}`)
	foreign := signed(`{"alg":"HS256"}`, `{"role":"postgres","exp":4000000000}`)
	for _, tt := range []struct {
		name   string
		header []string
		query  string
		status int
		code   string
	}{
		{"nothing", nil, "", 401, "MissingAPIKey"},
		{"bearer", []string{"Authorization: Bearer " + good}, "", 202, ""},
		{"bearer in capitals", []string{"Authorization: BEARER " + good}, "", 202, ""},
		{"bearer in small letters", []string{"Authorization: bearer   " + good}, "", 202, ""},
		{"apikey", []string{"apikey: " + good}, "", 202, ""},
		{"bearer before apikey", []string{"Authorization: Bearer " + good, "apikey: " + bad}, "", 202, ""},
		{"a bad bearer is not made good", []string{"Authorization: Bearer " + bad, "apikey: " + good}, "", 401, "InvalidJWTToken"},
		{"an empty header, as of a client without a session", []string{"Authorization: ", "apikey: " + good}, "", 202, ""},
		{"the query does not count", nil, "?apikey=" + good, 401, "MissingAPIKey"},
		{"x-api-key does not count", []string{"x-api-key: " + good}, "", 401, "MissingAPIKey"},
		{"another scheme", []string{"Authorization: Basic " + good, "apikey: " + good}, "", 401, "MalformedJWT"},
		{"one word", []string{"Authorization: " + good}, "", 401, "MalformedJWT"},
		{"a scheme alone", []string{"Authorization: Bearer"}, "", 401, "MissingAPIKey"},
		{"two headers", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, "", 401, "MalformedJWT"},
		{"no JWT", []string{"Authorization: Bearer a b c"}, "", 401, "MalformedJWT"},
		{"another signature", []string{"Authorization: Bearer " + good + "x"}, "", 401, "JwtSignatureError"},
		{"a role that may not", []string{"apikey: " + foreign}, "", 401, "RoleNotAllowed"},
	} {
		for path, body := range map[string]string{openPath: "{}", batchPath: batchOf(false, "open")} {
			got := r.rest("POST", path+tt.query, "", body, tt.header...)
			want := ""
			if tt.status == 401 {
				want = `{"message":"Unauthorized"}`
			}
			if got.status != tt.status || got.body != want || got.header.Get("X-Error-Code") != tt.code {
				t.Errorf("%s: %s: %d %s %s, want %d %s", tt.name, path, got.status, got.header.Get("X-Error-Code"), got.body, tt.status, tt.code)
			}
		}
	}
	for _, prefix := range []string{"", "/realtime/v1"} {
		if got := r.rest("GET", prefix+"/api/ping", "", ""); got.status != 200 || got.body != `{"message":"Success"}` {
			t.Errorf("ping: %d %s", got.status, got.body)
		}
	}
}

// A request that is not as it should be is answered with what is wrong, and nothing of it is sent.
func TestRESTRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), func(c *Config) { c.MaxPayloadBytes, c.MaxRESTBodyBytes = 100, 1000 })
	h, tok := r.listenAs("u1", "t", false), token(t, "u1", "authenticated", nil)
	const single, good = "/api/broadcast/t/events/e", `{"topic":"t","event":"e","payload":{}}`
	long := strings.Repeat("x", 300)
	json, bytes := "Content-Type: application/json", "Content-Type: application/octet-stream"
	for _, tt := range []struct {
		name, path, kind, body string
		status                 int
		want                   string
	}{
		{"blank fields", batchPath, json, `{"messages":[{"topic":"t"},` + good + `]}`, 422,
			`{"errors":{"messages":[{"event":["can't be blank"],"payload":["can't be blank"]},{}]}}`},
		{"no messages", batchPath, json, `{}`, 422, `{"errors":{"messages":["can't be blank"]}}`},
		{"empty batch", batchPath, json, `{"messages":[]}`, 422, `{"errors":{"messages":["can't be blank"]}}`},
		{"no list", batchPath, json, `{"messages":{}}`, 422, `{"errors":{"messages":["is invalid"]}}`},
		{"a large payload", batchPath, json, `{"messages":[` + good + `,{"topic":"t","event":"e","payload":"` + long[:99] + `"}]}`, 422,
			`{"errors":{"messages":[{},{"payload":["Payload size exceeds tenant limit"]}]}}`},
		{"a long event", batchPath, json, `{"messages":[{"topic":"t","event":"` + long + `","payload":1}]}`, 422,
			`{"errors":{"messages":[{"event":["An event may be at most 255 bytes long"]}]}}`},
		{"no JSON", batchPath, json, `{"messages":[` + good, 400, `{"message":"The body is not JSON"}`},
		{"no body", batchPath, json, ``, 400, `{"message":"The body is not JSON"}`},
		{"not UTF-8", batchPath, json, "{\"messages\":\"\xff\"}", 400, `{"message":"The body is not UTF-8"}`},
		{"a large body", batchPath, json, strings.Repeat(" ", 1001), 413, `{"message":"The body may be at most 1000 bytes long"}`},

		{"no JSON at all", single, json, `{"n":`, 400, `{"message":"The body is not JSON"}`},
		{"JSON and more", single, json, `{} {}`, 400, `{"message":"The body is not JSON"}`},
		{"text of another charset", single, json, "\"\xff\"", 400, `{"message":"The body is not UTF-8"}`},
		{"a large payload alone", single, json, `"` + long[:99] + `"`, 422, `{"errors":{"payload":["Payload size exceeds tenant limit"]}}`},
		{"many bytes", single, bytes, long[:101], 422, `{"errors":{"payload":["Payload size exceeds tenant limit"]}}`},
		{"a very large body", single, bytes, strings.Repeat("x", 1001), 413, `{"message":"The body may be at most 1000 bytes long"}`},
		{"plain text", single, "Content-Type: text/plain", `{}`, 415, `{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}`},
		{"a type that is none", single, "Content-Type: /", `{}`, 415, `{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}`},
		{"a blank topic", "/api/broadcast/%20/events/e", json, `{}`, 422, `{"errors":{"topic":["can't be blank"]}}`},
		{"a blank event", "/api/broadcast/t/events/%20", json, `{}`, 422, `{"errors":{"event":["can't be blank"]}}`},
		{"a topic that is no text", "/api/broadcast/%ff/events/e", json, `{}`, 422, `{"errors":{"topic":["is invalid"]}}`},
		{"a long topic", "/api/broadcast/" + long[:247] + "/events/e", json, `{}`, 422, `{"errors":{"topic":["A topic may be at most 246 bytes long"]}}`},
		{"private in another word", single + "?private=1", json, `{}`, 422, `{"errors":{"private":["is invalid"]}}`},
		{"private and not", single + "?private=true&private=false", json, `{}`, 422, `{"errors":{"private":["is invalid"]}}`},
		{"to be kept", single + "?private=true&persist=true", json, `{}`, 422, `{"message":"This server does not support persist"}`},
		{"more segments", single + "/more", json, `{}`, 404, "404 page not found\n"},
	} {
		got := r.rest("POST", tt.path, tok, tt.body, tt.kind)
		if got.status != tt.status || got.body != tt.want {
			t.Errorf("%s: %d %s, want %d %s", tt.name, got.status, got.body, tt.status, tt.want)
		}
	}
	for _, path := range []string{batchPath, single, "/api/ping"} {
		if got := r.rest("DELETE", path, tok, ""); got.status != 405 || got.header.Get("Allow") == "" {
			t.Errorf("DELETE %s: %d %v", path, got.status, got.header)
		}
	}
	deep := r.rest("POST", single, tok, strings.Repeat("[", 50)+strings.Repeat("]", 50), "Transfer-Encoding: chunked")
	if deep.status != http.StatusAccepted {
		t.Errorf("what is not too deep: %d %s", deep.status, deep.body)
	}
	h.v1.hear("nothing before", `{"event":"broadcast","payload":{"event":"e","payload":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+`,"type":"broadcast"},"ref":null,"topic":"realtime:t"}`)
}

// The request's own id comes back, unless it could not be logged.
func TestRESTRequestIDs(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	for given, kept := range map[string]bool{"3f0c6f0e-9d3b": true, "": false, "two words": false, strings.Repeat("x", 201): false, "caf\xc3\xa9": false} {
		got := r.rest("GET", "/api/ping", "", "", "X-Request-Id: "+given).header.Get("X-Request-Id")
		if got == "" || (got == given) != kept {
			t.Errorf("%q came back as %q", given, got)
		}
	}
}

// ALLOWED_ORIGINS holds for pages that call as for pages that connect; a preflight says what they may send.
func TestRESTFromWebPages(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tok := token(t, "u1", "authenticated", nil)
	any, some := start(t, db, nil), (*running)(nil)
	check := func(r *running, method, origin string, status int, want map[string]string) {
		t.Helper()
		for _, path := range []string{openPath, batchPath, "/api/broadcast", "/realtime/v1/api/broadcast/a/events/b"} {
			header := []string{"Origin: " + origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-mine"}
			if origin == "" {
				header = nil
			}
			body := "{}"
			if strings.HasSuffix(path, "/broadcast") {
				body = batchOf(false, "open")
			}
			got := r.rest(method, path, tok, body, header...)
			found := map[string]string{}
			for name := range got.header {
				if strings.HasPrefix(name, "Access-Control-Allow") || name == "Vary" {
					found[name] = strings.Join(got.header.Values(name), ", ")
				}
			}
			if got.status != status {
				t.Errorf("%s %s from %q: %d %s", method, path, origin, got.status, got.body)
			}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("%s %s from %q (-want +got):\n%s", method, path, origin, diff)
			}
		}
	}
	headers := "authorization, x-client-info, apikey, content-type, x-api-version, authorization,x-mine"
	check(any, "OPTIONS", "https://evil.example.com", 204, map[string]string{
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST, OPTIONS", "Access-Control-Allow-Headers": headers,
		"Vary": "Access-Control-Request-Headers"})
	check(any, "POST", "https://evil.example.com", 202, map[string]string{"Access-Control-Allow-Origin": "*"})
	check(any, "POST", "", 202, map[string]string{})
	any.stop()
	some = start(t, db, func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	check(some, "OPTIONS", "https://app.example.com", 204, map[string]string{
		"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Methods": "POST, OPTIONS",
		"Access-Control-Allow-Headers": headers, "Vary": "Origin, Access-Control-Request-Headers"})
	check(some, "POST", "https://app.example.com", 202, map[string]string{"Access-Control-Allow-Origin": "https://app.example.com", "Vary": "Origin"})
	check(some, "POST", "", 202, map[string]string{"Vary": "Origin"})
	for _, method := range []string{"OPTIONS", "POST"} {
		check(some, method, "https://evil.example.com", 403, map[string]string{"Vary": "Origin"})
	}
}
