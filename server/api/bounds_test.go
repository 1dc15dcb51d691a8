package api

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/protocol"
)

// All bodies together have a bound, and those of one caller half of it: who comes when it is reached is told to come again,
// and has room when others are done.
func TestBodiesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New()})
	s.callers.bodies.limit = 10 * firstRead
	read := func(sub string, body io.Reader) ([]byte, func(), answer) {
		c := &call{Request: httptest.NewRequest(http.MethodPost, "/", body), w: httptest.NewRecorder(), caller: s.callers.of(auth.Claims{Subject: sub})}
		got, a := s.body(c)
		return got, c.letGo, a
	}
	large := strings.Repeat("x", 3*firstRead) // which takes four
	var all []func()
	for _, step := range []struct {
		sub, body string
		code      protocol.Code
	}{
		{"ann", large, ""},
		{"ann", "{}", ""},
		{"ann", "{}", protocol.ServerBusy}, // beyond half of it
		{"bob", large, ""},
		{"eve", large, protocol.ServerBusy}, // beyond the whole
		{"eve", "{}", ""},
		{"bob", "{}", protocol.ServerBusy},
	} {
		got, done, a := read(step.sub, strings.NewReader(step.body))
		if a.code != "" {
			done()
		} else {
			all = append(all, done)
		}
		if a.code != step.code || step.code == "" && string(got) != step.body || step.code != "" && a.status != http.StatusTooManyRequests {
			t.Fatalf("%s with %d bytes: %d bytes, %+v", step.sub, len(step.body), len(got), a)
		}
	}
	for _, done := range all {
		done()
	}
	for range 3 { // nothing is lost, also where a body fails in the middle
		_, done, a := read("ann", io.MultiReader(strings.NewReader(large), brokenReader{}))
		if a.code != protocol.MalformedBody {
			t.Errorf("half a body: %+v", a)
		}
		done()
	}
	if used, ann := s.callers.bodies.used.Load(), s.callers.of(auth.Claims{Subject: "ann"}).bodies.used.Load(); used != 0 || ann != 0 {
		t.Errorf("%d bytes, %d of ann's, were not given back", used, ann)
	}
}

// A body that is announced to be too large is not read at all.
func TestBodyThatAnnouncesTooMuch(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{Metrics: metrics.New(), MaxBodyBytes: 10})
	r := httptest.NewRequest(http.MethodPost, "/", whenRead(func() { t.Error("it was read") }))
	r.ContentLength = 11
	if _, a := s.body(&call{Request: r, w: httptest.NewRecorder(), caller: s.callers.of(auth.Claims{Role: "r"})}); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%+v", a)
	}
}

// What is told about presence is held until it is taken, as bodies are, and counts as bytes of the caller.
func TestPresenceIsHeldUntilItIsTaken(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{
		Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New(), Origins: anyOrigin{}, BytesPerSecond: 10_000,
		Presence: func(hub.Room) []byte { return make([]byte, 50_000) },
	})
	s.callers.bodies.limit = 120_000
	ask := func(sub string, w http.ResponseWriter) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetPathValue("topic", "t")
		s.endpoint("presence", http.MethodGet, s.as(sub, s.presence)).ServeHTTP(w, r)
	}
	code := func(sub string) string {
		w := httptest.NewRecorder()
		ask(sub, w)
		return w.Header().Get("X-Error-Code")
	}
	slow := &slowReader{ResponseRecorder: httptest.NewRecorder(), meanwhile: func() {
		if got := code("ann"); got != string(protocol.MessagePerSecondRateLimitReached) {
			t.Errorf("ann asks again: %q", got)
		}
		if got := code("bob"); got != "" {
			t.Errorf("bob: %q", got)
		}
		if used := s.callers.bodies.used.Load(); used != 50_000 {
			t.Errorf("%d bytes are held while ann reads", used)
		}
		s.callers.bodies.used.Add(50_000)
		if got := code("eve"); got != string(protocol.ServerBusy) {
			t.Errorf("eve, beyond the bound: %q", got)
		}
		s.callers.bodies.used.Add(-50_000)
	}}
	ask("ann", slow)
	if used := s.callers.bodies.used.Load(); used != 0 || slow.Body.Len() != 50_000 {
		t.Errorf("%d bytes were not given back, %d taken", used, slow.Body.Len())
	}
}

// A preflight repeats the headers that it asks for, up to a bound.
func TestPreflightRepeatsSoMuch(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{Metrics: metrics.New(), Origins: anyOrigin{}})
	for _, tt := range []struct {
		size  int
		extra string
	}{{maxCORSHeaders, ", " + strings.Repeat("x", maxCORSHeaders)}, {maxCORSHeaders + 1, ""}} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodOptions, "/", nil)
		r.Header.Set("Access-Control-Request-Headers", strings.Repeat("x", tt.size))
		s.endpoint("ping", http.MethodGet, s.ping).ServeHTTP(w, r)
		if got := w.Header().Get("Access-Control-Allow-Headers"); got != corsHeaders+tt.extra {
			t.Errorf("of %d bytes, %d are allowed", tt.size, len(got))
		}
	}
}

type anyOrigin struct{}

func (anyOrigin) Any() bool           { return true }
func (anyOrigin) Allowed(string) bool { return true }

// slowReader takes its time over the body.
type slowReader struct {
	*httptest.ResponseRecorder
	meanwhile func()
}

func (r *slowReader) Write(p []byte) (int, error) {
	r.meanwhile()
	return r.ResponseRecorder.Write(p)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Callers are remembered as long as they call, and however many there are, not more than so many.
func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	r := NewREST(RESTOptions{MessagesPerSecond: 2}).callers
	claims := func(subject string) auth.Claims { return auth.Claims{Subject: subject, Role: "r"} }
	often := r.of(claims("often"))
	for i := range 3 * maxCallers {
		r.of(claims(fmt.Sprint(i)))
		if i%(maxCallers/4) == 0 && r.of(claims("often")) != often {
			t.Fatal("who calls all the time was forgotten")
		}
	}
	if n := len(r.recent) + len(r.older); n > maxCallers {
		t.Errorf("%d callers are remembered", n)
	}
	if nobody := r.of(claims("")); nobody == r.of(claims("x")) || nobody == r.of(claims("r")) || nobody == r.of(auth.Claims{Role: "s"}) {
		t.Error("callers are mistaken for each other")
	}
}
