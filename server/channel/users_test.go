package channel

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/decisions"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// closable is a client whose connection can be closed.
type closable struct {
	told
	closed atomic.Bool
}

func (c *closable) Disconnect() { c.closed.Store(true) }

// late is the answer to the join named late.
func (c *closable) late() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if strings.Contains(f, `"late"`) {
			return f
		}
	}
	return ""
}

func userToken(t testing.TB, subject string) string {
	t.Helper()
	token, err := auth.Mint([]byte(fuzzSecret), auth.MintOptions{Subject: subject, Role: "anon", TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Users are disconnected while their clients join, leave, and turn into other users. Whoever has a channel as somebody when
// that one is disconnected is closed, and in the end nothing is remembered of anybody.
func TestDisconnectAmongEverythingElse(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t)
	h := hub.New(hub.Options{Workers: 2, Metrics: metrics.New()})
	defer h.Close()
	o := &Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}
	names := []string{"u0", "u1", "u2"}
	tokens := map[string]string{}
	for _, name := range names {
		tokens[name] = userToken(t, name)
	}
	var clients, cutter sync.WaitGroup
	stop := make(chan struct{})
	var closed atomic.Int64
	for i := range 8 {
		clients.Go(func() {
			for round := range 25 {
				as := func(n int) string { return names[(i+round+n)%len(names)] }
				claims, refused := verifier.Verify(tokens[as(0)])
				if refused != nil {
					t.Error(refused)
					return
				}
				client := &closable{}
				s := NewSession(o, protocol.V2, Identity{Claims: claims, Token: tokens[as(0)]}, client)
				for step := 0; step < 20 && !client.closed.Load(); step++ {
					room := step % 3
					switch step % 4 {
					case 0, 1:
						s.Frame(false, fmt.Appendf(nil, `["%d","%d","realtime:%d","phx_join",{"access_token":%q}]`, step, step, room, tokens[as(step)]))
					case 2:
						s.Frame(false, fmt.Appendf(nil, `[null,"%d","realtime:%d","access_token",{"access_token":%q}]`, step, room, tokens[as(step)]))
					case 3:
						s.Frame(false, fmt.Appendf(nil, `[null,"%d","realtime:%d","phx_leave",{}]`, step, room))
					}
				}
				if client.closed.Load() {
					closed.Add(1)
					s.Frame(false, []byte(`["late","late","realtime:late","phx_join",{}]`)) // read before the close
					if n := client.replies("late"); n != 1 || !strings.Contains(client.late(), string(protocol.Disconnected)) {
						t.Errorf("a join after the end is answered %d times: %s", n, client.late())
					}
				}
				s.Close()
			}
		})
	}
	cutter.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				o.Disconnect(names[i%len(names)], "")
			}
		}
	})
	clients.Wait()
	close(stop)
	cutter.Wait()
	if closed.Load() == 0 {
		t.Error("nobody was disconnected")
	}
	if len(o.users.sessions) > 0 {
		t.Errorf("%d users are remembered", len(o.users.sessions))
	}
}

// A session that is found by any of its tokens is closed once, whatever its channels are.
func TestDisconnectFindsEveryToken(t *testing.T) {
	t.Parallel()
	const uuid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	verifier := newVerifier(t)
	for _, test := range []struct {
		name, socket, join, refreshed, user string
		want                                bool
	}{
		{name: "the socket's", socket: "a", user: "a", want: true},
		{name: "somebody else's", socket: "a", user: "b"},
		{name: "nobody's", socket: "", user: "b"},
		{name: "a channel's", socket: "a", join: "b", user: "b", want: true},
		{name: "the socket's, of a channel of another", socket: "a", join: "b", user: "a", want: true},
		{name: "a new one", socket: "a", refreshed: "b", user: "b", want: true},
		{name: "one before the new one", socket: "c", join: "a", refreshed: "b", user: "a"},
		{name: "in another spelling", socket: uuid, user: "{0A1B2C3D4E5F60718293A4B5C6D7E8F9}", want: true},
	} {
		h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
		o := &Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}
		token := userToken(t, test.socket)
		claims, refused := verifier.Verify(token)
		if refused != nil {
			t.Fatal(refused)
		}
		client := &closable{}
		s := NewSession(o, protocol.V2, Identity{Claims: claims, Token: token}, client)
		join := test.join
		if join == "" {
			join = test.socket
		}
		s.Frame(false, fmt.Appendf(nil, `["1","1","realtime:t","phx_join",{"access_token":%q}]`, userToken(t, join)))
		if test.refreshed != "" {
			s.Frame(false, fmt.Appendf(nil, `["1","2","realtime:t","access_token",{"access_token":%q}]`, userToken(t, test.refreshed)))
		}
		o.Disconnect(test.user, "")
		if client.closed.Load() != test.want {
			t.Errorf("%s: closed: %t", test.name, client.closed.Load())
		}
		s.Close()
		h.Close()
	}
}

// shut is a client that is sent nothing behind the close of its connection.
type shut struct{ closable }

func (c *shut) Send(frame []byte) bool { return !c.closed.Load() && c.closable.Send(frame) }

// A join under way when its user is disconnected is answered before the connection is closed.
func TestDisconnectAnswersTheJoinUnderWay(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t)
	h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
	defer h.Close()
	o := &Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}
	client := &shut{}
	s := NewSession(o, protocol.V2, Identity{Claims: auth.Claims{Subject: "ann", Expires: time.Now().Add(time.Hour)}}, client)
	defer s.Close()
	o.users.mu.Lock() // so the join, as somebody else, gets no further than to its place
	var join sync.WaitGroup
	join.Go(func() {
		s.Frame(false, fmt.Appendf(nil, `["1","late","realtime:a","phx_join",{"access_token":%q}]`, userToken(t, "bob")))
	})
	for !s.InUse() {
		runtime.Gosched()
	}
	s.disconnect(protocol.Disconnected.Text())
	o.users.mu.Unlock()
	join.Wait()
	if n := client.replies("late"); n != 1 || !strings.Contains(client.late(), string(protocol.Disconnected)) {
		t.Errorf("the join is answered %d times: %s", n, client.late())
	}
	if s.InUse() || !client.closed.Load() {
		t.Error("the session goes on")
	}
}

// The decision log names whose joins were refused because he was disconnected.
func TestJoinsAfterADisconnectAreRecorded(t *testing.T) {
	t.Parallel()
	verifier := newVerifier(t)
	h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
	defer h.Close()
	var lines strings.Builder
	recorder := decisions.New(decisions.Options{Log: true, Logger: slog.New(slog.NewTextHandler(&lines, nil)), Metrics: metrics.New()})
	o := &Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler), Decisions: recorder}
	token := userToken(t, "ann")
	claims, refused := verifier.Verify(token)
	if refused != nil {
		t.Fatal(refused)
	}
	s := NewSession(o, protocol.V2, Identity{Claims: claims, Token: token}, &closable{})
	defer s.Close()
	join := func(topic string, private bool) {
		s.Frame(false, fmt.Appendf(nil, `["1","1","realtime:%s","phx_join",{"config":{"private":%t}}]`, topic, private))
	}
	join("waiting", true) // until the hub hears the database
	o.Disconnect("ann", "")
	join("late", true)
	join("open", false)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	recorder.Run(ended) // writes what is there
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(got) != 2 {
		t.Fatalf("recorded: %q", got)
	}
	for i, topic := range []string{"waiting", "late"} {
		for _, want := range []string{"event=refused", "topic=" + topic + " sub=ann role=anon", "code=Disconnected", "generation=0"} {
			if !strings.Contains(got[i], want) {
				t.Errorf("no %s in %s", want, got[i])
			}
		}
	}
}

// A session is a user's until the last of his tokens is gone.
func TestTokensAreCounted(t *testing.T) {
	t.Parallel()
	var u users
	s := &Session{}
	u.add("u", s)
	u.add("u", s)
	for want := 1; want >= 0; want-- {
		u.remove("u", s)
		if got := len(u.of("u")); got != want {
			t.Errorf("%d sessions, want %d", got, want)
		}
	}
	if len(u.sessions) > 0 {
		t.Error("a user is remembered who is gone")
	}
}
