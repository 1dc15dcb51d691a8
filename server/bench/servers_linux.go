package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rowcast/server/auth"
	"rowcast/server/pgtest"
)

const (
	// secret signs the tokens of a server that nobody else can reach.
	secret = "a secret for benchmarks on loopback only"
	// startPatience bounds a server's start; a second is usual.
	startPatience = 30 * time.Second

	socketPath = "/socket/websocket?vsn=1.0.0"
)

// target is a server that load can be put on.
type target struct {
	*process
	name    string
	address string
	admin   string // where its runtime can be asked; the floor's cannot
}

// peer starts floor or plain, which say where they listen.
func (b *bench) peer(name string, core int) (*target, error) {
	p, err := start(b.ctx, core, nil, name)
	if err != nil {
		return nil, err
	}
	address, err := p.line()
	if err != nil {
		return nil, err
	}
	t := &target{process: p, name: name, address: address}
	if name == "plain" {
		t.admin = address
	}
	return t, nil
}

// limits that would end the load; its clients send no heartbeats. MAX_QUEUE_BYTES stays: without it nothing would ever be cut, and memory would pay.
var lifted = []string{
	"MAX_JOINS_PER_SECOND=0", "MAX_EVENTS_PER_SECOND=0", "MAX_BYTES_PER_SECOND=0", "MAX_CHANNELS_PER_SOCKET=0", "MAX_CONNECTIONS=0", "IDLE_TIMEOUT=0",
}

// rowcast starts the real server and waits until it is ready.
func (b *bench) rowcast(core int, settings ...string) (*target, error) {
	env := append([]string{
		"DATABASE_URL=" + b.database.url, "JWT_SECRET=" + secret, "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
		"LOG_FORMAT=json", "LOG_LEVEL=info",
	}, slices.Concat(lifted, settings)...)
	p, err := start(b.ctx, core, env, b.binary, "serve")
	if err != nil {
		return nil, err
	}
	t := &target{process: p, name: "rowcast"}
	if err := t.awaitReady(b.ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("start rowcast: %w: %s", err, p.errors)
	}
	return t, nil
}

// awaitReady reads the addresses from the log, and asks.
func (t *target) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s", startPatience)
		}
		if t.address == "" {
			t.address, t.admin = servingAddresses(t.errors.String())
			continue
		}
		if _, err := get(ctx, "http://"+t.address+"/readyz"); err == nil {
			return nil
		}
	}
}

// servingAddresses finds the line of the log that names them.
func servingAddresses(log string) (public, admin string) {
	for line := range strings.Lines(log) {
		var entry struct {
			Addr  string
			Admin string `json:"admin_addr"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Addr != "" && entry.Admin != "" {
			return entry.Addr, entry.Admin
		}
	}
	return "", ""
}

// ask is a question to the admin address.
func (t *target) ask(ctx context.Context, path string) ([]byte, error) {
	return get(ctx, "http://"+t.admin+path)
}

// admins keeps no connection that would be in the way.
var admins = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := admins.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return body, err
}

// database is one of our own, migrated.
type database struct {
	url   string                 // as the server's role
	admin string                 // as a superuser
	log   func() (string, error) // what Postgres has logged; nil: it is not ours to read
	stop  func() error
}

// prepare builds the server and gives it a database; once.
func (b *bench) prepare() error {
	if b.database != nil {
		return nil
	}
	b.say("building the server")
	if err := b.build(); err != nil {
		return err
	}
	b.say("starting Postgres")
	var err error
	b.database, err = b.startPostgres(pgtest.Options{})
	return err
}

// startPostgres gives a migrated database. Few applications share a machine with theirs: it listens for TCP.
func (b *bench) startPostgres(o pgtest.Options) (*database, error) {
	o.Progress, o.Listen = os.Stderr, true
	cluster, err := pgtest.Start(b.ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start Postgres: %w", err)
	}
	const name = "bench"
	d := &database{url: cluster.URL(name, pgtest.ServerRole), admin: cluster.URL(name, "postgres"), log: cluster.Log, stop: cluster.Stop}
	if err := b.migrate(cluster, d, name); err != nil {
		return nil, errors.Join(err, cluster.Stop())
	}
	return d, nil
}

func (b *bench) migrate(cluster *pgtest.Cluster, d *database, name string) error {
	if err := cluster.CreateRoles(b.ctx); err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	if err := cluster.CreateDatabase(b.ctx, name); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	migrate := exec.CommandContext(b.ctx, b.binary, "migrate", "up")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+d.url)
	if out, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	return nil
}

// build makes the server as `make build` does.
func (b *bench) build() error {
	b.binary = filepath.Join(b.dir, "rowcast")
	build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-o", b.binary, "rowcast/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return nil
}

// mint makes a token that outlives the run.
func mint(role, subject string) (string, error) {
	return auth.Mint([]byte(secret), auth.MintOptions{Role: role, Subject: subject})
}
