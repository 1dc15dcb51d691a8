package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const (
	// quietLimit is how many cores others may use beside a measurement. Beyond it, it is made again.
	quietLimit = 0.2
	// attempts at one measurement.
	attempts = 3
	// patienceOnce and patienceTotal bound what one measurement waits for quiet, and what the whole run waits and repeats.
	patienceOnce, patienceTotal = 10 * time.Second, time.Minute
	// quietSample is long enough for 10 ms ticks to tell 0.2 cores from none.
	quietSample = 400 * time.Millisecond
)

// bench is one run.
type bench struct {
	ctx      context.Context
	options  options
	dir      string // scratch
	binary   string // the server, once built
	database *database
	sampled  bool // the database holds the sample
	progress io.Writer

	spent time.Duration // of patienceTotal
	noisy int           // measurements that were kept though others ran beside them
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}

// pick is a duration, or a shorter one where the run is to be quick.
func (b *bench) pick(usual, quick time.Duration) time.Duration {
	if b.options.quick {
		return quick
	}
	return usual
}

// measurement is what one run of the generator said.
type measurement struct{ ready, done report }

// perDelivery is the server's CPU time in microseconds.
func (m measurement) perDelivery() float64 {
	return m.done.ServerCPU * 1e6 / float64(max(1, m.done.Deliveries))
}

// measure puts load on a pinned server, in quiet if that can be had.
func (b *bench) measure(t *target, p plan) (m measurement, err error) {
	err = b.quietly("load on "+t.name, func() (others float64, err error) {
		m, err = b.load(t, p, nil)
		return m.done.OtherCPU / m.done.Seconds, err
	})
	return m, err
}

// quietly measures something, and does so again while others use too many cores beside it.
func (b *bench) quietly(what string, do func() (others float64, err error)) error {
	for attempt := 1; ; attempt++ {
		b.awaitQuiet()
		begin := time.Now()
		others, err := do()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case others <= quietLimit:
			return nil
		case attempt == attempts || b.spent > patienceTotal:
			b.noisy++
			return nil
		}
		b.spent += time.Since(begin)
		b.say("others used %.2f cores meanwhile: once more %s", others, what)
	}
}

// star marks a row of whose measurements some, since there were so many, are noisy.
func (b *bench) star(before int) string {
	if b.noisy > before {
		return " *"
	}
	return ""
}

// awaitQuiet returns once others leave the machine alone, or when patience is spent.
func (b *bench) awaitQuiet() {
	for first := b.spent; b.spent < min(patienceTotal, first+patienceOnce) && b.ctx.Err() == nil; {
		begin, busy := time.Now(), machineSeconds()
		time.Sleep(quietSample) // a measurement, not a wait for something
		took := time.Since(begin)
		if machineSeconds()-busy <= quietLimit*took.Seconds() {
			return
		}
		b.spent += took
	}
}

// load has the generator carry out a plan. measuring, where given, is called when the window begins.
func (b *bench) load(t *target, p plan, measuring func()) (measurement, error) {
	g, err := b.generator(t, p, generatorCore)
	if err != nil {
		return measurement{}, err
	}
	defer g.stop()
	var m measurement
	if m.ready, err = g.expect(reportReady); err != nil {
		return m, err
	}
	if _, err = g.expect(reportMeasure); err != nil {
		return m, err
	}
	if measuring != nil {
		measuring()
	}
	if m.done, err = g.expect(reportDone); err != nil {
		return m, err
	}
	return m, g.finish()
}

// running is a generator at work.
type running struct{ *process }

func (b *bench) generator(t *target, p plan, core int) (running, error) {
	p.Address, p.Path, p.Process = t.address, socketPath, t.pid()
	process, err := start(b.ctx, core, nil, "load")
	if err != nil {
		return running{}, err
	}
	if err := json.NewEncoder(process.in).Encode(p); err != nil {
		return running{}, fmt.Errorf("tell the generator its plan: %w: %s", err, process.errors)
	}
	return running{process}, nil
}

// expect reads the next report, which must be about this. What is sent to all comes to newcomers too, whenever they come:
// of that only decidedAgain wants to know.
func (g running) expect(about string) (report, error) {
	for {
		var r report
		line, err := g.line()
		if err == nil {
			err = json.Unmarshal([]byte(line), &r)
		}
		switch {
		case err == nil && r.About == reportAll:
			continue
		case err == nil && r.About != about:
			err = fmt.Errorf("the generator speaks of %q, not of %q", r.About, about)
		}
		return r, err
	}
}

// release ends a generator that holds sockets.
func (g running) release() (report, error) {
	if err := g.in.Close(); err != nil {
		return report{}, fmt.Errorf("release the sockets: %w", err)
	}
	r, err := g.expect(reportDone)
	if err != nil {
		return r, err
	}
	return r, g.finish()
}

// finish waits for the end of a generator that has said all.
func (g running) finish() error {
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("end the generator: %w: %s", err, g.errors)
	}
	return nil
}
