package channel

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/auth"
	"rowcast/server/auth/authtest"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// fetched is a key source whose keys a test changes.
type fetched struct {
	mu       sync.Mutex // guards all below
	sets     []*auth.KeySet
	complete bool
	renewed  int
}

func (f *fetched) Keys() (sets []*auth.KeySet, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sets, !f.complete
}

func (f *fetched) Renew() (complete bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
	return f.complete
}

func (f *fetched) hold(complete bool, sets ...*auth.KeySet) {
	f.mu.Lock()
	f.sets, f.complete = sets, complete
	f.mu.Unlock()
}

// A channel outlives an outage of whoever issued its token, and not the withdrawal of the key that it is signed with. A token
// that expires before anybody looks ends it at its time.
func TestChannelsEndWithTheKeyOfTheirToken(t *testing.T) {
	t.Parallel()
	key, other := authtest.Load(t, "p256", "k"), authtest.Load(t, "rsa", "other")
	set := func(k authtest.Key) *auth.KeySet {
		s, err := auth.ParseKeySet([]byte(authtest.Set(k.JWK(nil))), true)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good, changed := set(key), set(other)
	synctest.Test(t, func(t *testing.T) {
		source := &fetched{sets: []*auth.KeySet{good}, complete: true}
		verifier, err := auth.NewVerifier(auth.VerifierOptions{Source: source, AllowedRoles: []string{"anon"}})
		if err != nil {
			t.Fatal(err)
		}
		token := func(life time.Duration) string {
			return key.Token("ES256", fmt.Sprintf(`{"role":"anon","exp":%d}`, time.Now().Add(life).Unix()))
		}
		long := token(24 * time.Hour)
		claims, refused := verifier.Verify(long)
		if refused != nil {
			t.Fatal(refused)
		}
		h := hub.New(hub.Options{Workers: 1, Metrics: metrics.New()})
		defer h.Close()
		said := &heard{}
		s := NewSession(&Options{Hub: h, Verifier: verifier, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}, protocol.V2,
			Identity{Claims: claims, Token: long}, said)
		defer s.Close()
		join := func(ref, token string) {
			s.Frame(false, fmt.Appendf(nil, `[%q,%q,"realtime:%s","phx_join",{"access_token":%q}]`, ref, ref, ref, token))
			synctest.Wait()
		}
		heardOf := func(ref, event, want string) bool {
			for _, m := range said.messages(t) {
				if m.Topic == "realtime:"+ref && m.Event == event && strings.Contains(string(m.Payload), want) {
					return true
				}
			}
			return false
		}
		sleep := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		join("long", long)
		join("short", token(7*time.Minute))
		for _, ref := range []string{"long", "short"} {
			if !heardOf(ref, "phx_reply", `"ok"`) {
				t.Fatalf("%s is not joined", ref)
			}
		}
		source.hold(false) // nothing is known
		sleep(7*time.Minute + time.Second)
		if !heardOf("short", "system", "Token has expired 0 seconds ago") || !heardOf("short", "phx_close", "") {
			t.Error("the token that expired did not end its channel")
		}
		sleep(3 * time.Hour)
		if heardOf("long", "phx_close", "") || heardOf("long", "phx_error", "") {
			t.Error("the channel was ended because its issuer is away")
		}
		join("late", long)
		if !heardOf("late", "phx_reply", "JwtKeysMissing: ") {
			t.Error("a join with the socket's token passed although its key is not known any more")
		}
		source.hold(true, good, changed)
		sleep(recheckEvery + time.Second)
		before := source.renewed
		source.hold(true, changed)
		sleep(recheckEvery + time.Second)
		if !heardOf("long", "system", `Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS configuration`) || !heardOf("long", "phx_close", "") {
			t.Error("the channel outlived the key of its token")
		}
		if source.renewed != before {
			t.Error("a look at an old token had the keys fetched")
		}
		join("again", long)
		if !heardOf("again", "phx_reply", "JwtSignerError: ") {
			t.Error("a join with the socket's token passed although its key was withdrawn")
		}
	})
}
