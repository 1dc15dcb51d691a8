package main

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"rowcast/server/pgtest"
	"rowcast/server/postgres"
)

// Packages have defaults for what they are not told; a setting of 0 must not become one.
func TestZeroLiftsLimitsOfTime(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{0, time.Second} {
		c := Config{MaxDeaf: limit, MaxQueueAge: limit}
		deaf, age := c.hubOptions().MaxDeaf, c.socketOptions().MaxQueueAge
		if limit == 0 && (deaf >= 0 || age >= 0) || limit > 0 && (deaf != limit || age != limit) {
			t.Errorf("%v: MAX_DEAF %v, MAX_QUEUE_AGE %v", limit, deaf, age)
		}
	}
}

// A server that stops keeps nobody waiting for its last client: the lease is given up once all are told to go.
func TestLeaseIsGivenUpBeforeTheLastClientIsGone(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.New(t), nil)
	silent := r.upgrade(token(t, "u", "authenticated", nil)) // answers no close frame
	silent.alive("the handshake")
	left := -1
	r.drain(&http.Server{}, func() {
		left = r.sockets.Count()
		silent.conn.Close()
	})
	if left != 1 {
		t.Errorf("%d sockets were left when the lease was given up", left)
	}
}

// What a server that stands by has found out does not make it ready when it begins to serve: then it has to write.
func TestStandbyIsNotPrepared(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), pgtest.New(t).PoolURL, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	serving := false
	h := newHousekeeper(defaultConfig(), pool, func() bool { return serving }, slog.New(slog.DiscardHandler))
	h.keep(t.Context())
	if err := h.ready(t.Context()); err != nil {
		t.Errorf("standing by: %v", err)
	}
	serving = true
	if err := h.ready(t.Context()); !errors.Is(err, errNotPrepared) {
		t.Errorf("beginning to serve: %v", err)
	}
	h.keep(t.Context())
	if err := h.ready(t.Context()); err != nil {
		t.Errorf("serving: %v", err)
	}
}
