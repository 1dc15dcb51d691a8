package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleTime lets the joins' last work finish.
	settleTime = 300 * time.Millisecond
	// drainPatience is how long an open loop waits for deliveries while none come.
	drainPatience = 2 * time.Second
)

// runGenerator reads a plan from standard input and writes reports.
func runGenerator(in *os.File, out io.Writer) error {
	runtime.LockOSThread()
	debug.SetGCPercent(400) // there is next to nothing to collect
	var p plan
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	lines := json.NewEncoder(out)
	return generate(p, int(in.Fd()), func(r report) error { return lines.Encode(r) })
}

// reading is what is counted at the beginning and the end of the window.
type reading struct {
	at, published, deliveries, bytes int64
	server, own, machine             float64
}

func (g *generator) read() reading {
	return reading{
		time.Now().UnixNano(), g.published(), g.deliveries, g.bytes,
		processSeconds(g.plan.Process), processSeconds(os.Getpid()), machineSeconds(),
	}
}

func (g *generator) published() (n int64) {
	for _, r := range g.rooms {
		n += r.published
	}
	return n
}

// measure publishes: to warm up, in the window, and, in an open loop, waits for what is on its way.
func (g *generator) measure() error {
	if err := g.until(time.Now().Add(settleTime).UnixNano()); err != nil {
		return err
	}
	g.publishing = true
	begin := time.Now().UnixNano() + int64(g.plan.Warm)
	g.window.begin, g.window.end = begin, begin+int64(g.plan.Window)
	publish := g.until
	if g.plan.Rate > 0 {
		clock, err := g.newClock()
		if err != nil {
			return err
		}
		defer clock.close()
		publish = clock.until
	} else {
		for _, r := range g.rooms {
			g.topUp(r, time.Now().UnixNano())
		}
	}
	if err := publish(g.window.begin); err != nil {
		return err
	}
	if err := g.tell(report{About: reportMeasure}); err != nil {
		return err
	}
	first := g.read()
	if err := publish(g.window.end); err != nil {
		return err
	}
	last := g.read()
	if g.plan.Rate > 0 {
		if err := g.drain(); err != nil {
			return err
		}
	}
	return g.tell(g.report(reportDone, first, last))
}

func (g *generator) report(about string, first, last reading) report {
	r := report{
		About:     about,
		Published: last.published - first.published, Deliveries: last.deliveries - first.deliveries, Bytes: last.bytes - first.bytes,
		Seconds:   float64(last.at-first.at) / 1e9,
		ServerCPU: last.server - first.server, OwnCPU: last.own - first.own,
		Cut: g.cut, Why: g.why,
	}
	times := &g.latency
	if about == reportReady {
		times = &g.joins
	}
	r.P50, r.P99 = times.quantile(0.5), times.quantile(0.99)
	r.OtherCPU = math.Max(0, last.machine-first.machine-r.ServerCPU-r.OwnCPU)
	if g.plan.Rate > 0 {
		r.Lost = g.missing()
	}
	return r
}

// missing is what was published and not delivered.
func (g *generator) missing() (n int64) {
	for _, r := range g.rooms {
		n += r.published*r.clients - r.deliveries
	}
	return n
}

// until serves the sockets up to a time.
func (g *generator) until(end int64) error {
	for now := time.Now().UnixNano(); now < end; now = time.Now().UnixNano() {
		if err := g.turn(int((end-now)/int64(time.Millisecond)) + 1); err != nil {
			return err
		}
	}
	return nil
}

// drain waits for what is on its way, as long as something comes.
func (g *generator) drain() error {
	last, since := g.missing(), time.Now()
	for last > 0 && time.Since(since) < drainPatience && g.cut < len(g.clients) {
		if err := g.turn(50); err != nil {
			return err
		}
		if n := g.missing(); n < last {
			last, since = n, time.Now()
		}
	}
	return nil
}

// clock publishes at a steady rate, whatever the server does: each broadcast carries the time at which it was due, not
// the one at which we got round to it.
type clock struct {
	*generator
	timer  int
	period int64
	due    int64
	turnOf int // the next room
}

func (g *generator) newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	c := &clock{generator: g, timer: fd, period: int64(1e9 / g.plan.Rate)}
	every := unix.NsecToTimespec(c.period)
	err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil)
	if err == nil {
		err = g.poll.add(fd, unix.EPOLLIN)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("set a timer: %w", err)
	}
	c.due = time.Now().UnixNano() + c.period
	return c, nil
}

func (c *clock) close() { _ = unix.Close(c.timer) }

func (c *clock) until(end int64) error {
	var expirations [8]byte
	for now := time.Now().UnixNano(); now < end; now = time.Now().UnixNano() {
		read(c.timer, expirations[:])
		for ; c.due <= now; c.due += c.period {
			c.publish(c.rooms[c.turnOf], c.due)
			c.turnOf = (c.turnOf + 1) % len(c.rooms)
		}
		if err := c.turn(10); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps the sockets open until stop becomes readable, and then says how each session fared.
func (g *generator) hold(stop int) error {
	if err := g.serveUntil(stop); err != nil {
		return err
	}
	r := report{About: reportDone, Cut: g.cut, Why: g.why}
	for _, c := range g.clients {
		r.Ends = append(r.Ends, c.ending)
	}
	return g.tell(r)
}

// serveUntil serves the sockets until stop becomes readable.
func (g *generator) serveUntil(stop int) error {
	if err := g.poll.add(stop, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watch standard input: %w", err)
	}
	for {
		ready := []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 0); err != nil && err != unix.EINTR {
			return fmt.Errorf("watch standard input: %w", err)
		} else if n > 0 {
			return g.poll.remove(stop)
		}
		if err := g.turn(-1); err != nil {
			return err
		}
		if g.cut > 0 && g.plan.Crowd == nil {
			return fmt.Errorf("a socket that was held ended: %s", g.why)
		}
	}
}
