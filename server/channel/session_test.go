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
		verifier, err := auth.NewVerifier(auth.VerifierOptions{Secret: []byte(fuzzSecret), AllowedRoles: []string{"anon"}})
		if err != nil {
			t.Fatal(err)
		}
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
