package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rowcast/server/auth/authtest"
	"rowcast/server/feed"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/pgtest"
)

// keyServer is an identity provider's key set on the loopback; an empty one answers 503.
type keyServer struct {
	*httptest.Server
	set atomic.Pointer[string]
}

func newKeyServer(t *testing.T) *keyServer {
	s := &keyServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if set := s.set.Load(); set != nil {
			_, _ = io.WriteString(w, *set)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) publish(keys ...authtest.Key) {
	var public []map[string]any
	for _, k := range keys {
		public = append(public, k.JWK(nil))
	}
	text := authtest.Set(public...)
	s.set.Store(&text)
}

func claimsOf(subject string) string {
	return fmt.Sprintf(`{"sub":%q,"role":"authenticated","exp":%d}`, subject, time.Now().Add(time.Hour).Unix())
}

// handshake is the HTTP answer to a handshake with a token.
func (r *running) handshake(tok string) (status int, message string) {
	r.t.Helper()
	conn, response, err := websocket.Dial(r.t.Context(), "ws://"+r.public.Addr().String()+"/socket/websocket?vsn=2.0.0&apikey="+tok, nil)
	if err == nil {
		conn.CloseNow()
		return http.StatusSwitchingProtocols, ""
	}
	if response == nil {
		r.t.Fatal(err)
	}
	var told struct{ Error string }
	_ = json.NewDecoder(response.Body).Decode(&told)
	return response.StatusCode, told.Error
}

// A server without a secret lives by the keys that it fetches: it starts without them and says so, and lets people in as soon
// as it has them. New keys are good at once, and what public keys are not made for is refused.
func TestServerThatFetchesItsKeys(t *testing.T) {
	t.Parallel()
	first, second := authtest.Load(t, "p256", "first"), authtest.Load(t, "rsa", "second")
	provider := newKeyServer(t)
	db := pgtest.New(t)
	r := launch(t, db, newTestInstance(t, db, func(c *Config) { c.JWTSecret, c.JWTJWKSURLs = "", []string{provider.URL + "/jwks"} }, func(s feed.Sink) feed.Sink { return s }))
	r.exec(allowMembers + `insert into members values ('u1', 'a')`)
	old := first.Token("ES256", claimsOf("u1"))

	r.await("readyz to name the keys", func() bool {
		code, body := get(t, "http://"+r.admin.Addr().String()+"/readyz")
		return code == 503 && strings.Contains(body, `"keys":"fetch keys from `+provider.URL+`/jwks: answered 503"`) && strings.Contains(body, `"lease":"ok"`)
	})
	if status, message := r.handshake(old); status != 503 || message != "The keys that tokens are verified with cannot be fetched at the moment, please try again" {
		t.Errorf("without keys: %d %s", status, message)
	}
	if status, message := r.handshake(token(t, "u1", "authenticated", nil)); status != 401 || message != "Failed to generate JWT signer, check your JWT secret or JWKS configuration" {
		t.Errorf("HS256 without a secret: %d %s", status, message)
	}
	provider.publish(first)
	r.awaitReady()
	for _, version := range versions {
		c, joinRef := r.on(t, version, old, "a", private())
		if ok, response := c.sends(joinRef, "a"); !ok {
			t.Errorf("with a key that was fetched: %s", response)
		}
	}
	c, joinRef := r.on(t, "2.0.0", old, "a", private())
	provider.publish(first, second)
	r.await("a token with a new key to be accepted", func() bool {
		_, status, _ := c.joinWith("b", "access_token", second.Token("RS256", claimsOf("u1")), openConfig)
		return status == "ok"
	})
	c.renew(joinRef, "a", second.Token("RS256", claimsOf("u1")))
	if ok, response := c.sends(joinRef, "a"); !ok {
		t.Errorf("with a new token: %s", response)
	}
	forged := authtest.Load(t, "ed25519", "first")
	c.renew(joinRef, "a", forged.Token("EdDSA", claimsOf("u1")))
	c.closes("a", `Failed to generate JWT signer for key ID (kid) "first", check your JWT secret or JWKS configuration`)
	if n := metricstest.Value(t, r.metrics, "realtime_jwks_refreshes_total", "ok"); n < 2 {
		t.Errorf("%v refreshes", n)
	}
	if _, body := get(t, "http://"+r.admin.Addr().String()+"/metrics"); !strings.Contains(body, "realtime_jwks_age_seconds ") {
		t.Error("the metrics do not say how old the keys are")
	}
}

// With a secret beside them, a server is ready without the keys: some tokens are good. Whose key may be among those that
// are missing is told to try again.
func TestServerWithASecretAndKeysThatAreAway(t *testing.T) {
	t.Parallel()
	provider := newKeyServer(t)
	r := start(t, pgtest.New(t), func(c *Config) { c.JWTJWKSURLs = []string{provider.URL} })
	for _, version := range versions {
		c, joinRef := r.on(t, version, token(t, "u1", "authenticated", nil), "open", openConfig)
		key := authtest.Load(t, "p256", "k")
		if _, status, reason := c.joinWith("other", "access_token", key.Token("ES256", claimsOf("u1")), openConfig); status != "error" || !strings.HasPrefix(reason, "JwtKeysMissing: ") {
			t.Errorf("join: %s %s", status, reason)
		}
		c.renew(joinRef, "open", key.Token("ES256", claimsOf("u1")))
		c.wait("phx_error, after which clients join again", isEvent("open", "phx_error"))
		if n := count(c, isEvent("open", "phx_close")); n != 0 {
			t.Error("closed for good")
		}
	}
}
