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
	scavengeTime = time.Second
)

// idle has many sockets join and do nothing. The server is fresh, so that its memory is theirs.
//
// What the kernel keeps for a socket is in no process's RSS.
func (b *bench) idle() (section, error) {
	s := section{
		title: fmt.Sprintf("%s idle sockets in %d rooms, one core: KB of RSS each, beside plain; what it took them to connect and join, beside the floor", figure(idleSockets), idleRooms),
		rows:  [][]string{{"", "KB each", "plain / own", "after GC", "plain / own", "joins/s", "own / floor", "CPU µs per join", "floor / own"}},
	}
	token, err := mint("anon", "")
	if err != nil {
		return s, err
	}
	found := map[string]settled{}
	for _, name := range []string{"floor", "plain", "rowcast"} {
		b.say("%d idle sockets on %s", idleSockets, name)
		t, err := b.fresh(name)
		if err != nil {
			return s, err
		}
		found[name], err = b.settle(t, spread(idleSockets, idleRooms, token))
		t.stop()
		if err != nil {
			return s, err
		}
	}
	floor, plain, own := found["floor"], found["plain"], found["rowcast"]
	for _, name := range []string{"floor", "plain", "rowcast"} {
		f := found[name]
		s.rows = append(s.rows, []string{
			name, figure(f.kb), figure(plain.kb / f.kb), figure(f.collected), figure(plain.collected / f.collected),
			figure(f.joins), figure(f.joins / floor.joins), figure(f.cpu), figure(floor.cpu / f.cpu),
		})
	}
	s.bars = []bar{{what: "RSS of an idle socket after a forced GC", figure: own.collected, limit: idleMost, atMost: true, unit: " KB"}}
	s.notes = []string{"Memory that the kernel keeps for sockets (some 5 KB each) is in no RSS."}
	return s, nil
}

// fresh starts a server that nobody has used.
func (b *bench) fresh(name string) (*target, error) {
	if name == "rowcast" {
		return b.rowcast(serverCore)
	}
	return b.peer(name)
}

// settled is what one server's idle sockets cost.
type settled struct {
	kb, collected float64 // RSS each, before and after a GC
	joins, cpu    float64 // a second; µs each
}

// collect has a server's runtime collect garbage, with default settings, and returns what it then has in RAM, once it has
// given back to the kernel what it will. What the runtime keeps for later is part of it.
func (b *bench) collect(t *target) (kb float64, err error) {
	if t.admin != "" { // the floor has nothing to collect
		for range 2 { // the first runs finalizers, which free more
			if _, err := t.ask(b.ctx, "/debug/pprof/heap?gc=1"); err != nil {
				return 0, fmt.Errorf("force a collection: %w", err)
			}
		}
	}
	const shrinking = 0.99 // of what it was
	if kb, err = residentKB(t.pid()); err != nil {
		return 0, err
	}
	for last := 2 * kb; kb < last*shrinking && b.ctx.Err() == nil; {
		time.Sleep(scavengeTime)
		last = kb
		if kb, err = residentKB(t.pid()); err != nil {
			return 0, err
		}
	}
	return kb, nil
}

func (b *bench) settle(t *target, sessions []session) (settled, error) {
	b.awaitQuiet()
	n := float64(len(sessions))
	base, err := b.collect(t)
	if err != nil {
		return settled{}, err
	}
	g, err := b.generator(t, plan{Sessions: sessions}, generatorCore)
	if err != nil {
		return settled{}, err
	}
	defer g.stop()
	ready, err := g.expect(reportReady)
	if err != nil {
		return settled{}, err
	}
	time.Sleep(joinedTime)
	before, err := residentKB(t.pid())
	if err != nil {
		return settled{}, err
	}
	after, err := b.collect(t)
	if err != nil {
		return settled{}, err
	}
	if _, err := g.release(); err != nil {
		return settled{}, err
	}
	return settled{
		kb: (before - base) / n, collected: (after - base) / n,
		joins: n / ready.JoinSeconds, cpu: ready.JoinCPU * 1e6 / n,
	}, nil
}
