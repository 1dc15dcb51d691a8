package main

import (
	"fmt"
	"time"
)

const (
	// stormSockets come back at the same time, as after a restart, each with a token of its own.
	stormSockets = 10_000
	stormPool    = 10
	// stormMost is within what a client waits for the answer to a join, three times.
	stormMost = 3 * time.Second
)

// storm has everybody join a private channel at once. The time of each is from the beginning of all to its answer.
func (b *bench) storm() (section, error) {
	sockets := stormSockets
	if b.options.quick {
		sockets = 1000
	}
	s := section{
		title: fmt.Sprintf("A storm of joins, all cores: %d distinct users connect at once and join private channels, on a pool of %d", sockets, stormPool),
		rows:  [][]string{{"", "p50 ms", "p99 ms", "joins/s", "server's cores"}},
	}
	if err := b.sample(); err != nil {
		return s, err
	}
	server, err := b.rowcast(anyCore, fmt.Sprint("POOL_SIZE=", stormPool))
	if err != nil {
		return s, err
	}
	defer server.stop()
	sessions, _, err := members(sockets, peopleRooms)
	if err != nil {
		return s, err
	}
	b.say("%d joins at once", sockets)
	b.awaitQuiet()
	g, err := b.generator(server, plan{Sessions: sessions, Private: true, AtOnce: sockets}, anyCore)
	if err != nil {
		return s, err
	}
	defer g.stop()
	ready, err := g.expect(reportReady)
	if err == nil {
		_, err = g.release()
	}
	if err != nil {
		return s, err
	}
	s.rows = append(s.rows, []string{
		"private joins", milliseconds(ready.P50), milliseconds(ready.P99),
		figure(float64(sockets) / ready.Seconds), figure(ready.ServerCPU / ready.Seconds),
	})
	s.bars = []bar{{what: "p99 of a join in the storm", figure: float64(ready.P99.Milliseconds()), limit: float64(stormMost.Milliseconds()), atMost: true, unit: " ms"}}
	return s, nil
}
