package main

import (
	"fmt"
	"time"
)

// socketChanges are told to so many sockets.
const socketChanges, socketHearers = 2000, 1000

// tellSockets has the whole server tell real sockets, each with a user of its own who sees all, and beside that relay
// broadcasts to as many.
func (b *bench) tellSockets(changes, hearers int) (note string, err error) {
	b.say("changes told to %d sockets", hearers)
	server, err := b.rowcast(anyCore, "PUBLICATION="+toldPublication)
	if err != nil {
		return "", err
	}
	defer server.stop()
	sessions, _, err := members(hearers, peopleRooms)
	if err != nil {
		return "", err
	}
	for i := range sessions {
		sessions[i].Topic = topicName(0)
	}
	broadcasts, err := b.measure(server, plan{Sessions: sessions, Outstanding: 16, Warm: b.pick(time.Second, 100*time.Millisecond), Window: b.pick(2*time.Second, 200*time.Millisecond)})
	if err != nil {
		return "", err
	}
	g, err := b.generator(server, plan{Sessions: sessions, Table: "told_all", Told: int64(changes * hearers)}, generatorCore)
	if err != nil {
		return "", err
	}
	defer g.stop()
	if _, err := g.expect(reportReady); err != nil {
		return "", err
	}
	conns, done, err := dial(b.ctx, b.database.admin, 1)
	if err != nil {
		return "", err
	}
	defer done()
	begin := time.Now()
	if _, err := conns[0].Exec(b.ctx, question("tell"), "told_all", 0, changes, 1); err != nil {
		return "", fmt.Errorf("write changes: %w", err)
	}
	told, err := g.expect(reportTold)
	if err != nil {
		return "", err
	}
	last, err := g.release()
	if err != nil {
		return "", err
	}
	took := time.Unix(0, told.At).Sub(begin).Seconds()
	all := float64(changes * hearers)
	if last.Cut > 0 {
		return "", fmt.Errorf("%d sockets were cut: %s", last.Cut, last.Why)
	}
	relayed := float64(broadcasts.done.Deliveries) / broadcasts.done.Seconds
	return fmt.Sprintf("Over %d sockets of as many users, who all see the row: %s changes/s, %s deliveries/s of %s bytes; of broadcasts, 16 on their way, the same server makes %s/s of %s bytes: ratio %s.",
		hearers, figure(float64(changes)/took), figure(all/took), figure(float64(told.Bytes)/all), figure(relayed),
		figure(float64(broadcasts.done.Bytes)/float64(max(1, broadcasts.done.Deliveries))), figure(all/took/relayed)), nil
}
