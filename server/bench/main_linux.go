package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are what the command line can say.
type options struct {
	only    string
	quick   bool
	profile string
}

// allSeries in the order in which they run.
var allSeries = []struct {
	name string
	run  func(*bench) (section, error)
	soak bool // only if it is asked for: it looks for faults
}{
	{"fanout", (*bench).fanout, false},
	{"sweep", (*bench).sweep, false},
	{"idle", (*bench).idle, false},
	{"join", (*bench).join, false},
	{"decisions", (*bench).decisions, false},
	{"storm", (*bench).storm, false},
	{"revoke", (*bench).revoke, false},
	{"send", (*bench).send, false},
	{"changes", (*bench).changes, false},
	{"large", (*bench).large, false},
	{"crowd", (*bench).crowd, true},
}

func main() {
	if len(os.Args) > 1 {
		if part, ok := parts[os.Args[1]]; ok {
			exit(part(os.Args[2:]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cleared, err := run(ctx, os.Args[1:], os.Stdout)
	if err == nil && !cleared {
		os.Exit(1) // the table says why
	}
	exit(err)
}

// parts are what the run starts as processes of their own.
var parts = map[string]func(args []string) error{
	"floor": func([]string) error { return runFloor(os.Stdout) },
	"plain": func([]string) error { return runPlain(os.Stdout) },
	"load":  func([]string) error { return runGenerator(os.Stdin, os.Stdout) },
	"pin":   pinned,
}

// errUsage is a command line that means nothing.
var errUsage = errors.New("wrong usage")

func exit(err error) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// run measures and prints.
func run(ctx context.Context, args []string, out io.Writer) (cleared bool, err error) {
	var names, usual []string
	for _, s := range allSeries {
		names = append(names, s.name)
		if !s.soak {
			usual = append(usual, s.name)
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	var o options
	flags.StringVar(&o.only, "only", "", "comma-separated `series` of "+strings.Join(names, ",")+" (default all but crowd)")
	flags.BoolVar(&o.quick, "quick", false, "measure for a shorter time: to see that it works, not to judge")
	flags.StringVar(&o.profile, "profile", "", "put CPU profiles of fanout and changes into `directory`")
	if err := flags.Parse(args); err != nil {
		return false, fmt.Errorf("%w: %w", errUsage, err)
	}
	chosen := usual
	if o.only != "" {
		chosen = strings.Split(o.only, ",")
	}
	for _, name := range append(chosen, flags.Args()...) {
		if !slices.Contains(names, name) {
			return false, fmt.Errorf("%w: there is no series %q; there are %s", errUsage, name, strings.Join(names, ", "))
		}
	}
	n, err := cores()
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "rowcast-bench-")
	if err != nil {
		return false, fmt.Errorf("make a scratch directory: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, options: o, dir: dir, progress: os.Stderr}
	defer b.close()
	if err := b.prepare(); err != nil {
		return false, err
	}
	if err := b.printHead(out, n); err != nil {
		return false, err
	}
	cleared = true
	for _, s := range allSeries {
		if !slices.Contains(chosen, s.name) {
			continue
		}
		found, err := s.run(b)
		if ctx.Err() != nil {
			return false, errors.New("interrupted")
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		cleared = found.print(out) && cleared
	}
	if b.noisy > 0 {
		fmt.Fprintf(out, "\n* Others used more than %g cores beside a measurement; so it was with %d of all, which were kept.\n", quietLimit, b.noisy)
	}
	return cleared, nil
}
