package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rowcast/server/auth"
	"rowcast/server/metrics"
)

// deadlined is an answer whose deadline is known.
type deadlined struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error { d.until = t; return nil }

// However long a body took, there is time for what comes after it.
func TestTimeForTheAnswerBeginsAfterTheBody(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{})
	for body, r := range map[string]*http.Request{
		"whole":  httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")),
		"broken": httptest.NewRequest(http.MethodPost, "/", brokenReader{}),
	} {
		w, before := &deadlined{ResponseRecorder: httptest.NewRecorder()}, time.Now()
		_, _ = s.body(&call{Request: r, w: w, caller: s.callers.of(auth.Claims{Role: "r"})})
		if w.until.Before(before.Add(answerTime)) {
			t.Errorf("a body that is %s leaves %s", body, w.until.Sub(before))
		}
	}
}

// Refusals say in HTTP's own words what to do next.
func TestHeadersOfRefusals(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New(), Origins: anyOrigin{}, Away: func() string { return "" }})
	s.callers.asks.limit = 0
	for name, tt := range map[string]struct {
		method string
		do     func(*call) answer
		status int
		header string
		want   string
	}{
		"no token":         {http.MethodGet, s.admitted(s.presence), http.StatusUnauthorized, "WWW-Authenticate", "Bearer"},
		"a HEAD":           {http.MethodHead, s.ping, http.StatusMethodNotAllowed, "Allow", "GET, OPTIONS"},
		"no room to ask":   {http.MethodGet, s.as("u", s.presence), http.StatusTooManyRequests, "Retry-After", "1"},
		"nothing is wrong": {http.MethodGet, s.ping, http.StatusOK, "Retry-After", ""},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(tt.method, "/?private=true", nil)
		r.SetPathValue("topic", "t")
		s.endpoint("test", http.MethodGet, tt.do).ServeHTTP(w, r)
		if got := w.Header().Get(tt.header); w.Code != tt.status || got != tt.want {
			t.Errorf("%s: %d, %s: %q", name, w.Code, tt.header, got)
		}
	}
}

// as has a request come from somebody.
func (s *REST) as(subject string, do func(*call) answer) func(*call) answer {
	return func(c *call) answer {
		c.claims = auth.Claims{Subject: subject}
		c.caller = s.callers.of(c.claims)
		return do(c)
	}
}
