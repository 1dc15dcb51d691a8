package main

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// crowdRooms are those of sql/bench/crowd.sql, each of crowdSeats people.
	crowdRooms, crowdSeats = 500, 20
	crowdMessages          = 5 // that everyone says
	// crowdPatience is far beyond what the busiest machine needs between two frames.
	crowdPatience = 15 * time.Second
)

// crowd has many small rooms come, talk all at once and go: without presence and with it, and with it once more on the same
// server, to see what of it stays behind. Nothing is pinned, so that there is something to go wrong.
func (b *bench) crowd() (section, error) {
	if b.options.quick {
		return b.crowdOf(10)
	}
	return b.crowdOf(crowdRooms)
}

func (b *bench) crowdOf(rooms int) (section, error) {
	sockets := rooms * crowdSeats
	s := section{
		title: fmt.Sprintf("A crowd, all cores: %d sockets in %d private rooms, %d broadcasts each, %d deliveries at once",
			sockets, rooms, crowdMessages, sockets*crowdSeats*crowdMessages),
		rows: [][]string{{"", "CPU µs a join", "floor / own", "CPU µs a delivery", "floor / own", "KB a socket after a GC", "at the peak"}},
	}
	if err := b.sample(); err != nil {
		return s, err
	}
	sessions, err := b.guests(rooms)
	if err != nil {
		return s, err
	}
	first, err := b.visitFresh("floor", sessions)
	if err != nil {
		return s, err
	}
	quiet, err := b.visitFresh("rowcast", sessions)
	if err != nil {
		return s, err
	}
	present, stay, err := b.visitTwice(sessions)
	if err != nil {
		return s, err
	}
	last, err := b.visitFresh("floor", sessions)
	if err != nil {
		return s, err
	}
	floor := first
	floor.join, floor.delivery = (first.join+last.join)/2, (first.delivery+last.delivery)/2
	for _, row := range []struct {
		name string
		visited
	}{{"floor", floor}, {"rowcast, without presence", quiet}, {"rowcast, with presence", present}} {
		s.rows = append(s.rows, []string{row.name, figure(row.join), ratio(floor.join, row.join),
			figure(row.delivery), ratio(floor.delivery, row.delivery), figure(row.settled), figure(row.peak)})
	}
	s.bars, s.notes = stay.bars(present.peak, sockets), append(present.notes(sockets), stay.String())
	return s, nil
}

// guests are the people of sql/bench/crowd.sql. They come to all rooms in turns, so that each fills slowly.
func (b *bench) guests(rooms int) ([]session, error) {
	conn, err := pgx.Connect(b.ctx, b.database.admin)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(b.ctx)
	if _, err := conn.Exec(b.ctx, question("crowd")); err != nil {
		return nil, fmt.Errorf("fill the rooms: %w", err)
	}
	var sessions []session
	for seat := range crowdSeats {
		for room := range rooms {
			token, err := mint("authenticated", personID(room*crowdSeats+seat))
			if err != nil {
				return nil, err
			}
			sessions = append(sessions, session{fmt.Sprintf("realtime:room:%d", 2000+room), token, seatKey(seat, crowdSeats)})
		}
	}
	return sessions, nil
}

// visited is what a crowd was to a server.
type visited struct {
	arrived, talked, halved, departed report
	join, delivery                    float64 // microseconds of CPU time
	settled, peak                     float64 // KB of RSS a socket
}

// visitFresh has a crowd without presence visit a server that nobody has used.
func (b *bench) visitFresh(name string, sessions []session) (v visited, err error) {
	t, err := b.fresh(name, anyCore)
	if err != nil {
		return v, err
	}
	defer t.stop()
	alone := make([]session, len(sessions))
	for i, s := range sessions {
		alone[i] = session{Topic: s.Topic, Token: s.Token}
	}
	base, err := b.collect(t)
	if err != nil {
		return v, err
	}
	return b.visit(t, plan{Sessions: alone, Private: true, Crowd: &crowding{Messages: crowdMessages, Patience: crowdPatience}}, base)
}

// visitTwice has a crowd with presence visit a server, and once more when it has gone.
func (b *bench) visitTwice(sessions []session) (v visited, left stay, err error) {
	t, err := b.rowcast(anyCore)
	if err != nil {
		return v, left, err
	}
	defer t.stop()
	if left.before, err = b.remains(t); err != nil {
		return v, left, err
	}
	p := plan{Sessions: sessions, Private: true, Crowd: &crowding{Presence: true, Messages: crowdMessages, Patience: crowdPatience}}
	if v, err = b.visit(t, p, left.before.kb); err != nil {
		return v, left, err
	}
	if left.once, err = b.emptied(t); err != nil {
		return v, left, err
	}
	if _, err = b.visit(t, p, left.before.kb); err != nil {
		return v, left, fmt.Errorf("the second time: %w", err)
	}
	left.twice, err = b.emptied(t)
	return v, left, err
}

// visit has a crowd visit a server, whose RSS was base before.
func (b *bench) visit(t *target, p plan, base float64) (v visited, err error) {
	n := float64(len(p.Sessions))
	b.say("%.0f guests of %s, presence: %t", n, t.name, p.Crowd.Presence)
	b.awaitQuiet()
	g, err := b.generator(t, p, anyCore)
	if err != nil {
		return v, err
	}
	defer g.stop()
	phases := []struct {
		about string
		into  *report
	}{{reportReady, &v.arrived}, {reportTalked, &v.talked}, {reportHalved, &v.halved}, {reportDone, &v.departed}}
	if !p.Crowd.Presence {
		phases = phases[:2]
	}
	for _, phase := range phases {
		r, err := g.expect(phase.about)
		if err != nil {
			return v, err
		}
		*phase.into = r
		if r.Cut > 0 {
			return v, fmt.Errorf("%s: %s: %d sockets were ended; the first: %s", t.name, phase.about, r.Cut, r.Why)
		}
		if r.Faults.any() {
			return v, fmt.Errorf("%s: %s: %s", t.name, phase.about, &r.Faults)
		}
		if phase.about != reportReady {
			continue
		}
		kb, err := b.collect(t)
		if err != nil {
			return v, err
		}
		v.settled = (kb - base) / n
		if _, err := fmt.Fprintln(g.in); err != nil {
			return v, fmt.Errorf("tell the generator to go on: %w", err)
		}
	}
	kb, err := peakKB(t.pid())
	if err != nil {
		return v, err
	}
	v.join, v.delivery, v.peak = v.arrived.ServerCPU*1e6/n, v.talked.ServerCPU*1e6/float64(v.talked.Deliveries), (kb-base)/n
	return v, g.finish()
}

// notes are what presence told, and how fast.
func (v visited) notes(sockets int) (notes []string) {
	for _, phase := range []struct {
		name, cause string
		report
	}{{"joins", "the last track", v.arrived}, {"burst", "the last track", v.talked}, {"half leave", "the first left", v.halved}} {
		n, t := float64(sockets), phase.Told
		notes = append(notes, fmt.Sprintf("Presence, %s: %s frames a socket and %s KB; %s frames if each change were one. In %s s; all knew who was there %s ms after %s.",
			phase.name, figure(float64(t.Frames)/n), figure(float64(t.Bytes)/1024/n), figure(float64(t.Changes)/n),
			figure(phase.Seconds), milliseconds(phase.Settled), phase.cause))
	}
	return notes
}

// ratio is of CPU times, and empty where one is too short to be seen.
func ratio(floor, own float64) string {
	if floor == 0 || own == 0 {
		return ""
	}
	return figure(floor / own)
}
