package pgtest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, Options{})
	left := tracesOf(t, c.dir)

	// A connection that is open, and a replication slot, must not hold it up.
	conn, err := pgx.Connect(t.Context(), c.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "select pg_create_logical_replication_slot('s', 'pgoutput')"); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	left.awaitNothing(t)
}

func TestKilledOwnerLeavesNothing(t *testing.T) {
	t.Parallel()
	start(t, Options{}) // skips or fails where there is no Postgres

	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), asOwner+"=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("owner: %v", err)
	}
	left := tracesOf(t, strings.TrimSpace(dir))
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	left.awaitNothing(t)
}

func TestStartSaysWhatPostgresSaid(t *testing.T) {
	t.Parallel()
	start(t, Options{})
	_, err := Start(t.Context(), Options{Settings: map[string]string{"max_connections": "many"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "max_connections": "many"`) {
		t.Fatalf("got %v, want what Postgres complained of", err)
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	start(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := Start(ctx, Options{}); err == nil {
		t.Errorf("started %s, want an error", c.Source)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Settings: map[string]string{"max_connections": "42", "work_mem": "5MB"}})
	conn, err := pgx.Connect(t.Context(), c.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for name, want := range map[string]string{
		"max_connections": "42", "work_mem": "5MB", "wal_level": "logical", "track_commit_timestamp": "on",
		"synchronous_commit": "on", "fsync": "off", "listen_addresses": "",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestListenAsksForThePassword(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Listen: true})
	if err := c.CreateRoles(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{superuser, ServerRole, DBARole} {
		address, err := url.Parse(c.URL("postgres", user))
		if err != nil || !strings.HasPrefix(address.Host, "127.0.0.1:") {
			t.Fatalf("address %s (%v), want one of 127.0.0.1", address, err)
		}
		conn, err := pgx.Connect(t.Context(), address.String())
		if err != nil {
			t.Fatalf("%s with password: %v", user, err)
		}
		_ = conn.Close(t.Context())

		address.User = url.UserPassword(user, "guess")
		conn, err = pgx.Connect(t.Context(), address.String())
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "28P01" {
			if err == nil {
				_ = conn.Close(t.Context())
			}
			t.Errorf("%s with another password: %v, want 28P01", user, err)
		}
	}
}

// TestPlainUser runs the tests above as somebody who is not root.
func TestPlainUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("everything here runs as a plain user already")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("no setpriv to become somebody else with")
	}
	start(t, Options{})
	home, err := os.MkdirTemp(tmp, "pgtest-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	binary := filepath.Join(home, "pgtest.test") // the one go test made is in a directory of root's
	if err := errors.Join(os.Chmod(home, 0o777), copyFile(os.Args[0], binary)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", binary,
		"-test.v", "-test.run=^(TestStopLeavesNothing|TestKilledOwnerLeavesNothing|TestIsolation|TestOrdinaryRole)$")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "TEST_DATABASE_URL=", "PGTEST_REQUIRE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
	if passed := strings.Count(string(out), "--- PASS"); passed != 4 {
		t.Errorf("as nobody %d of 4 tests passed:\n%s", passed, out)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func TestSweepTakesOnlyTheDead(t *testing.T) {
	t.Parallel()
	user, err := unprivileged()
	if err != nil {
		t.Skip(err)
	}
	for _, inMemory := range []bool{false, true} {
		dead, deadLock, err := newDir(user, inMemory)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(dead, "data", "base"), 0o700), deadLock.Close()); err != nil {
			t.Fatal(err)
		}
		living, lock, err := newDir(user, inMemory) // sweeps
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(living)
		defer lock.Close()
		young, err := os.MkdirTemp(place(inMemory, roomInMemory), dirPrefix) // about to be locked
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(young)
		sweep(user)

		if _, err := os.Stat(dead); !os.IsNotExist(err) {
			t.Errorf("the dead cluster's directory remains (%v)", err)
		}
		for name, dir := range map[string]string{"a running cluster's": living, "a starting cluster's": young} {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("%s directory is gone: %v", name, err)
			}
		}
	}
}

// Data is kept in memory only where that is asked for and there is room.
func TestPlace(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(memory); err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		inMemory bool
		room     uint64
		want     string
	}{{true, 1, memory}, {true, 1 << 60, tmp}, {false, 1, tmp}} {
		if got := place(tt.inMemory, tt.room); got != tt.want {
			t.Errorf("in memory %t, with room for %d bytes: got %s, want %s", tt.inMemory, tt.room, got, tt.want)
		}
	}
}
