package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// separate is a server in a process of its own, which can be killed and frozen.
type separate struct {
	process             *os.Process
	name, public, admin string
}

// startSeparate runs TestLeaseProcess and waits until its server is ready.
func startSeparate(t *testing.T, db *pgtest.DB) *separate {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLeaseProcess$")
	cmd.Env = append(os.Environ(), "ROWCAST_TEST_LEASE="+db.PoolURL+" "+db.URL)
	stdin, err := cmd.StdinPipe() // its end ends the process, however this one dies
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errout lockedBuffer
	cmd.Stderr = &errout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(errout.String())
		}
	})
	s := &separate{process: cmd.Process}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &s.name, &s.public, &s.admin)
	}
	if err != nil {
		t.Fatalf("the server did not start: %v: %s", err, errout.String())
	}
	return s
}

// freeze stops the process, and returns when all of its threads stand still: some go on for a while after the signal.
func (s *separate) freeze(t *testing.T) {
	t.Helper()
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(s.process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Fatalf("freeze the server: %v, status %v", err, status)
		}
		return
	}
}

func (s *separate) thaw(t *testing.T) {
	t.Helper()
	if err := s.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestLeaseProcess is no test: it is the process of startSeparate.
func TestLeaseProcess(t *testing.T) {
	pool, listen, found := strings.Cut(os.Getenv("ROWCAST_TEST_LEASE"), " ")
	if !found {
		t.Skip("only run by startSeparate")
	}
	c := defaultConfig()
	c.DatabaseURL, c.ListenDatabaseURL, c.JWTSecret, c.Addr, c.AdminAddr = pool, listen, testSecret, "127.0.0.1:0", "127.0.0.1:0"
	c.DeafAfter, c.MaxReplayMessages = minDeafAfter, 0 // so whoever comes back is told everything
	c.DecisionLog = "sql"                              // which outlives it
	ctx, stop := context.WithCancel(context.Background())
	in, err := newInstance(ctx, c, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	in.lease.life = time.Second
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	ended := make(chan error, 1)
	go func() { ended <- in.run(ctx) }()
	if err := in.awaitReady(ctx, ended); err != nil {
		t.Fatal(err)
	}
	fmt.Println(in.lease.name, in.public.Addr(), in.admin.Addr())
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// The place of a server that was killed is free once it has expired.
func TestSuccessorOfAKilledServer(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := startSeparate(t, db)
	second := beside(t, db, nil)
	second.await("the second server to know of the first", func() bool { return strings.Contains(second.leaseCheck(), first.name) })
	if err := first.process.Kill(); err != nil {
		t.Fatal(err)
	}
	second.awaitReady()
	if left := scalar[int](t, db, "select count(*) from realtime._nodes"); left != 1 {
		t.Errorf("%d rows, want the second's alone", left)
	}
}

// A server that was frozen while another took its place asks its clients to go when it wakes, and waits in turn.
func TestFrozenServerGivesWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	first := startSeparate(t, db)
	c := dial(t, first.public, token(t, "u1", "authenticated", nil))
	if _, status, reason := c.join("a", nil); status != "ok" {
		t.Fatal(reason)
	}
	second := beside(t, db, nil)
	first.freeze(t)
	second.awaitReady()
	first.thaw(t)
	c.wait("the word to go", isEvent("a", "system"))
	if code := c.closed(); code != websocket.StatusServiceRestart {
		t.Errorf("closed with %d", code)
	}
	second.await("the first server to know of the second", func() bool {
		code, body := get(t, "http://"+first.admin+"/readyz")
		return code == 503 && strings.Contains(body, second.lease.name)
	})
	second.stop()
	second.await("the first server to serve again", func() bool {
		code, _ := get(t, "http://"+first.public+"/readyz")
		return code == 200
	})
	if _, status, reason := dial(t, first.public, token(t, "u1", "authenticated", nil)).join("a", nil); status != "ok" {
		t.Errorf("join afterwards: %s", reason)
	}
}

// All of Postgres goes down and comes up again: the server keeps its place, and its clients.
func TestLeaseSurvivesARestartOfPostgres(t *testing.T) {
	t.Parallel()
	var progress lockedBuffer
	box, err := openSandbox(t.Context(), "", &progress)
	if err != nil {
		skipWithoutBinaries(t, err.Error())
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.close(); err != nil {
			t.Error(err)
		}
	})
	if strings.HasPrefix(box.source, "Docker") {
		t.Skip("the processes of a container cannot be killed from here")
	}
	if _, err := box.fill(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r := beside(t, &pgtest.DB{URL: box.url, PoolURL: box.url}, nil)
	r.awaitReady()
	c := r.dial(token(t, "u1", "authenticated", nil))
	joinRef, _, _ := c.join("open", map[string]any{"broadcast": map[string]any{"self": true}})

	asAdmin := func(work func(context.Context, *pgx.Conn) error) {
		t.Helper()
		if err := connected(t.Context(), box.admin, work); err != nil {
			t.Fatal(err)
		}
	}
	since := func() (id string, started time.Time) {
		asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "select id, started_at from realtime._nodes").Scan(&id, &started)
		})
		return id, started
	}
	id, started := since()
	heard := counter(t, r, "realtime_feed_reconnects_total")
	asAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		// One process that dies so makes Postgres end all others and begin with recovery.
		return syscall.Kill(int(conn.PgConn().PID()), syscall.SIGKILL)
	})
	r.await("the server to hear Postgres again", func() bool { return counter(t, r, "realtime_feed_reconnects_total") > heard })
	r.await("the lease to be renewed", func() bool {
		ready, _ := r.health.Answer(context.Background())
		return ready && r.leaseCheck() == "ok"
	})
	if now, at := since(); now != id || !at.Equal(started) {
		t.Errorf("the row is of %s at %s, was of %s at %s", now, at, id, started)
	}
	c.push(joinRef, "realtime:open", "broadcast", map[string]any{"type": "broadcast", "event": "still here"})
	c.wait("a broadcast on the old connection", broadcastOf("open", "still here"))
}
