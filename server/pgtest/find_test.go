package pgtest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestWhatIsAskedForIsNotReplaced(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	if found, err := find(t.Context(), Options{Binaries: empty}); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("found %v (%v), want an error that names %s", found, err, empty)
	}
}

func TestOldBinariesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, program := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 13.20'\n"
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := inspect(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "13.20 is older than 14") {
		t.Errorf("got %v", err)
	}
}

func TestDockerWithoutDaemon(t *testing.T) {
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("no docker client")
	}
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "nobody-listens"))
	if err := DockerAnswers(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "docker: ") {
		t.Errorf("got %v, want docker's complaint", err)
	}
	var none *NotFoundError
	if _, err := find(t.Context(), Options{Image: "postgres:17"}); err == nil || errors.As(err, &none) {
		t.Errorf("an image that was asked for: %v, want an error and no search", err)
	}
}

// TestDocker runs where there is a daemon.
func TestDocker(t *testing.T) {
	t.Parallel()
	if err := DockerAnswers(t.Context()); err != nil {
		t.Skip(err)
	}
	image := os.Getenv("PGTEST_IMAGE")
	if image == "" {
		image = defaultImage
	}
	c, err := Start(t.Context(), Options{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.template(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	out, err := ask(t.Context(), nil, "docker", "ps", "-aq", "--filter", "name="+c.container)
	if err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("container %s remains: %q (%v)", c.container, out, err)
	}
}

// TestApt fetches the server as on a machine that has none: apt is shown the list of installed packages without Postgres.
func TestApt(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("fetches packages")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("not a Debian or Ubuntu system")
	}
	installed, err := os.ReadFile(dpkgStatus)
	if err != nil {
		t.Skip(err)
	}
	cache, err := os.MkdirTemp("/var/tmp", "pgtest-apt-") // which the server's user can read, unlike t.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(cache) })
	status := filepath.Join(cache, "status")
	if err := errors.Join(os.Chmod(cache, 0o755), os.WriteFile(status, withoutPostgres(installed), 0o644)); err != nil {
		t.Fatal(err)
	}
	a := apt{cache: cache, status: status, progress: io.Discard}
	found, err := a.server(t.Context())
	if errors.Is(err, errOffline) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(found.bin, cache) || !strings.HasPrefix(found.env[0], "LD_LIBRARY_PATH="+cache) {
		t.Errorf("found %+v, want it below %s", found, cache)
	}

	c, err := startLocal(t.Context(), Options{}, found)
	if err != nil {
		t.Fatal(err)
	}
	left := tracesOf(t, c.dir)
	err = c.exec(t.Context(),
		"select pg_create_logical_replication_slot('s', 'pgoutput')",
		"create function f() returns int language plpgsql as 'begin return 1; end'")
	if err := errors.Join(err, c.Stop()); err != nil {
		t.Error(err)
	}
	left.awaitNothing(t)

	// The second time nothing is fetched: a list of nothing installed and no way to update would fail.
	offline := apt{cache: cache, status: filepath.Join(cache, "none"), progress: io.Discard}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if again, err := offline.server(ctx); err != nil || again.bin != found.bin {
		t.Errorf("from the cache: %+v (%v)", again, err)
	}
	fetched, _ := filepath.Glob(filepath.Join(cache, "fetch-*"))
	if len(fetched) > 0 {
		t.Errorf("what was fetched remains: %v", fetched)
	}
}

var postgresStanza = regexp.MustCompile(`^Package: (postgresql|libpq)`)

func withoutPostgres(status []byte) []byte {
	var keep []string
	for stanza := range strings.SplitSeq(string(status), "\n\n") {
		if !postgresStanza.MatchString(stanza) {
			keep = append(keep, stanza)
		}
	}
	return []byte(strings.Join(keep, "\n\n"))
}

func TestCacheOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := privateDir(dir); err == nil {
		t.Error("a directory that everybody can write to was accepted")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := privateDir(link); err == nil {
		t.Error("a link was accepted")
	}
}
