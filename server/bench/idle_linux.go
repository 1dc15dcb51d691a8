package main

import (
	"fmt"
	"time"
)

const (
	idleSockets = 10_000
	idleRooms   = 100
	idleMost    = 15 // KB of RSS for each

	// joinedTime is enough for what joining left running to end.
	joinedTime = 2 * time.Second
	// scavengeTime is in which the runtime gives back at least a hundredth of its memory, if it has any to give.
	scavengeTime = 2 * time.Second
)

// idle has many sockets join and do nothing. The server is fresh, so that its memory is theirs. What the kernel keeps for
// a socket is in no process's RSS.
func (b *bench) idle() (section, error) {
	s := section{
		title: fmt.Sprintf("%d idle sockets in %d rooms: KB of RSS for each", idleSockets, idleRooms),
		rows:  [][]string{{"", "after a GC", "plain / own", "before", "plain / own"}},
	}
	token, err := mint("anon", "")
	if err != nil {
		return s, err
	}
	names := []string{"floor", "plain", "rowcast"}
	found := map[string]settled{}
	for _, name := range names {
		b.say("%d idle sockets on %s", idleSockets, name)
		t, err := b.fresh(name, serverCore)
		if err != nil {
			return s, err
		}
		found[name], err = b.settle(t, spread(idleSockets, idleRooms, token))
		t.stop()
		if err != nil {
			return s, err
		}
	}
	for _, name := range names {
		f, plain := found[name], found["plain"]
		s.rows = append(s.rows, []string{
			name, figure(f.collected), figure(plain.collected / f.collected), figure(f.grown), figure(plain.grown / f.grown),
		})
	}
	s.bars = []bar{{what: "RSS of an idle socket after a forced GC", figure: found["rowcast"].collected, limit: idleMost, atMost: true, unit: " KB"}}
	s.notes = []string{"Memory that the kernel keeps for sockets (some 5 KB each) is in no RSS."}
	return s, nil
}

// fresh starts a server that nobody has used.
func (b *bench) fresh(name string, core int) (*target, error) {
	if name == "rowcast" {
		return b.rowcast(core)
	}
	return b.peer(name, core)
}

// settled is what a server's RSS has grown by for each idle socket, in KB, and what of it is left after a GC.
type settled struct{ grown, collected float64 }

func (b *bench) settle(t *target, sessions []session) (settled, error) {
	base, err := b.collect(t)
	if err != nil {
		return settled{}, err
	}
	g, err := b.generator(t, plan{Sessions: sessions}, generatorCore)
	if err != nil {
		return settled{}, err
	}
	defer g.stop()
	if _, err := g.expect(reportReady); err != nil {
		return settled{}, err
	}
	time.Sleep(joinedTime)
	grown, err := residentKB(t.pid())
	if err != nil {
		return settled{}, err
	}
	collected, err := b.collect(t)
	if err != nil {
		return settled{}, err
	}
	_, err = g.release()
	n := float64(len(sessions))
	return settled{(grown - base) / n, (collected - base) / n}, err
}

// collect has a server's runtime collect garbage, with default settings, and returns what it then has in RAM, once it has
// given back to the kernel what it will. What the runtime keeps for later is part of it.
func (b *bench) collect(t *target) (kb float64, err error) {
	if t.admin == "" { // the floor has nothing to collect
		return residentKB(t.pid())
	}
	for range 2 { // the first runs finalizers, which free more
		if _, err := t.ask(b.ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return 0, fmt.Errorf("force a collection: %w", err)
		}
	}
	const shrinking = 0.99 // of what it was
	if kb, err = residentKB(t.pid()); err != nil {
		return 0, err
	}
	for last := 2 * kb; kb < last*shrinking && b.ctx.Err() == nil; {
		time.Sleep(b.pick(scavengeTime, scavengeTime/10))
		last = kb
		if kb, err = residentKB(t.pid()); err != nil {
			return 0, err
		}
	}
	return kb, nil
}
