package pgtest

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func answer[T any](t *testing.T, address, query string) (got T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

func TestKilledAndHaltedServersStartAgain(t *testing.T) {
	t.Parallel()
	c := start(t, Options{Settings: map[string]string{"max_connections": "42"}})
	if err := c.exec(t.Context(), "create table kept ()", "checkpoint"); err != nil {
		t.Fatal(err)
	}
	address := c.URL("postgres", superuser)
	for name, end := range map[string]func() error{
		"kill": func() error { return c.Kill(t.Context()) },
		"halt": func() error { return c.Halt(t.Context()) },
	} {
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.ping(t.Context()); err == nil {
			t.Errorf("%s: the server still answers", name)
		}
		if err := c.Resume(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := answer[string](t, address, "select current_setting('max_connections') || (select count(*) from kept)"); got != "420" {
			t.Errorf("%s: found %s", name, got)
		}
	}
	left := tracesOf(t, c.dir)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	left.awaitNothing(t)
}

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	t.Parallel()
	primary := start(t, Options{})
	if err := primary.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	standby := start(t, Options{Follow: primary})
	if err := primary.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := primary.exec(t.Context(), "create table late as select 1 as n"); err != nil {
		t.Fatal(err)
	}
	address := standby.URL("postgres", superuser)
	err := poll(t.Context(), "the table", func() error { return standby.exec(t.Context(), "select from late") })
	if err != nil || !answer[bool](t, address, "select pg_is_in_recovery()") {
		t.Fatalf("the standby does not follow: %v", err)
	}
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if timeline := answer[int](t, address, "select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"); timeline != 2 {
		t.Errorf("it is on timeline %d", timeline)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	c, other := start(t, Options{}), start(t, Options{})
	p := NewProxy(t, c)
	address := p.Through(c.URL("postgres", superuser))
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	p.Freeze()
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Errorf("frozen, and answered: %v", err)
	default:
	}
	p.Thaw()
	if err := <-answered; err != nil {
		t.Errorf("thawed: %v", err)
	}
	p.Lead(other)
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("a connection that there was: %v", err)
	}
	if got := answer[string](t, address, "show unix_socket_directories"); got != other.dir {
		t.Errorf("led to %s", got)
	}
	p.Sever()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("severed, and answered")
	}
}
