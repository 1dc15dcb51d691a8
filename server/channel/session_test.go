package channel

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/auth"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// A panic on the stack that a join has for itself must not end the program: it ends the socket, whose goroutine has to
// hear of it.
func TestPanicApartIsTheCallers(t *testing.T) {
	t.Parallel()
	did := false
	apart(func() { did = true })
	if !did {
		t.Fatal("not waited for")
	}
	defer func() {
		p, _ := recover().(string)
		if !strings.Contains(p, "a bug") || !strings.Contains(p, "TestPanicApartIsTheCallers") {
			t.Errorf("recovered %q", p)
		}
	}()
	apart(func() { panic("a bug") })
	t.Error("went on")
}

// The token of the socket was good when it was opened. A join that comes later is refused by its expiry.
func TestTokenOfTheSocketExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		token, err := auth.Mint([]byte(fuzzSecret), auth.MintOptions{Subject: "u", Role: "anon", TTL: time.Minute, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		verifier := newVerifier(t)
		claims, refused := verifier.Verify(token)
		if refused != nil {
			t.Fatal(refused)
		}
		h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
		defer h.Close()
		said := &heard{}
		s := NewSession(&Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}, protocol.V2,
			Identity{Claims: claims, Token: token}, said)
		defer s.Close()
		join := func(ref, want string) {
			t.Helper()
			s.Frame(false, fmt.Appendf(nil, `[%q,%q,"realtime:%s","phx_join",{}]`, ref, ref, ref))
			synctest.Wait()
			for _, m := range said.messages(t) {
				if m.Ref == protocol.TextRef(ref) && strings.Contains(string(m.Payload), want) {
					return
				}
			}
			t.Errorf("join %s is not answered with %s", ref, want)
		}
		join("1", `"ok"`)
		time.Sleep(time.Minute + 5*time.Second)
		join("2", "InvalidJWTToken: Token has expired 5 seconds ago")
	})
}

// New tokens are verified, which costs something: each is one of the messages that a socket has in a second.
func TestNewTokensCountAsMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		verifier := newVerifier(t)
		h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
		defer h.Close()
		said := &heard{}
		s := NewSession(&Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler), Limits: Limits{EventsPerSecond: 2}},
			protocol.V2, Identity{Claims: auth.Claims{Role: "anon", Expires: time.Now().Add(time.Hour)}}, said)
		defer s.Close()
		s.Frame(false, []byte(`["1","1","realtime:t","phx_join",{}]`))
		synctest.Wait()
		for ref := range 3 {
			s.Frame(false, fmt.Appendf(nil, `["1","new %d","realtime:t","access_token",{"access_token":"sb_publishable_key"}]`, ref))
		}
		var refused []string
		for _, m := range said.messages(t) {
			if strings.Contains(string(m.Payload), "MessagePerSecondRateLimitReached") && m.Event == protocol.EventReply {
				refused = append(refused, string(m.Ref))
			}
		}
		if len(refused) != 1 || !strings.Contains(refused[0], "new 2") {
			t.Errorf("of three new tokens, %q were refused", refused)
		}
	})
}
