package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/server/pgtest"
)

// devPrinted is what dev printed, as a person reads it.
type devPrinted struct {
	values     map[string]string // by name: URL, bob, psql, …
	listen     []string          // the arguments of the command to listen with
	statements []string
}

// readDev reads the page up to its last line.
func readDev(r io.Reader) (devPrinted, error) {
	p := devPrinted{values: map[string]string{}}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		_, listen, found := strings.Cut(line, " listen ")
		switch name, value, isValue := strings.Cut(line, "  "); {
		case found && strings.Contains(line, "--token"):
			p.listen = append([]string{"listen"}, strings.Fields(listen)...)
		case strings.Contains(line, ";  "):
			p.statements = append(p.statements, line)
			if strings.HasPrefix(line, "insert ") {
				return p, nil
			}
		case isValue:
			p.values[name] = strings.TrimSpace(value)
		}
	}
	return p, errors.New("the page ended early")
}

// admin is the address that psql is to be called with.
func (p devPrinted) admin() string {
	_, address, _ := strings.Cut(p.values["psql"], "'")
	return strings.TrimSuffix(address, "'")
}

// dir is where a cluster of our own keeps everything, "" where it is not in a directory.
func (p devPrinted) dir() string {
	at, err := url.Parse(p.admin())
	if err != nil {
		return ""
	}
	return at.Query().Get("host")
}

func (p devPrinted) exec(t *testing.T, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.admin())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// startDev runs the subcommand in this process, and returns what it printed and how to end it.
func startDev(t *testing.T, env ...string) (p devPrinted, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errout lockedBuffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"dev"}, append([]string{"ADDR=localhost:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_LEVEL=warn"}, env...), in, &errout)
		in.Close()
	}()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Log(errout.String())
		}
	})
	p, err := readDev(out)
	if err != nil {
		stop()
		skipWithoutBinaries(t, errout.String())
		t.Fatalf("%v: %s", err, errout.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the pipe
	return p, stop
}

// skipWithoutBinaries: where TEST_DATABASE_URL names the only Postgres, dev cannot start one of its own.
func skipWithoutBinaries(t *testing.T, said string) {
	t.Helper()
	if os.Getenv("TEST_DATABASE_URL") != "" && strings.Contains(said, "no Postgres found") {
		t.Skip(said)
	}
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// listenAs runs the subcommand listen and gives its lines as they come; the channel closes when it ends.
func listenAs(t *testing.T, args []string) (lines <-chan string, ended <-chan result) {
	t.Helper()
	out, in := io.Pipe()
	told, over := make(chan string, 100), make(chan result, 1)
	go func() {
		var errout bytes.Buffer
		code := run(t.Context(), args, nil, in, &errout)
		in.Close()
		over <- result{code: code, errout: errout.String()}
	}()
	go func() {
		defer close(told)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			told <- lines.Text()
		}
	}()
	return told, over
}

func expectLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok || !strings.HasPrefix(line, want) {
			t.Fatalf("listener says %q, want %q", line, want)
		}
	case <-time.After(patience):
		t.Fatalf("listener never says %q", want)
	}
}

// tryThis does what the page tells a newcomer to do.
func tryThis(t *testing.T, p devPrinted) {
	t.Helper()
	if len(p.statements) != 3 {
		t.Fatalf("statements: %q", p.statements)
	}
	send, remove, insert := p.statements[0], p.statements[1], p.statements[2]

	lines, ended := listenAs(t, p.listen)
	expectLine(t, lines, "joined room:1")
	p.exec(t, send)
	expectLine(t, lines, `broadcast message {"id": "`)
	p.exec(t, remove)
	expectLine(t, lines, "system error You no longer have permission to read from this Channel topic: room:1")
	if got := <-ended; got.code != exitFinding || got.errout != "rowcast listen: the server ended room:1: You no longer have permission to read from this Channel topic: room:1\n" {
		t.Errorf("cut off: %+v", got)
	}
	if got := runProgram(t, nil, p.listen...); got.code != exitFinding || !strings.Contains(got.errout, "do not have permissions to read from this Channel topic: room:1") {
		t.Errorf("no member: %+v", got)
	}
	p.exec(t, insert)
	lines, _ = listenAs(t, p.listen)
	expectLine(t, lines, "joined room:1")
	p.exec(t, send)
	expectLine(t, lines, "broadcast message ")
}

func TestDev(t *testing.T) {
	t.Parallel()
	p, stop := startDev(t)
	tryThis(t, p)

	for name, want := range map[string]string{"anon key": `"anon"`, "service_role key": `"service_role"`, "alice": `"` + aliceID + `"`, "carol": carolID, "dave": daveID} {
		got := runProgram(t, []string{"JWT_SECRET=" + p.values["JWT secret"]}, "token", "inspect", p.values[name])
		if got.code != exitGood || !strings.Contains(got.out, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// As the ordinary role, never more.
	conn, err := pgx.Connect(t.Context(), p.admin())
	if err != nil {
		t.Fatal(err)
	}
	var logical, super bool
	err = conn.QueryRow(t.Context(), `select current_setting('wal_level') = 'logical', bool_or(rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)
		from pg_stat_activity join pg_roles on rolname = usename where application_name = 'rowcast'`).Scan(&logical, &super)
	conn.Close(context.Background())
	if err != nil || !logical || super {
		t.Errorf("logical %t, server is superuser or alike %t; %v", logical, super, err)
	}
	addresses := []string{p.values["URL"] + "/readyz", p.values["admin"] + "/readyz"}
	if at, err := url.Parse(p.values["URL"]); err == nil && hasIPv6(t) {
		addresses = append(addresses, "http://[::1]:"+at.Port()+"/readyz")
	}
	for _, address := range addresses {
		answer, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", address, answer.Status)
		}
	}
	pid := postmaster(t, p.dir())
	if code := stop(); code != exitGood {
		t.Errorf("exit code %d", code)
	}
	expectGone(t, p.dir(), pid)
}

func hasIPv6(t *testing.T) bool {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// postmaster is the process of a cluster of our own, 0 where there is none to see.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	if dir == "" {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func gone(dir string, pid int) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there (%w)", dir, err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d is still there (%w)", pid, err)
	}
	return nil
}

func expectGone(t *testing.T, dir string, pid int) {
	t.Helper()
	if err := gone(dir, pid); err != nil {
		t.Error(err)
	}
}

// TestDevOnAServer uses somebody's server and leaves it as it was.
func TestDevOnAServer(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	p, stop := startDev(t, "DATABASE_URL="+db.AdminURL, "JWT_SECRET="+testSecret)
	if p.values["JWT secret"] != testSecret {
		t.Errorf("secret %q", p.values["JWT secret"])
	}
	// The superuser's password is not printed; this test is one that knows it.
	shown, err := url.Parse(p.admin())
	if err != nil {
		t.Fatal(err)
	}
	if _, has := shown.User.Password(); has {
		t.Error("the superuser's password is printed")
	}
	known, err := url.Parse(db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(shown.Path, "/")
	shown.User = known.User
	p.values["psql"] = "psql '" + shown.String() + "'"
	tryThis(t, p)
	if code := stop(); code != exitGood {
		t.Errorf("exit code %d", code)
	}
	var left int
	err = db.Admin.QueryRow(t.Context(), `select (select count(*) from pg_database where datname = $1) + (select count(*) from pg_roles where rolname = $1)`, name).Scan(&left)
	if err != nil || left != 0 || !strings.HasPrefix(name, "rowcast_dev_") {
		t.Errorf("%d things named %q are left; %v", left, name, err)
	}
}

// TestDevNeedsASuperuser, and says so; nothing is left then either.
func TestDevNeedsASuperuser(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	got := runProgram(t, []string{"ADDR=localhost:0", "ADMIN_ADDR=127.0.0.1:0", "DATABASE_URL=" + db.URL}, "dev")
	if got.code != exitFinding || got.out != "" || !strings.Contains(got.errout, "DATABASE_URL has to be a superuser's: create role") || strings.Contains(got.errout, "password") {
		t.Errorf("%+v", got)
	}
}

// TestDevKilled runs dev in a process of its own, which gets no chance to clean up.
func TestDevKilled(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDevProcess$")
	cmd.Env = append(os.Environ(), "ROWCAST_TEST_DEV=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errout lockedBuffer
	cmd.Stderr = &errout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := readDev(out)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		skipWithoutBinaries(t, errout.String())
		t.Fatalf("%v: %s", err, errout.String())
	}
	dir := p.dir()
	pid := postmaster(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	// Whoever cleans up is nobody's child now, so there is nothing to wait for but the result.
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err := gone(dir, pid); err != nil; err = gone(dir, pid) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// TestDevProcess is no test: it is the process of TestDevKilled.
func TestDevProcess(t *testing.T) {
	if os.Getenv("ROWCAST_TEST_DEV") == "" {
		t.Skip("only run by TestDevKilled")
	}
	env := []string{"ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "LOG_LEVEL=warn"}
	os.Exit(run(context.Background(), []string{"dev"}, env, os.Stdout, os.Stderr))
}
