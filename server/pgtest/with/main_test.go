package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/pgtest"
)

// asChild makes the test binary the command: it exits with 7 if it finds the server that it was promised.
const asChild = "PGTEST_WITH_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

func child() int {
	conn, err := pgx.Connect(context.Background(), os.Getenv("TEST_DATABASE_URL"))
	if err != nil || os.Getenv("PGTEST_REQUIRE") == "" {
		return 1
	}
	_ = conn.Close(context.Background())
	return 7
}

func TestRun(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "")
	t.Setenv(asChild, "1")
	status, err := run([]string{os.Args[0]})
	var none *pgtest.NotFoundError
	if errors.As(err, &none) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if status != 7 || err != nil {
		t.Errorf("status %d (%v), want the child's 7", status, err)
	}
}

func TestStatus(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none") // a server that is given is not looked at
	for _, test := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 3", 3}, {"kill -TERM $$", 128 + 15}} {
		if status, err := run([]string{"sh", "-c", test.script}); status != test.want || err != nil {
			t.Errorf("%s: %d (%v), want %d", test.script, status, err, test.want)
		}
	}
	if status, err := run([]string{"/nonexistent/command"}); status != 1 || err == nil {
		t.Errorf("no such command: %d (%v)", status, err)
	}
}
