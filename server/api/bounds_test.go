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

// All bodies together have a bound: who comes when it is reached is told to come again, and has room when others are done.
func TestBodiesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	s := NewREST(RESTOptions{Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New()})
	s.bodies.limit = 5 * firstRead
	read := func(body io.Reader) ([]byte, func(), answer) {
		return s.body(&call{Request: httptest.NewRequest(http.MethodPost, "/", body), w: httptest.NewRecorder()})
	}
	large := strings.Repeat("x", 3*firstRead) // which takes four
	got, done, a := read(strings.NewReader(large))
	if a.code != "" || string(got) != large {
		t.Fatalf("%d bytes, %+v", len(got), a)
	}
	small, smallDone, a := read(strings.NewReader("{}"))
	if a.code != "" || string(small) != "{}" {
		t.Fatalf("%q, %+v", small, a)
	}
	_, busyDone, a := read(strings.NewReader("{}"))
	if a.code != protocol.ServerBusy || a.status != http.StatusTooManyRequests {
		t.Errorf("beyond the bound: %+v", a)
	}
	busyDone()
	done()
	smallDone()
	for range 3 { // nothing is lost, also where a body fails in the middle
		if _, done, a = read(io.MultiReader(strings.NewReader(large), brokenReader{})); a.code != protocol.MalformedBody {
			t.Errorf("half a body: %+v", a)
		}
		done()
	}
	if used := s.bodies.used.Load(); used != 0 {
		t.Errorf("%d bytes were not given back", used)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Callers are remembered as long as they call, and however many there are, not more than so many.
func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRates(2, 0)
	of := func(subject string) callerKey { return (&call{claims: auth.Claims{Subject: subject, Role: "r"}}).key() }
	often := r.of(of("often"))
	for i := range 3 * maxCallers {
		r.of(of(fmt.Sprint(i)))
		if i%(maxCallers/4) == 0 && r.of(of("often")) != often {
			t.Fatal("who calls all the time was forgotten")
		}
	}
	if n := len(r.recent) + len(r.older); n > maxCallers {
		t.Errorf("%d callers are remembered", n)
	}
	if of("") == of("x") || of("") == of("r") {
		t.Error("callers are mistaken for each other")
	}
}
