package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"rowcast/server/pgtest"
)

// asChild makes the test binary the command: it exits with 7 if it finds the server that it was promised, named by the
// variable of this name.
const asChild = "PGTEST_WITH_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

func child() int {
	conn, err := pgx.Connect(context.Background(), os.Getenv(os.Getenv(asChild)))
	if err != nil || os.Getenv("PGTEST_REQUIRE") == "" {
		return 1
	}
	_ = conn.Close(context.Background())
	return 7
}

func TestRun(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "")
	t.Setenv(asChild, "TEST_DATABASE_URL")
	status, err := run([]string{os.Args[0]}, pgtest.Options{}, false)
	var none *pgtest.NotFoundError
	if errors.As(err, &none) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if status != 7 || err != nil {
		t.Errorf("status %d (%v), want the child's 7", status, err)
	}
}

func TestRunThroughPgBouncer(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "")
	t.Setenv(asChild, "TEST_POOLER_URL")
	status, err := run([]string{os.Args[0]}, pgtest.Options{}, true)
	if err != nil && (os.Getenv("CI") == "" || strings.Contains(err.Error(), "there is no PgBouncer here")) {
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
		if status, err := run([]string{"sh", "-c", test.script}, pgtest.Options{}, false); status != test.want || err != nil {
			t.Errorf("%s: %d (%v), want %d", test.script, status, err, test.want)
		}
	}
	if status, err := run([]string{"true"}, pgtest.Options{}, true); status != 2 || err == nil {
		t.Errorf("PgBouncer before a server that is given: %d (%v)", status, err)
	}
	if status, err := run([]string{"/nonexistent/command"}, pgtest.Options{}, false); status != 1 || err == nil {
		t.Errorf("no such command: %d (%v)", status, err)
	}
}

// A server that is given is of one major; -majors would run the same tests again and again on it.
func TestMajorsAndAGivenServer(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
	if status, err := runEach([]string{"14", "18"}, []string{"true"}, false); status != 2 || err == nil {
		t.Errorf("%d (%v), want 2", status, err)
	}
}

// The majors are exact versions, each with the hash of its content.
func TestMajorsArePinned(t *testing.T) {
	t.Parallel()
	var manifest struct{ Dependencies map[string]string }
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := errors.Join(json.Unmarshal(npmManifest, &manifest), json.Unmarshal(npmLock, &lock)); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Dependencies) != 5 {
		t.Errorf("%d majors", len(manifest.Dependencies))
	}
	for name, from := range manifest.Dependencies {
		locked := lock.Packages["node_modules/"+name]
		major, found := strings.CutPrefix(name, "postgres-")
		if !found || !strings.HasPrefix(locked.Version, major+".") || !strings.HasSuffix(from, "@"+locked.Version) || locked.Integrity == "" {
			t.Errorf("%s is %s, locked as %+v", name, from, locked)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	lib := filepath.Join(tree, "native", "lib")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(tree, "native", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("lib/libpq.so.5.14", "library")
	write("pg-symlinks.json", `[{"source": "native/lib/libpq.so.5.14", "target": "native/lib/libpq.so.5"}]`)
	if err := link(tree); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(lib, "libpq.so.5")); err != nil || string(text) != "library" {
		t.Errorf("%q, %v", text, err)
	}
	write("pg-symlinks.json", `[{"source": "native/lib/libpq.so.5.14", "target": "../outside"}]`)
	if err := link(tree); err == nil {
		t.Error("a link outside the package was made")
	}
}
