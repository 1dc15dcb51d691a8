package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	sweepSockets = 1000
	// multiple of the rate at which plain loses its clients that must leave Rowcast untouched.
	multiple = 4
)

// sweepRates are publications a second.
var sweepRates = []float64{100, 200, 400, 800}

// sweep is an open loop: publications come at a steady rate, whatever becomes of them, and their latency counts from
// when they were due. A server that does not keep up loses its clients, or makes them wait.
func (b *bench) sweep() (section, error) {
	s := section{
		title: "Open loop, 1 to 1,000, one core: latency and losses by offered deliveries a second",
		rows: [][]string{{"offered", "rowcast p99 / floor p99", "floor p50/p99 ms", "rowcast p50/p99 ms", "plain p50/p99 ms",
			"rowcast lost", "rowcast cut", "plain lost", "plain cut"}},
	}
	servers, err := b.startTrio()
	if err != nil {
		return s, err
	}
	defer servers.stop()
	token, err := mint("anon", "")
	if err != nil {
		return s, err
	}
	at := func(t *target, rate float64) (report, error) {
		b.say("%s at %s deliveries/s", t.name, figure(rate*sweepSockets))
		m, err := b.measure(t, plan{
			Sessions: spread(sweepSockets, 1, token), Rate: rate,
			Warm: b.pick(700*time.Millisecond, 300*time.Millisecond), Window: b.pick(3*time.Second, time.Second),
		})
		return m.done, err
	}
	plain, breaks, err := breaking(func(rate float64) (report, error) { return at(servers.plain, rate) })
	if err != nil {
		return s, err
	}
	rates := slices.Clone(sweepRates)
	if breaks != 0 && !slices.Contains(rates, multiple*breaks) {
		rates = append(rates, multiple*breaks)
		slices.Sort(rates)
	}
	for _, rate := range rates {
		floor, err := at(servers.floor, rate)
		if err != nil {
			return s, err
		}
		own, err := at(servers.rowcast, rate)
		if err != nil {
			return s, err
		}
		row := []string{figure(rate * sweepSockets), figure(float64(own.P99) / float64(floor.P99)), floor.latency(), own.latency(), "",
			fmt.Sprint(own.Lost), fmt.Sprint(own.Cut), "", ""}
		if p, ok := plain[rate]; ok {
			row[4], row[7], row[8] = p.latency(), fmt.Sprint(p.Lost), fmt.Sprint(p.Cut)
		}
		s.rows = append(s.rows, row)
		if rate == multiple*breaks {
			s.bars = append(s.bars, bar{
				what:   fmt.Sprintf("deliveries lost at %s/s, %d times where plain breaks (%s/s)", figure(rate*sweepSockets), multiple, figure(breaks*sweepSockets)),
				figure: float64(own.Lost), atMost: true,
			})
			if floor.broken() {
				s.notes = append(s.notes, fmt.Sprintf("At that rate the floor itself loses %d: the machine cannot do it.", floor.Lost))
			}
		}
	}
	if breaks == 0 {
		s.notes = append(s.notes, "Plain lost nothing at any of these rates, so there is no bar.")
	}
	return s, nil
}

// breaking tries all rates, and one more, to know better where a server begins to lose; 0: nowhere.
func breaking(try func(float64) (report, error)) (tried map[float64]report, breaks float64, err error) {
	tried = map[float64]report{}
	last := 0.0 // the highest rate that it kept up with
	for _, rate := range sweepRates {
		if tried[rate], err = try(rate); err != nil {
			return nil, 0, err
		}
		if tried[rate].broken() && breaks == 0 {
			breaks = rate
		} else if breaks == 0 {
			last = rate
		}
	}
	if breaks == 0 {
		return tried, 0, nil
	}
	between := (last + breaks) / 2
	if tried[between], err = try(between); err == nil && tried[between].broken() {
		breaks = between
	}
	return tried, breaks, err
}

func (r report) broken() bool { return r.Lost > 0 || r.Cut > 0 }

func (r report) latency() string { return milliseconds(r.P50) + " / " + milliseconds(r.P99) }
