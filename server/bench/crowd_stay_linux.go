package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// emptyPatience is what a server is given to forget those who have left.
	emptyPatience = 10 * time.Second
	// keptMost and grownMost are parts of the RSS at the peak: how much memory may be in use when all have gone, for maps that
	// do not shrink and pools, and by how much that may be more after the second time, which would be a leak. Not how much is
	// in RAM: how fast Go's runtime gives back what is not in use depends on how busy the machine is.
	keptMost, grownMost = 0.2, 0.05
	// goroutinesMost is for connections to the database that come and go.
	goroutinesMost = 10
	// linesMost is how much of the log is for each socket of both crowds. Nothing is wrong, so nothing is to be said.
	linesMost = 0.01
)

// remains are what a server has when nobody is there.
type remains struct {
	kb         float64 // of RSS
	used       float64 // of it by heap and stacks after a GC
	goroutines float64
	lines      int // written to its log until then
}

// stay is what a server kept of two crowds.
type stay struct{ before, once, twice remains }

func (s stay) bars(peak float64, sockets int) []bar {
	kept := func(from, to remains) float64 { return max(0, to.used-from.used) / (peak * float64(sockets)) }
	return []bar{
		{what: "memory in use when all have gone, beyond the beginning / peak", figure: kept(s.before, s.once), limit: keptMost, atMost: true},
		{what: "memory in use beyond that after the second time / peak", figure: kept(s.once, s.twice), limit: grownMost, atMost: true},
		{what: "goroutines beyond the beginning", figure: max(0, s.twice.goroutines-s.before.goroutines), limit: goroutinesMost, atMost: true},
		{what: "log lines for each socket", figure: float64(s.twice.lines-s.before.lines) / float64(2*sockets), limit: linesMost, atMost: true},
	}
}

func (s stay) String() string {
	mb := func(kb float64) string { return figure(kb / 1024) }
	return fmt.Sprintf("When nobody was there, before, after the first crowd, and after the second: %s, %s, %s MB of RSS; %s, %s, %s MB in use; %g, %g, %g goroutines.",
		mb(s.before.kb), mb(s.once.kb), mb(s.twice.kb), mb(s.before.used), mb(s.once.used), mb(s.twice.used),
		s.before.goroutines, s.once.goroutines, s.twice.goroutines)
}

func (b *bench) remains(t *target) (r remains, err error) {
	if r.kb, err = b.collect(t); err != nil {
		return r, err
	}
	counts, err := t.counts(b.ctx)
	r.used = (counts["go_memstats_heap_inuse_bytes"] + counts["go_memstats_stack_inuse_bytes"]) / 1024
	r.goroutines, r.lines = counts["go_goroutines"], t.errors.lines()
	return r, err
}

// emptied waits until a server holds nothing any more of those who have left.
func (b *bench) emptied(t *target) (remains, error) {
	ctx, cancel := context.WithTimeout(b.ctx, emptyPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		counts, err := t.counts(ctx)
		if err != nil {
			return remains{}, fmt.Errorf("read what is left: %w", err)
		}
		sockets, channels, members := counts["realtime_sockets"], counts["realtime_channels"], counts["realtime_presence_tracked"]
		if sockets+channels+members == 0 {
			return b.remains(t)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return remains{}, fmt.Errorf("all have left, and after %s there are %g sockets, %g channels, %g members present", emptyPatience, sockets, channels, members)
		}
	}
}

// counts are a server's metrics, each summed over its labels.
func (t *target) counts(ctx context.Context) (map[string]float64, error) {
	text, err := t.ask(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return parseCounts(string(text))
}

func parseCounts(text string) (map[string]float64, error) {
	counts := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(line)
		name, value := line[:strings.IndexAny(line+" ", "{ ")], line[strings.LastIndexByte(line, ' ')+1:]
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %q", line)
		}
		counts[name] += n
	}
	return counts, nil
}
