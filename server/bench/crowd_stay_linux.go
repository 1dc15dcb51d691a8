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
	// keptMost and grownMost are parts of the peak: what may stay in RAM when all have gone, and by how much that may be more
	// after the second time. The first is what Go's runtime keeps, and is not used up again; the second would be a leak.
	keptMost, grownMost = 0.5, 0.1
	// goroutinesMost is for connections to the database that come and go.
	goroutinesMost = 10
	// linesMost is how much of the log is for each socket of both crowds. Nothing is wrong, so nothing is to be said.
	linesMost = 0.01
)

// remains are what a server has when nobody is there.
type remains struct {
	kb         float64 // of RSS
	goroutines float64
	lines      int // written to its log until then
}

// stay is what a server kept of two crowds.
type stay struct{ before, once, twice remains }

func (s stay) bars(peak float64, sockets int) []bar {
	kept := func(from, to remains) float64 { return max(0, to.kb-from.kb) / (peak * float64(sockets)) }
	return []bar{
		{what: "memory kept when all have gone / peak", figure: kept(s.before, s.once), limit: keptMost, atMost: true},
		{what: "memory kept more after the second time / peak", figure: kept(s.once, s.twice), limit: grownMost, atMost: true},
		{what: "goroutines kept", figure: max(0, s.twice.goroutines-s.before.goroutines), limit: goroutinesMost, atMost: true},
		{what: "log lines for each socket", figure: float64(s.twice.lines-s.before.lines) / float64(2*sockets), limit: linesMost, atMost: true},
	}
}

func (s stay) String() string {
	mb := func(r remains) string { return figure(r.kb / 1024) }
	return fmt.Sprintf("When nobody was there, the server had %s MB before, %s after the first crowd, %s after the second; goroutines %g, %g, %g.",
		mb(s.before), mb(s.once), mb(s.twice), s.before.goroutines, s.once.goroutines, s.twice.goroutines)
}

func (b *bench) remains(t *target) (r remains, err error) {
	if r.kb, err = b.collect(t); err != nil {
		return r, err
	}
	counts, err := t.counts(b.ctx)
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
