package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"
)

const (
	// devAddr stands for both of its addresses, 127.0.0.1 and [::1]: what it is to a browser depends on the browser.
	devAddr = "localhost:4000"
	// devReady is how long a database that was just made may take until the server is ready; a second is usual.
	devReady = 30 * time.Second
	// devReadyEvery is how often that is asked: a person is waiting.
	devReadyEvery = 20 * time.Millisecond
	// devKeyLife outlasts any run.
	devKeyLife = 7 * 24 * time.Hour
)

// devIgnored are settings that would only keep the keys which dev prints from working, or that have no meaning here.
var devIgnored = []string{"LISTEN_DATABASE_URL", "JWT_JWKS", "JWT_JWKS_URL", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_ROLE_CLAIM", "JWT_DEFAULT_ROLE",
	"ALLOWED_ROLES", "BYPASS_ROLES", "ALLOW_SECOND_NODE"}

// devSettings are those of serve that make sense here, with defaults and words that fit.
func devSettings() []setting {
	var fitting []setting
	for _, s := range settings {
		s.required = false
		switch {
		case slices.Contains(devIgnored, s.name):
			continue
		case s.name == "DATABASE_URL":
			s.help = "a superuser's connection to a server to use instead of a throw-away one, postgres://…"
		case s.name == "JWT_SECRET":
			s.help = "the secret that tokens are signed with; empty: a random one for each run"
		case s.name == "ADDR":
			s.def = devAddr
			s.help = "where clients connect; a loopback address, localhost means both 127.0.0.1 and [::1]"
		}
		fitting = append(fitting, s)
	}
	return fitting
}

// runDev is a server to try things with, on a database that is gone afterwards.
func runDev(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("dev [flags]", `Runs a server on a throw-away Postgres with the chat sample (people, rooms, members, policies), and
prints keys to paste. Binds loopback addresses only. Ctrl-C stops everything and removes it.

Postgres is what is installed, else what apt or Docker can fetch; PGTEST_BIN=DIR or PGTEST_IMAGE=NAME says
which. With DATABASE_URL, a superuser's, that server is used: a database and a login role with a random
name are made there and dropped at the end; the roles anon, authenticated and service_role are made where
they are missing, and stay.`, devSettings())
	c, err := parseDev(flags, args, std.env)
	if err != nil {
		return err
	}
	if err := devAddressesFree(c); err != nil { // before anything is fetched or started
		return err
	}
	box, err := openSandbox(ctx, c.DatabaseURL, std.err)
	if err != nil {
		return err
	}
	return errors.Join(serveDev(ctx, c, box, std), box.close())
}

// parseDev reads the settings and refuses what would let others in.
func parseDev(flags *commandFlags, args []string, env environment) (Config, error) {
	env = maps.Clone(env)
	if _, given := env["ADDR"]; !given {
		env["ADDR"] = devAddr
	}
	c, err := flags.parseOnly(args, env)
	if err != nil {
		return Config{}, err
	}
	for name, address := range map[string]string{"ADDR": c.Addr, "ADMIN_ADDR": c.AdminAddr} {
		if !isLoopback(address) {
			return Config{}, usagef("%s %q: dev hands its keys to everyone, so it binds loopback addresses only; say localhost:4000 or 127.0.0.1:4000", name, address)
		}
	}
	if c.JWTSecret == "" {
		c.JWTSecret = randomHex(32)
	}
	return c, nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// serveDev fills the sandbox, serves it, and prints how to use it once all is ready.
func serveDev(ctx context.Context, c Config, box *sandbox, std stdio) error {
	logger := newLogger(c, std.err)
	people, err := box.fill(ctx, logger)
	if err != nil {
		return err
	}
	c.DatabaseURL, c.ListenDatabaseURL = box.url, box.url
	both := c.Addr
	c.Addr, c.AdminAddr = firstLoopback(c.Addr), firstLoopback(c.AdminAddr)
	in, err := newInstance(ctx, c, logger)
	if err != nil {
		return taken(err)
	}
	if in.public, err = alsoIPv6(both, in.public); err != nil {
		in.public.Close()
		in.admin.Close()
		in.release()
		return taken(err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- in.run(ctx) }()
	if err := in.awaitReady(ctx, ended); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	_, port, _ := net.SplitHostPort(in.public.Addr().String())
	host, _, _ := net.SplitHostPort(both)
	page := devPage{
		source: box.source, psql: box.psql, secret: c.JWTSecret, program: programName(os.Args[0]), people: people,
		url: "http://" + net.JoinHostPort(host, port), admin: "http://" + in.admin.Addr().String(),
	}
	if err := page.print(std.out); err != nil {
		stop()
		return errors.Join(err, <-ended)
	}
	return <-ended
}

// awaitReady returns once the server is ready, or why it will not be. An end by ctx is no error.
func (in *instance) awaitReady(ctx context.Context, ended chan error) error {
	limit := time.NewTimer(devReady)
	defer limit.Stop()
	again := time.NewTicker(devReadyEvery)
	defer again.Stop()
	for {
		err := in.ready(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		select {
		case <-again.C:
		case gone := <-ended:
			ended <- gone // for the caller, who reads it too
			return nil
		case <-limit.C:
			return fmt.Errorf("wait until the server is ready: %w", err)
		}
	}
}
