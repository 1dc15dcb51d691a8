package socket

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func upgradeRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		req.Header.Set(name, value)
	}
	return req
}

func answer(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		t.Cleanup(func() { resp.Body.Close() })
		return resp, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestBadHandshakes(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{Open: func(*http.Request) (Opener, *Refusal) {
		t.Error("Open was asked about a request that is no handshake")
		return nil, &Refusal{Status: 500}
	}})
	url := "http://" + r.listen(t)
	for name, spoil := range map[string]func(*http.Request){
		"POST":       func(r *http.Request) { r.Method = http.MethodPost },
		"Upgrade":    func(r *http.Request) { r.Header.Del("Upgrade") },
		"Connection": func(r *http.Request) { r.Header.Set("Connection", "keep-alive") },
		"Version":    func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") },
		"short key":  func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "c2hvcnQ=") },
		"bad key":    func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "?") },
		"no key":     func(r *http.Request) { r.Header.Del("Sec-WebSocket-Key") },
	} {
		t.Run(name, func(t *testing.T) {
			req := upgradeRequest(t, url)
			spoil(req)
			resp, body := answer(t, req)
			if resp.StatusCode != http.StatusBadRequest || (body == "") != (req.Method == http.MethodPost) {
				t.Fatalf("%s %q", resp.Status, body)
			}
		})
	}
	if n := r.metric(t, "realtime_sockets_refused_total", RefusedHandshake); n != 7 {
		t.Fatalf("%v refusals counted", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxConnections: 1, AllowedOrigins: []string{"https://app.example.com"},
		Open: func(r *http.Request) (Opener, *Refusal) {
			if r.URL.Query().Get("apikey") == "" {
				return nil, &Refusal{http.StatusUnauthorized, `API "key" is missing`, "no_token"}
			}
			return func(c *Conn) Handler { return &session{conn: c, closed: make(chan Reason, 1)} }, nil
		}})
	url := "http://" + r.listen(t)
	try := func(url, origin string, status int, body, reason string) {
		t.Helper()
		req := upgradeRequest(t, url)
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		before := r.metric(t, "realtime_sockets_refused_total", reason)
		resp, got := answer(t, req)
		if resp.StatusCode != status || got != body {
			t.Fatalf("%s %q, want %d %q", resp.Status, got, status, body)
		}
		if status == http.StatusSwitchingProtocols {
			return
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
			t.Fatalf("Content-Type %q", ct)
		}
		if after := r.metric(t, "realtime_sockets_refused_total", reason); after != before+1 {
			t.Fatalf("refusal not counted as %q", reason)
		}
	}
	// The origin is looked at before the token, the limit before both.
	try(url, "https://evil.example", 403, `{"error":"Origin not allowed"}`, RefusedOrigin)
	try(url, "null", 403, `{"error":"Origin not allowed"}`, RefusedOrigin)
	try(url, "http://app.example.com", 403, `{"error":"Origin not allowed"}`, RefusedOrigin)
	try(url, "https://app.example.com", 401, `{"error":"API \"key\" is missing"}`, "no_token")
	try(url, "", 401, `{"error":"API \"key\" is missing"}`, "no_token")
	try(url+"?apikey=k", "https://APP.example.com", 101, "", "")
	try(url, "https://evil.example", 429, `{"error":"Too many connected users"}`, RefusedFull)
	r.Close()
	try(url+"?apikey=k", "", 503, `{"error":"Server is restarting"}`, RefusedDraining)
}

func TestRefusedOriginIsLoggedOnceWithItsMend(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := NewServer(Options{AllowedOrigins: []string{"https://a.example"}, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for range 3 {
		if s.Origins().Allowed("https://b.example") {
			t.Fatal("allowed")
		}
	}
	if want := `setting="ALLOWED_ORIGINS=https://a.example https://b.example"`; strings.Count(out.String(), want) != 1 {
		t.Fatalf("want %s once in:\n%s", want, &out)
	}
	if any := NewServer(Options{AllowedOrigins: []string{"*"}}); !any.Origins().Allowed("https://b.example") || !any.Origins().Any() {
		t.Fatal(`"*" refuses`)
	}
}

// Handshakes that are under way count: many at once cannot pass the limit together.
func TestMaxConnectionsCountsHandshakes(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, Options{MaxConnections: 1, Open: func(*http.Request) (Opener, *Refusal) {
		entered <- struct{}{}
		<-leave
		return nil, &Refusal{http.StatusUnauthorized, "no", "no"}
	}})
	url := "http://" + r.listen(t)
	first := make(chan int)
	req := upgradeRequest(t, url)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			first <- 0
			return
		}
		resp.Body.Close()
		first <- resp.StatusCode
	}()
	<-entered
	if resp, _ := answer(t, upgradeRequest(t, url)); resp.StatusCode != http.StatusTooManyRequests {
		t.Fatal(resp.Status)
	}
	leave <- struct{}{}
	if status := <-first; status != http.StatusUnauthorized {
		t.Fatal(status)
	}
	go func() { <-entered; leave <- struct{}{} }()
	if resp, _ := answer(t, upgradeRequest(t, url)); resp.StatusCode != http.StatusUnauthorized {
		t.Fatal("the place was not given back: ", resp.Status)
	}
}

func TestUpgradeWithoutHijack(t *testing.T) {
	t.Parallel()
	r := newRig(t, Options{MaxConnections: 1})
	for range 2 { // the second would find no place if the first kept its own
		w := httptest.NewRecorder()
		r.ServeHTTP(w, upgradeRequest(t, "http://localhost/"))
		if r.Count() != 0 {
			t.Fatal("a socket without a connection")
		}
		if reason := await(t, (<-r.sessions).closed, "the handler to be told"); reason != ClientGone {
			t.Fatalf("its handler was told %s", reason)
		}
	}
	if n := r.metric(t, "realtime_sockets_refused_total", RefusedUpgrade); n != 2 {
		t.Fatalf("%v refusals counted", n)
	}
}

// Who has been told that the socket is open can be found: the sockets of a user may all be closed at any moment.
func TestSocketIsKnownBeforeItsClientKnows(t *testing.T) {
	t.Parallel()
	dialled := make(chan struct{})
	r := newRig(t, Options{}, func(*session) {
		select {
		case <-dialled:
			t.Error("the handshake was answered before there was a handler")
		case <-time.After(50 * time.Millisecond):
		}
	})
	c := dial(t, r.listen(t))
	close(dialled)
	s := <-r.sessions
	s.conn.Send(text("hello"))
	c.expect(t, opText, "hello")
}

// What is done to a socket before its client knows of it takes effect when it does.
func TestWhatIsDoneToASocketBeforeItIsOpen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(*Conn)
		want func(*client)
	}{
		{"it is closed", func(c *Conn) { c.Disconnect() }, func(c *client) { c.expectClose(t, codePolicy) }},
		{"it is closed behind a frame", func(c *Conn) { c.Send(text("hello")); c.Disconnect() }, func(c *client) {
			c.expect(t, opText, "hello")
			c.expectClose(t, codePolicy)
		}},
		{"it is killed", func(c *Conn) { c.Kill(ClientGone) }, func(c *client) { c.expectEnd(t) }},
	}
	for _, tt := range tests {
		r := newRig(t, Options{}, func(s *session) { tt.do(s.conn) })
		c := dial(t, r.listen(t))
		tt.want(c)
		c.conn.Close()
		await(t, (<-r.sessions).closed, tt.name)
		await(t, r.empty(), "the socket to be forgotten")
	}
}
