package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/api"
	"rowcast/server/auth"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/socket"
)

// Requests that try to be something else than they seem. Each gets one answer, and a socket only where it is a handshake.
func TestHostileHandshakes(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} })
	tok := token(t, "evil", "authenticated", nil)
	target := socketPath + tok
	replaced := func(old, new string) string { return strings.Replace(upgradeRequest(target, ""), old, new, 1) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-H%d: %d\r\n", i, i)
		}
		return b.String()
	}
	huge := strings.Repeat("x", 20<<10) // longer than a token may be, shorter than headers may
	tests := []struct {
		name, request string
		status        int
		body          string
	}{
		{"compression is offered", upgradeRequest(target, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"15\", x-webkit-deflate-frame\r\n"), 101, ""},
		{"sub-protocols are offered", upgradeRequest(target, "Sec-WebSocket-Protocol: graphql-ws, mqtt\r\n"), 101, ""},
		{"Content-Length and Transfer-Encoding", upgradeRequest(target, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400, ""},
		{"a chunked body", upgradeRequest(target, "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n", 400, "no body"},
		{"a body", upgradeRequest(target, "Content-Length: 3\r\n") + "abc", 400, "no body"},
		{"two lengths", upgradeRequest(target, "Content-Length: 0\r\nContent-Length: 3\r\n"), 400, ""},
		{"an unknown Transfer-Encoding", upgradeRequest(target, "Transfer-Encoding: x\r\n"), 501, ""},
		{"HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), 400, "HTTP/1.1"},
		{"HTTP/0.9", "GET /socket/websocket\r\n\r\n", 400, ""},
		{"HTTP/3.0", replaced("HTTP/1.1", "HTTP/3.0"), 505, ""},
		{"HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""},
		{"HTTP/2 by upgrade", replaced("Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"), 400, "Upgrade: websocket"},
		{"an absolute address", upgradeRequest("http://evil.example.com"+target, ""), 101, ""},
		{"two slashes", upgradeRequest("//socket/websocket", ""), 307, ""},
		{"dots", upgradeRequest("/socket/../socket/websocket", ""), 307, ""},
		{"dots beyond the root", upgradeRequest("/../../socket/websocket", ""), 307, ""},
		{"an encoded slash", upgradeRequest("/socket%2Fwebsocket", ""), 404, ""},
		{"an encoded dot", upgradeRequest("/socket/%2e%2e/socket/websocket", ""), 404, ""},
		{"something behind the path", upgradeRequest("/socket/websocket/x", ""), 404, ""},
		{"NUL behind the path", upgradeRequest("/socket/websocket%00", ""), 404, ""},
		{"capitals", upgradeRequest("/SOCKET/websocket", ""), 404, ""},
		{"no Host", replaced("Host: localhost\r\n", ""), 400, ""},
		{"two Hosts", upgradeRequest(target, "Host: evil.example.com\r\n"), 400, ""},
		{"a foreign Host", replaced("localhost", "evil.example.com"), 101, ""},
		{"a Host that is none", replaced("localhost", "a b/<script>"), 400, ""},
		{"two keys", upgradeRequest(target, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 400, "once"},
		{"an Origin of several", upgradeRequest(target, "Origin: https://app.example.com https://evil.example.com\r\n"), 403, "Origin"},
		{"an Origin that begins right", upgradeRequest(target, "Origin: https://app.example.com.evil.example.com\r\n"), 403, "Origin"},
		{"an Origin with a user", upgradeRequest(target, "Origin: https://app.example.com@evil.example.com\r\n"), 403, "Origin"},
		{"the Origin null", upgradeRequest(target, "Origin: null\r\n"), 403, "Origin"},
		{"apikey twice, the first counts", upgradeRequest(target+"&apikey=x", ""), 101, ""},
		{"apikey twice, the first is bad", upgradeRequest("/socket/websocket?apikey=x&apikey="+tok, ""), 401, "JWT"},
		{"vsn twice, the first counts", upgradeRequest(target+"&vsn=9.9.9", ""), 101, ""},
		{"vsn without end", upgradeRequest("/socket/websocket?apikey="+tok+"&vsn=1.0."+huge, ""), 403, "version"},
		{"x-api-key twice, the first counts", upgradeRequest(target, "X-Api-Key: "+tok+"\r\nX-Api-Key: x\r\n"), 101, ""},
		{"a token too long in the query", upgradeRequest("/socket/websocket?apikey="+huge, ""), 401, "JWT"},
		{"a token too long in the header", upgradeRequest("/socket/websocket", "X-Api-Key: "+huge+"\r\n"), 401, "JWT"},
		{"NUL in the query", upgradeRequest(target+"%00", ""), 401, ""},
		{"broken escapes in the query", upgradeRequest("/socket/websocket?apikey=%zz", ""), 401, "missing"},
		{"64 KB of query", upgradeRequest(target+"&x="+strings.Repeat("x", 70<<10), ""), 431, ""},
		{"10 MB of header", upgradeRequest(target, "X-Huge: "+strings.Repeat("x", 10<<20)+"\r\n"), 431, ""},
		{"1,000 x-headers", upgradeRequest(target, many(1000)), 101, ""},
		{"4,000 x-headers", upgradeRequest(target, many(4000)), 431, "x-..."},
		{"an x-header that grows in JSON", upgradeRequest(target, "X-Grows: "+strings.Repeat(`"`, 20<<10)+"\r\n"), 431, "x-..."},
		{"NUL in an x-header", upgradeRequest(target, "X-Nul: a\x00b\r\n"), 400, ""},
		{"CR in an x-header", upgradeRequest(target, "X-Cr: a\rb\r\n"), 400, ""},
		{"a folded x-header", upgradeRequest(target, "X-Folded: a\r\n b\r\n"), 101, ""},
		{"an x-header that is not UTF-8", upgradeRequest(target, "X-Latin: caf\xe9\xff\r\n"), 101, ""},
		{"an x-header with a space in its name", upgradeRequest(target, "X-A B: c\r\n"), 400, ""},
		{"a header without a colon", upgradeRequest(target, "X-Nothing\r\n"), 400, ""},
	}
	for _, tt := range tests {
		c := r.connect()
		c.write([]byte(tt.request))
		got := c.response()
		if got.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", tt.name, got.Status, tt.status)
			continue
		}
		if tt.status == http.StatusSwitchingProtocols {
			for _, never := range []string{"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} {
				if v, has := got.Header[http.CanonicalHeaderKey(never)]; has {
					t.Errorf("%s: negotiated %s: %s", tt.name, never, v)
				}
			}
			c.alive(tt.name)
			continue
		}
		body, err := io.ReadAll(io.LimitReader(got.Body, 4<<10))
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: %q (%v), want %q", tt.name, body, err, tt.body)
		}
	}
	bystanders.undisturbed("hostile handshakes")
}

// Whatever bytes a client puts into its x-headers, policies read them as JSON text.
func TestHostileHeadersReachPolicies(t *testing.T) {
	t.Parallel()
	r, bystanders := underAttack(t, nil)
	r.exec(`create policy by_headers on realtime.messages for select to authenticated using (realtime.topic() = 'headers'
		and current_setting('request.headers')::jsonb ->> 'x-latin' = U&'caf\FFFD!' and current_setting('request.headers')::jsonb ->> 'x-folded' = 'a b'
		and current_setting('request.headers')::jsonb ->> 'x-twice' = '<1>, "2\3"' and current_setting('request.headers')::jsonb ->> 'x-escape' = '\u0000')`)
	c := r.connect()
	c.write([]byte(upgradeRequest(socketPath+token(t, "evil", "authenticated", nil),
		"X-Latin: caf\xe9\xff!\r\nX-Folded: a\r\n b\r\nX-Twice: <1>\r\nx-twice: \"2\\3\"\r\nX-Escape: \\u0000\r\nHost-X: not for policies\r\n")))
	if got := c.response(); got.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(got.Status)
	}
	c.message(`["1","1","realtime:headers","phx_join",{"config":{"private":true}}]`)
	if status, response := c.reply("1"); status != "ok" {
		t.Errorf("the policy did not read what was sent: %s", response)
	}
	bystanders.undisturbed("hostile headers")
}

// pipes is a listener whose connections have no buffers and live in a bubble of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

// pipe is a connection to the public address of a server that has nothing but sockets. To be called in a bubble.
func pipe(t *testing.T, sockets *socket.Server) net.Conn {
	in := &instance{logger: slog.New(slog.DiscardHandler), health: &api.Health{}, sockets: sockets, rest: restAlone(t, sockets)}
	server, listener := in.publicServer(), make(pipes)
	go func() { _ = server.Serve(listener) }()
	near, far := net.Pipe()
	t.Cleanup(func() {
		near.Close()
		close(listener)
		server.Close()
	})
	listener <- far
	return near
}

// goodToken is one for restAlone, for longer than a test's time may run.
var goodToken = signed(`{"alg":"HS256"}`, `{"sub":"u1","role":"authenticated","exp":4000000000}`)

// restAlone answers requests over REST without a database, which it never hears.
func restAlone(t *testing.T, sockets *socket.Server) *api.REST {
	verifier, err := auth.NewVerifier(auth.VerifierOptions{Secret: []byte(testSecret), AllowedRoles: []string{"authenticated"}})
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New()
	rooms := hub.New(hub.Options{Workers: 1, Metrics: m})
	t.Cleanup(rooms.Close)
	return api.NewREST(api.RESTOptions{
		Verifier: verifier, Hub: rooms, WhenHearing: func(func()) func() { return func() {} }, Away: func() string { return "" },
		Origins: sockets.Origins(), Presence: func(hub.Room) []byte { return []byte("{}") }, MaxBodyBytes: 10_000, MaxPayloadBytes: 1000, MessagesPerSecond: 10,
		Logger: slog.New(slog.DiscardHandler), Metrics: m,
	})
}

// Time is the bubble's. A request that does not end, and an answer that is not read, end their connection.
func TestSlowRequestsAreEnded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first, drip string
		within      time.Duration
	}{
		"nothing is sent":        {"", "", headerTimeout},
		"a byte at a time":       {"", "G", headerTimeout},
		"headers without end":    {"GET /socket/websocket HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", headerTimeout},
		"a body byte by byte":    {"POST /socket/websocket HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "x", requestTimeout},
		"a body in chunks":       {"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", requestTimeout},
		"a body that never came": {"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "", requestTimeout},
		"a body over REST":       {"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nApikey: " + goodToken + "\r\nContent-Length: 1000\r\n\r\n{", " ", requestTimeout},
		"a right to be asked":    {"POST /api/broadcast/a/events/e?private=true HTTP/1.1\r\nHost: x\r\nApikey: " + goodToken + "\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", "", headerTimeout},
		"answers are not read":   {strings.Repeat("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 100), "", requestTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near := pipe(t, socket.NewServer(socket.Options{}))
				begin := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, err := near.Write([]byte(tt.first))
					for err == nil {
						time.Sleep(time.Second)
						_, err = near.Write([]byte(tt.drip))
					}
				}()
				if !strings.Contains(name, "not read") {
					_, _ = io.Copy(io.Discard, near)
				}
				<-ended
				if d := time.Since(begin); d > tt.within+2*time.Second {
					t.Errorf("ended after %v", d)
				}
			})
		})
	}
}
