package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// coarseRounds is how often everybody is decided again, and newcomers how many join meanwhile.
	coarseRounds = 5
	newcomers    = 500
)

// coarse is what came of changes that may concern everybody.
type coarse struct {
	cut     []time.Time // when the COMMITs were answered
	decided []float64   // milliseconds from then to when all others had what was sent afterwards
	alone   report      // joins while nothing changes
	beside  []report    // joins meanwhile
}

// revokeCoarsely takes rights away while the table is watched without a subject: nobody is given anything until it has
// been decided about again. Others join meanwhile.
func (b *bench) revokeCoarsely(server *target, held running, persons []int, all int) (c coarse, err error) {
	if err := b.ask("watch_coarsely"); err != nil {
		return c, err
	}
	conns, done, err := dial(b.ctx, b.database.admin, 1)
	if err != nil {
		return c, err
	}
	defer done()
	if c.alone, err = b.newcomers(server, all); err != nil {
		return c, err
	}
	for i, person := range persons[:min(coarseRounds, len(persons))] {
		b.say("everybody is decided again, %d of %d", i+1, coarseRounds)
		b.awaitQuiet()
		if err := c.round(b, server, held, conns[0], person, all); err != nil {
			return c, err
		}
	}
	return c, b.ask("watch")
}

func (c *coarse) round(b *bench, server *target, held running, conn *pgx.Conn, person, all int) error {
	if _, err := conn.Exec(b.ctx, question("revoke"), personID(person)); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	began := time.Now()
	c.cut = append(c.cut, began)
	var came report
	joined, heard := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		came, err = b.newcomers(server, all)
		joined <- err
	}()
	if _, err := conn.Exec(b.ctx, question("send_all"), revokeRooms); err != nil {
		return fmt.Errorf("send to all: %w", err)
	}
	var at time.Time
	go func() {
		var err error
		at, err = held.decidedAgain()
		heard <- err
	}()
	ctx, cancel := context.WithTimeout(b.ctx, joinPatience)
	defer cancel()
	for _, part := range []chan error{heard, joined} {
		select {
		case err := <-part:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("not everybody was decided again after %s", joinPatience)
		}
	}
	c.decided = append(c.decided, float64(at.Sub(began))/float64(time.Millisecond))
	c.beside = append(c.beside, came)
	return nil
}

// decidedAgain waits until one session has ended, and all others have what was sent to all.
func (g running) decidedAgain() (at time.Time, err error) {
	for ended := false; !ended || at.IsZero(); {
		var r report
		line, err := g.line()
		if err == nil {
			err = json.Unmarshal([]byte(line), &r)
		}
		switch {
		case err != nil:
			return at, err
		case r.About == reportEnded:
			ended = true
		case r.About == reportAll:
			at = time.Unix(0, r.At)
		default:
			return at, fmt.Errorf("the generator speaks of %q", r.About)
		}
	}
	return at, nil
}

// newcomers join, and leave; they are others than those who are there.
func (b *bench) newcomers(server *target, there int) (report, error) {
	sessions, _, err := members(there+min(newcomers, there), revokeRooms)
	if err != nil {
		return report{}, err
	}
	g, err := b.generator(server, plan{Sessions: sessions[there:], Private: true}, anyCore)
	if err != nil {
		return report{}, err
	}
	defer g.stop()
	ready, err := g.expect(reportReady)
	if err == nil {
		_, err = g.release()
	}
	return ready, err
}

// judge checks that those sessions ended whose rights were taken, and no others.
func (c coarse) judge(before revoked, ends []ending) error {
	before.cut = slices.Concat(before.cut, c.cut)
	_, err := before.cuts(ends)
	return err
}

func (c coarse) notes(cuts waits, all int) []string {
	var worst time.Duration
	for _, r := range c.beside {
		worst = max(worst, r.Answer)
	}
	return []string{
		fmt.Sprintf("Where the table is watched without a subject all %d are decided again. Who lost the right is cut after %s ms (median of %d; the longest %s), and all others have what was sent next after %s.",
			all, milliseconds(cuts.at(0.5)), len(c.cut), milliseconds(cuts.at(1)), figure(median(c.decided))),
		fmt.Sprintf("Joins meanwhile, %d at a time: p99 %s ms in the worst of %d; while nothing changes %s.", handshakesAtOnce, milliseconds(worst), len(c.beside), milliseconds(c.alone.Answer)),
	}
}
