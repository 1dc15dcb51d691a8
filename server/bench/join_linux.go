package main

import (
	"fmt"
	"slices"
)

// joinedSockets connect, upgrade and join a public room, 128 at a time.
const joinedSockets = 5000

// join is what a connection costs that comes, beside the floor's.
func (b *bench) join() (section, error) {
	s := section{
		title: fmt.Sprintf("Connect and join, %d sockets into %d public rooms, one core: the floor's CPU time / own", joinedSockets, idleRooms),
		rows:  [][]string{{"", "ratio", "from", "to", "CPU µs", "joins/s", "own / floor"}},
	}
	servers, err := b.startTrio()
	if err != nil {
		return s, err
	}
	defer servers.stop()
	rounds := 3
	if b.options.quick {
		rounds = 1
	}
	noisy := b.noisy
	var floors, floorRates []float64
	cpu, rates, ratios := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	floor := func() error {
		m, err := b.joins(servers.floor, servers.token)
		floors, floorRates = append(floors, m.ServerCPU), append(floorRates, joinedSockets/m.Seconds)
		return err
	}
	if err := floor(); err != nil {
		return s, err
	}
	for range rounds {
		for _, t := range []*target{servers.plain, servers.rowcast} {
			m, err := b.joins(t, servers.token)
			if err == nil {
				err = floor()
			}
			if err != nil {
				return s, err
			}
			n := len(floors)
			cpu[t.name], rates[t.name] = append(cpu[t.name], m.ServerCPU), append(rates[t.name], joinedSockets/m.Seconds)
			ratios[t.name] = append(ratios[t.name], (floors[n-2]+floors[n-1])/2/m.ServerCPU)
		}
	}
	each := func(seconds []float64) string { return figure(median(seconds) * 1e6 / joinedSockets) }
	s.rows = append(s.rows, []string{"floor", "1.00", "", "", each(floors), figure(median(floorRates)), "1.00"})
	for _, name := range []string{"plain", "rowcast"} {
		r := ratios[name]
		s.rows = append(s.rows, []string{
			name + b.star(noisy), figure(median(r)), figure(slices.Min(r)), figure(slices.Max(r)), each(cpu[name]),
			figure(median(rates[name])), figure(median(rates[name]) / median(floorRates)),
		})
	}
	return s, nil
}

// joins is one run of them.
func (b *bench) joins(t *target, token string) (ready report, err error) {
	b.say("%d joins on %s", joinedSockets, t.name)
	err = b.quietly("joins on "+t.name, func() (others float64, err error) {
		g, err := b.generator(t, plan{Sessions: spread(joinedSockets, idleRooms, token)}, generatorCore)
		if err != nil {
			return 0, err
		}
		defer g.stop()
		if ready, err = g.expect(reportReady); err != nil {
			return 0, err
		}
		_, err = g.release()
		return ready.OtherCPU / ready.Seconds, err
	})
	return ready, err
}
