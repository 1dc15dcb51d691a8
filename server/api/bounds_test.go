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
		return s.body(c)
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
