package api

import (
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rowcast/server/metrics"
)

// The list of sessions makes nobody a user: what carries a token is taken out.
func TestSessionsHoldNoToken(t *testing.T) {
	t.Parallel()
	admin := Admin(AdminOptions{Health: &Health{}, Metrics: metrics.New(), Sessions: func() iter.Seq[Session] {
		return func(yield func(Session) bool) {
			yield(Session{Topic: "a", Headers: json.RawMessage(`{"x-api-key":"secret","x-region":"eu"}`)})
			yield(Session{Topic: "b", Headers: json.RawMessage(`["x-api-key secret"]`)})
		}
	}})
	request := httptest.NewRequest("GET", "/sessions", nil)
	request.RemoteAddr, request.Host = "127.0.0.1:5000", "localhost"
	answer := httptest.NewRecorder()
	admin.ServeHTTP(answer, request)
	body := answer.Body.String()
	if strings.Contains(body, "secret") || !strings.Contains(body, `"headers":{"x-region":"eu"}`) || answer.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s %q", body, answer.Header())
	}
}

// Whoever reaches the address from elsewhere writes into a request what he likes, Host included.
func TestOperatorsAreOnThisMachine(t *testing.T) {
	t.Parallel()
	admin := Admin(AdminOptions{Health: &Health{}, Metrics: metrics.New(), Sessions: func() iter.Seq[Session] { return func(func(Session) bool) {} }})
	for _, path := range []string{"GET /sessions", "POST /api/explain", "GET /debug/pprof/", "GET /debug/pprof/cmdline", "GET /debug/pprof/symbol", "GET /debug/pprof/profile", "GET /debug/pprof/trace?seconds=0.001"} {
		for _, test := range []struct {
			from, host string
			passes     bool
		}{
			{"127.0.0.1:5000", "127.0.0.1:4001", true},
			{"[::1]:5000", "localhost", true},
			{"10.0.0.9:5000", "127.0.0.1:4001", false},
			{"[2001:db8::1]:5000", "localhost:4001", false},
			{"127.0.0.1:5000", "attacker.example:4001", false},
			{"@", "localhost", false},
			{"", "", false},
		} {
			if test.passes && strings.HasSuffix(path, "profile") {
				continue // that takes as long as it samples
			}
			method, target, _ := strings.Cut(path, " ")
			request := httptest.NewRequest(method, target, nil)
			request.RemoteAddr, request.Host = test.from, test.host
			answer := httptest.NewRecorder()
			admin.ServeHTTP(answer, request)
			if refused := answer.Code == http.StatusForbidden; refused == test.passes {
				t.Errorf("%s from %q for %q: %d", path, test.from, test.host, answer.Code)
			}
		}
	}
}
