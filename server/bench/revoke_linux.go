package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	revokeSessions = 10_000
	revokeRooms    = 100
	// revokeStep is between a revocation and the next bare NOTIFY, and sendEvery between messages from the database, of
	// which each goes to a room of 100.
	revokeStep, sendEvery = 10 * time.Millisecond, 20 * time.Millisecond
	// revokeMost is how many times a bare NOTIFY's latency a revocation may take, at the 99th percentile.
	revokeMost = 10
	// effectPatience is what the last revocations are given to arrive.
	effectPatience = 10 * time.Second
)

// revoke takes rights away while messages flow. The latency is from when the client that revokes has its COMMIT answered
// to when the session's socket is told that its channel is closed; nothing of the channel follows that. Beside it, in
// turns: from a bare NOTIFY's COMMIT to when a listener has it. What arrives before the answer took no time.
func (b *bench) revoke() (section, error) {
	if b.options.quick {
		return b.revokeSome(revokeSessions, 100)
	}
	return b.revokeSome(revokeSessions, 600)
}

func (b *bench) revokeSome(all, count int) (section, error) {
	s := section{
		title: fmt.Sprintf("Revocation, ms from COMMIT to the end of the session, all cores: %d of %d private sessions, while the database sends %s messages a second to rooms of %d",
			count, all, figure(float64(time.Second/sendEvery)), all/revokeRooms),
		rows: [][]string{{"", "p50", "p99", "most", "before the answer"}},
	}
	if err := b.sample(); err != nil {
		return s, err
	}
	if err := b.ask("watch"); err != nil {
		return s, err
	}
	server, err := b.rowcast(anyCore)
	if err != nil {
		return s, err
	}
	defer server.stop()
	sessions, persons, err := members(all, revokeRooms)
	if err != nil {
		return s, err
	}
	b.say("%d private sessions", len(sessions))
	g, err := b.generator(server, plan{Sessions: sessions, Private: true}, anyCore)
	if err != nil {
		return s, err
	}
	defer g.stop()
	if _, err := g.expect(reportReady); err != nil {
		return s, err
	}
	b.awaitQuiet()
	b.say("%d revocations", count)
	ended := make(chan error, 1)
	go func() { ended <- g.endings(count) }()
	r, err := b.revocations(persons[:count])
	if err != nil {
		return s, err
	}
	select {
	case err := <-ended:
		if err != nil {
			return s, err
		}
	case <-time.After(effectPatience):
		return s, fmt.Errorf("not all revoked sessions have ended after %s", effectPatience)
	}
	c, err := b.revokeCoarsely(server, g, persons[count:], all)
	if err != nil {
		return s, err
	}
	last, err := g.release()
	if err != nil {
		return s, err
	}
	if err := c.judge(r, last.Ends); err != nil {
		return s, err
	}
	cuts := newWaits(r.cut, func(i int) time.Time { return time.Unix(0, last.Ends[i].Closed) })
	notices := r.notices()
	for _, row := range []struct {
		name string
		waits
	}{{"revocation", cuts}, {"bare NOTIFY", notices}} {
		s.rows = append(s.rows, []string{row.name, milliseconds(row.at(0.5)), milliseconds(row.at(0.99)), milliseconds(row.at(1)), strconv.Itoa(row.early)})
	}
	s.notes = c.notes(newWaits(c.cut, func(i int) time.Time { return time.Unix(0, last.Ends[count+i].Closed) }), all)
	s.bars = []bar{{
		what: "p99 of a revocation / p99 of a bare NOTIFY", figure: float64(cuts.at(0.99)) / float64(notices.at(0.99)), limit: revokeMost, atMost: true,
	}}
	return s, nil
}

// endings waits until so many sessions have ended.
func (g running) endings(count int) error {
	for range count {
		if _, err := g.expect(reportEnded); err != nil {
			return err
		}
	}
	return nil
}

// revoked is when the COMMITs were answered, and when the bare notifications were heard.
type revoked struct {
	cut, said, heard []time.Time
}

func (b *bench) revocations(persons []int) (r revoked, err error) {
	conns, done, err := dial(b.ctx, b.database.admin, 3)
	if err != nil {
		return r, err
	}
	defer done()
	writer, sender, listener := conns[0], conns[1], conns[2]
	if _, err := listener.Exec(b.ctx, question("listen")); err != nil {
		return r, fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, effectPatience+time.Duration(len(persons))*20*revokeStep)
	defer cancel()
	sending, quit := context.WithCancel(ctx)
	var group sync.WaitGroup
	var sent, heard error
	r.heard = make([]time.Time, len(persons))
	group.Go(func() { sent = keepSending(sending, sender) })
	group.Go(func() { heard = hearAll(ctx, listener, r.heard) })
	tick := time.NewTicker(revokeStep)
	defer tick.Stop()
	for i, person := range persons {
		<-tick.C
		if _, err = writer.Exec(ctx, question("revoke"), personID(person)); err != nil {
			break
		}
		r.cut = append(r.cut, time.Now())
		<-tick.C
		if _, err = writer.Exec(ctx, question("notify"), strconv.Itoa(i)); err != nil {
			break
		}
		r.said = append(r.said, time.Now())
	}
	if err != nil {
		cancel()
	}
	quit()
	group.Wait()
	return r, errors.Join(err, sent, heard)
}

// keepSending sends messages to the rooms in turn until ctx ends.
func keepSending(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for room := 0; ; room = (room + 1) % revokeRooms {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		// A message under way is let through: to cancel it would close the connection.
		if _, err := conn.Exec(context.WithoutCancel(ctx), question("send"), roomOf(room)); err != nil {
			return fmt.Errorf("send from the database: %w", err)
		}
	}
}

// hearAll notes when each notification came.
func hearAll(ctx context.Context, conn *pgx.Conn, at []time.Time) error {
	for range at {
		n, err := conn.WaitForNotification(ctx)
		now := time.Now()
		if err != nil {
			return fmt.Errorf("hear a notification: %w", err)
		}
		i, err := strconv.Atoi(n.Payload)
		if err != nil || i < 0 || i >= len(at) {
			return fmt.Errorf("heard %q", n.Payload)
		}
		at[i] = now
	}
	return nil
}

// waits are latencies, in order.
type waits struct {
	sorted []time.Duration
	early  int // came before the COMMIT was answered
}

func newWaits(from []time.Time, to func(i int) time.Time) (w waits) {
	for i, begin := range from {
		d := to(i).Sub(begin)
		if d < 0 {
			d = 0
			w.early++
		}
		w.sorted = append(w.sorted, d)
	}
	slices.Sort(w.sorted)
	return w
}

// at is a quantile; 1 is the longest.
func (w waits) at(q float64) time.Duration {
	if len(w.sorted) == 0 {
		return 0
	}
	return w.sorted[min(int(q*float64(len(w.sorted))), len(w.sorted)-1)]
}

func (r revoked) notices() waits {
	return newWaits(r.said, func(i int) time.Time { return r.heard[i] })
}

// cuts checks that exactly those sessions ended whose rights were taken, and that nothing followed.
func (r revoked) cuts(ends []ending) (waits, error) {
	for i, e := range ends {
		switch {
		case i < len(r.cut) && e.Closed == 0:
			return waits{}, fmt.Errorf("session %d was revoked and goes on", i)
		case i >= len(r.cut) && e.Closed != 0:
			return waits{}, fmt.Errorf("session %d was not revoked and has ended", i)
		case e.Closed != 0 && e.Heard > e.Closed:
			return waits{}, fmt.Errorf("session %d heard a broadcast after its end", i)
		}
	}
	return newWaits(r.cut, func(i int) time.Time { return time.Unix(0, ends[i].Closed) }), nil
}
