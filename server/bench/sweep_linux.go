package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	sweepSockets = 1000
	// sweepTime is enough for a queue of 256 to overflow that grows by 50 a second.
	sweepTime = 5 * time.Second
	// multiple of the rate with which plain cannot keep up that Rowcast must.
	multiple = 4
	// upToDate is what keeping up means, beside losing nothing, for the 99th percentile. A server whose queues grow is soon
	// beyond it, however long it takes to lose its first client.
	upToDate = 250 * time.Millisecond
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
	at := func(t *target, rate float64) (report, error) {
		b.say("%s at %s deliveries/s", t.name, figure(rate*sweepSockets))
		m, err := b.measure(t, plan{
			Sessions: spread(sweepSockets, 1, servers.token), Rate: rate,
			Warm: b.pick(700*time.Millisecond, 300*time.Millisecond), Window: b.pick(sweepTime, time.Second),
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
		noisy := b.noisy
		floor, err := at(servers.floor, rate)
		if err != nil {
			return s, err
		}
		own, err := at(servers.rowcast, rate)
		if err != nil {
			return s, err
		}
		row := []string{figure(rate*sweepSockets) + b.star(noisy), figure(float64(own.P99) / float64(floor.P99)), floor.latency(), own.latency(), "",
			fmt.Sprint(own.Lost), fmt.Sprint(own.Cut), "", ""}
		if p, ok := plain[rate]; ok {
			row[4], row[7], row[8] = p.latency(), fmt.Sprint(p.Lost), fmt.Sprint(p.Cut)
		}
		s.rows = append(s.rows, row)
		if rate == multiple*breaks {
			where := fmt.Sprintf("at %s deliveries/s, %d times where plain breaks", figure(rate*sweepSockets), multiple)
			s.bars = append(s.bars,
				bar{what: "lost " + where, figure: float64(own.Lost), atMost: true, noisy: b.noisy > noisy},
				bar{what: "cut " + where, figure: float64(own.Cut), atMost: true, noisy: b.noisy > noisy},
				bar{what: "p99 " + where, figure: own.P99.Seconds() * 1e3, limit: upToDate.Seconds() * 1e3, atMost: true, unit: " ms", noisy: b.noisy > noisy})
			if floor.broken() {
				s.notes = append(s.notes, "The floor itself does not keep up at that rate: the machine cannot do it.")
			}
		}
	}
	if breaks == 0 {
		s.notes = append(s.notes, "Plain kept up with all of these rates, so there is no bar.")
	}
	return s, nil
}

// breaking tries all rates, and one more, to know better where a server stops keeping up; 0: nowhere.
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

// broken is a server that did not keep up.
func (r report) broken() bool { return r.Lost > 0 || r.Cut > 0 || r.P99 > upToDate }

func (r report) latency() string { return milliseconds(r.P50) + " / " + milliseconds(r.P99) }
