// Package api is every HTTP endpoint that is not the socket: broadcasts and presence over REST, health, metrics.
//
// A request over REST makes no decision: it has Postgres asked, each time, and gives what may be sent to the hub.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Check answers one question of readiness: nil is good, an error says what is missing.
type Check struct {
	Name string
	Ask  func(context.Context) error
}

const (
	// checkTimeout is below the one second that orchestrators commonly wait.
	checkTimeout = 800 * time.Millisecond
	// answerLife spares the database: readyz needs no token, and anyone may call it.
	answerLife = 500 * time.Millisecond
)

// Health serves /livez and /readyz.
type Health struct {
	Checks []Check

	mu    sync.Mutex // guards all below; held while the checks run, so that they run once
	at    time.Time
	ready bool
	body  []byte
}

// Live answers as long as the process does.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// Ready answers 200 if every check is good, else 503; the body says what each found.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	ready, body := h.Answer(r.Context())
	respond(w, ready, body)
}

// ReadyPublic is Ready without the findings: they name hosts and users, and anyone may ask.
func (h *Health) ReadyPublic(w http.ResponseWriter, r *http.Request) {
	ready, _ := h.Answer(r.Context())
	if ready {
		respond(w, ready, []byte("{\"ready\":true}\n"))
	} else {
		respond(w, ready, []byte("{\"ready\":false}\n"))
	}
}

func respond(w http.ResponseWriter, ready bool, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body)
}

// Answer runs the checks, unless the last answer is fresh.
func (h *Health) Answer(ctx context.Context) (ready bool, body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < answerLife {
		return h.ready, h.body
	}
	// Not the caller's context alone: the answer is kept for others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	result := struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}{true, map[string]string{}}
	for _, c := range h.Checks {
		result.Checks[c.Name] = "ok"
		if err := c.Ask(ctx); err != nil {
			result.Ready = false
			result.Checks[c.Name] = err.Error()
		}
	}
	body, _ = json.Marshal(result) // strings and a bool always marshal
	h.at, h.ready, h.body = time.Now(), result.Ready, append(body, '\n')
	return h.ready, h.body
}
