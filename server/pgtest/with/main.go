// Command with runs a command against one throw-away Postgres that all its processes share:
//
//	go run ./server/pgtest/with go test ./...
//
// or once for each of several majors, as far as they can be had here:
//
//	go run ./server/pgtest/with -majors "14 18" go test ./...
//
// With -pgbouncer the pools of servers under test lead through PgBouncer in transaction mode.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"rowcast/server/pgtest"
)

func main() {
	majors := flag.String("majors", "", "run the command once for each of these versions of Postgres, such as \"14 18\"")
	pooled := flag.Bool("pgbouncer", false, "put PgBouncer in transaction mode before Postgres")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: with [-majors LIST] [-pgbouncer] COMMAND [ARGUMENT...]")
		flag.PrintDefaults()
	}
	flag.Parse() // up to the command
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	var status int
	var err error
	if *majors == "" {
		status, err = run(flag.Args(), pgtest.Options{}, *pooled)
	} else {
		status, err = runEach(strings.Fields(*majors), flag.Args(), *pooled)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
	}
	os.Exit(status)
}

// run returns the command's exit status. A server that the environment names is used as it is.
func run(args []string, o pgtest.Options, pooled bool) (status int, err error) {
	// Ctrl-C reaches the command by itself; we stay until it has ended.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "PGTEST_REQUIRE=1")
	switch given := os.Getenv("TEST_DATABASE_URL") != ""; {
	case given && pooled:
		return 2, errors.New("TEST_DATABASE_URL names a server that PgBouncer cannot be put before: unset it")
	case !given:
		env, stop, err := provide(signals, o, pooled)
		if err != nil {
			return 1, err
		}
		defer func() {
			if stopped := stop(); stopped != nil {
				status, err = max(status, 1), errors.Join(err, stopped)
			}
		}()
		cmd.Env = append(cmd.Env, env...)
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start %s: %w", args[0], err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go passOn(signals, ended, cmd.Process)
	err = cmd.Wait()
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		if state := exited.Sys().(syscall.WaitStatus); state.Signaled() {
			return 128 + int(state.Signal()), nil
		}
		return exited.ExitCode(), nil
	}
	return 0, err
}

// provide starts what the command needs, unless a signal comes, and says where it is.
func provide(signals <-chan os.Signal, o pgtest.Options, pooled bool) (env []string, stop func() error, err error) {
	ctx, interrupted := context.WithCancel(context.Background())
	defer interrupted()
	started := make(chan struct{})
	defer close(started)
	go func() {
		select {
		case <-signals:
			interrupted()
		case <-started:
		}
	}()
	o.Memory, o.Progress = true, os.Stderr
	cluster, err := pgtest.Start(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(os.Stderr, "with: %s; look inside: %s\n", cluster.Source, cluster.Psql("postgres", "postgres"))
	env = []string{"TEST_DATABASE_URL=" + cluster.URL("postgres", "postgres")}
	if !pooled {
		return append(env, pgtest.SharedBy+"=with"), cluster.Stop, nil
	}
	bouncer, err := pgtest.StartPgBouncer(ctx, cluster, "transaction", os.Stderr)
	if err != nil {
		return nil, nil, errors.Join(err, cluster.Stop())
	}
	env = append(env, "TEST_POOLER_URL="+bouncer.URL("postgres", "postgres"))
	return env, func() error { return errors.Join(bouncer.Stop(), cluster.Stop()) }, nil
}

// passOn gives the command what was sent to us alone, until it has ended.
func passOn(signals <-chan os.Signal, ended <-chan struct{}, to *os.Process) {
	for {
		select {
		case sig := <-signals:
			if sig != os.Interrupt {
				_ = to.Signal(sig)
			}
		case <-ended:
			return
		}
	}
}
