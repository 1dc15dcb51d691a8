package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// shapes of the fan-out, and what of the floor's efficiency must be left.
var fanouts = []struct {
	name           string
	file           string
	sockets, rooms int
	outstanding    int
	least          float64
}{
	{"1 to 1,000, one at a time", "1x1000-w1", 1000, 1, 1, 0.75},
	{"1 to 1,000, 16 on their way", "1x1000-w16", 1000, 1, 16, 0.70},
	{"10 x 1 to 100, one at a time each", "10x100-w1", 1000, 10, 1, 0.65},
}

// trio is the three servers that load is put on in turns.
type trio struct {
	floor, rowcast, plain *target
	token                 string // that all of them take
}

func (b *bench) startTrio() (t trio, err error) {
	if t.token, err = mint("anon", ""); err != nil {
		return t, err
	}
	if t.floor, err = b.peer("floor", serverCore); err != nil {
		return t, err
	}
	if t.plain, err = b.peer("plain", serverCore); err == nil {
		t.rowcast, err = b.rowcast(serverCore)
	}
	if err != nil {
		t.stop()
	}
	return t, err
}

func (t trio) stop() {
	for _, target := range []*target{t.floor, t.rowcast, t.plain} {
		if target != nil {
			target.stop()
		}
	}
}

// fanout is a closed loop: CPU time for each delivery. Every figure of a server stands between two of the floor, which
// is measured first and last.
func (b *bench) fanout() (section, error) {
	s := section{
		title: "Fan-out, one core: the floor's CPU time per delivery / own (1.00 is the least that is possible)",
		rows:  [][]string{{"load", "rowcast", "from", "to", "plain", "floor µs", "rowcast µs", "floor deliveries/s", "rowcast deliveries/s"}},
	}
	servers, err := b.startTrio()
	if err != nil {
		return s, err
	}
	defer servers.stop()
	for _, f := range fanouts {
		b.say("fan-out %s", f.name)
		noisy := b.noisy
		p := plan{
			Sessions: spread(f.sockets, f.rooms, servers.token), Outstanding: f.outstanding,
			Warm: b.pick(time.Second, 300*time.Millisecond), Window: b.pick(3*time.Second, time.Second),
		}
		r, err := b.alternate(servers, p)
		if err != nil {
			return s, err
		}
		ratio := median(r.ratios)
		s.rows = append(s.rows, []string{
			f.name + b.star(noisy), figure(ratio), figure(slices.Min(r.ratios)), figure(slices.Max(r.ratios)), figure(r.plain),
			figure(median(r.floorCPU)), figure(median(r.ownCPU)), figure(median(r.floorRate)), figure(median(r.ownRate)),
		})
		s.bars = append(s.bars, bar{what: "fan-out " + f.name, figure: ratio, limit: f.least, noisy: b.noisy > noisy})
		if b.options.profile != "" {
			if err := b.profile(servers.rowcast, p, "fanout-"+f.file); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// turns is what came of measuring in turns.
type turns struct {
	ratios, floorCPU, ownCPU, floorRate, ownRate []float64
	plain                                        float64 // ratio
}

func (b *bench) alternate(servers trio, p plan) (r turns, err error) {
	rounds := 3
	if b.options.quick {
		rounds = 1
	}
	of := func(t *target) (cpu, rate float64, err error) {
		m, err := b.measure(t, p)
		if err == nil && m.done.Cut > 0 {
			err = fmt.Errorf("%s ended %d connections: %s", t.name, m.done.Cut, m.done.Why)
		}
		return m.perDelivery(), float64(m.done.Deliveries) / m.done.Seconds, err
	}
	floor := func() error {
		cpu, rate, err := of(servers.floor)
		r.floorCPU, r.floorRate = append(r.floorCPU, cpu), append(r.floorRate, rate)
		return err
	}
	if err := floor(); err != nil {
		return r, err
	}
	for range rounds {
		cpu, rate, err := of(servers.rowcast)
		if err == nil {
			err = floor()
		}
		if err != nil {
			return r, err
		}
		n := len(r.floorCPU)
		r.ratios = append(r.ratios, (r.floorCPU[n-2]+r.floorCPU[n-1])/2/cpu)
		r.ownCPU, r.ownRate = append(r.ownCPU, cpu), append(r.ownRate, rate)
	}
	cpu, _, err := of(servers.plain)
	r.plain = r.floorCPU[len(r.floorCPU)-1] / cpu
	return r, err
}

// profile runs a plan once more, not counted, and keeps the server's CPU profile.
func (b *bench) profile(t *target, p plan, name string) error {
	p.Window += time.Second
	var text []byte
	done := make(chan error, 1)
	begin := func() {
		go func() {
			var err error
			text, err = t.ask(b.ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(p.Window.Seconds())-1))
			done <- err
		}()
	}
	if _, err := b.load(t, p, begin); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return fmt.Errorf("fetch profile: %w", err)
	}
	path := filepath.Join(b.options.profile, name+".pprof")
	if err := errors.Join(os.MkdirAll(b.options.profile, 0o755), os.WriteFile(path, text, 0o644)); err != nil {
		return fmt.Errorf("keep profile: %w", err)
	}
	b.say("profile in %s", path)
	return nil
}
