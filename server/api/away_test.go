package api

import (
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

// Bodies take their time: a server that stops serving meanwhile sends nothing, as nobody would hear it.
func TestNothingIsSentByAServerThatHasGone(t *testing.T) {
	t.Parallel()
	gone := ""
	s := NewREST(RESTOptions{Logger: slog.New(slog.DiscardHandler), Metrics: metrics.New(), Away: func() string { return gone }}) // without a hub
	for name, send := range map[string]func(c *call) answer{`{}`: s.single, `{"messages":[{"topic":"t","event":"e","payload":{}}]}`: s.batch} {
		gone = ""
		body := io.MultiReader(strings.NewReader(name), whenRead(func() { gone = "Server is restarting" }))
		c := &call{Request: httptest.NewRequest(http.MethodPost, "/", body), w: httptest.NewRecorder(), caller: s.callers.of(auth.Claims{Role: "r"})}
		c.SetPathValue("topic", "t")
		c.SetPathValue("event", "e")
		if a := send(c); a.status != http.StatusServiceUnavailable || a.code != protocol.RealtimeRestarting {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// whenRead is an empty end of a body.
type whenRead func()

func (f whenRead) Read([]byte) (int, error) { f(); return 0, io.EOF }
