package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed pgbouncer.sh
var pgbouncerScript string

// bouncerSettings: trust is for a socket that nobody else can reach.
const bouncerSettings = `[databases]
* = host=%[1]s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %[2]s
auth_type = trust
auth_file = %[2]s/users
pool_mode = %[3]s
max_client_conn = 2000
logfile = %[2]s/log
pidfile = %[2]s/pid
ignore_startup_parameters = extra_float_digits
`

// PgBouncer stands before a cluster.
type PgBouncer struct {
	dir   string
	owner *exec.Cmd
	hold  *os.File // the owner's standard input
}

var pgbouncerProgram = wanted{
	name: "pgbouncer", size: "1 MB",
	pick: func(func(string, ...string) (string, error)) (string, error) { return "pgbouncer", nil },
	check: func(ctx context.Context, tree string) error {
		return inspectBouncer(ctx, bouncerIn(tree), treeEnv(tree))
	},
}

func bouncerIn(tree string) string { return filepath.Join(tree, "usr", "sbin", "pgbouncer") }

func inspectBouncer(ctx context.Context, path string, env []string) error {
	_, err := ask(ctx, env, path, "--version")
	return err
}

// findBouncer returns the one that is installed, or one from apt.
func findBouncer(ctx context.Context, progress io.Writer) (path string, env []string, err error) {
	for _, path := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if found, err := exec.LookPath(path); err == nil && inspectBouncer(ctx, found, nil) == nil {
			return found, nil, nil
		}
	}
	a, err := newApt(progress)
	if err != nil {
		return "", nil, err
	}
	tree, err := a.get(ctx, pgbouncerProgram)
	if err != nil {
		return "", nil, fmt.Errorf("apt: %w", err)
	}
	return bouncerIn(tree), treeEnv(tree), nil
}

// NewPgBouncer is StartPgBouncer for a test. Where it cannot be had, for want of apt or of a network, the test is skipped;
// what else goes wrong is a failure where a Postgres is required.
func NewPgBouncer(t TB, before *Cluster, mode string) *PgBouncer {
	t.Helper()
	b, err := StartPgBouncer(context.Background(), before, mode, os.Stderr)
	switch {
	case errors.Is(err, errNoApt), errors.Is(err, errOffline), err != nil && !required():
		t.Skip("NOT TESTED: ", err)
		return nil
	case err != nil:
		t.Fatalf("pgtest: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Logf("pgtest: %v", err)
		}
	})
	return b
}

// StartPgBouncer puts one before a cluster, in the pool mode session, transaction or statement.
func StartPgBouncer(ctx context.Context, before *Cluster, mode string, progress io.Writer) (*PgBouncer, error) {
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	if before.dir == "" {
		return nil, errors.New("start PgBouncer: Postgres runs in Docker")
	}
	path, env, err := findBouncer(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("there is no PgBouncer here: %w", err)
	}
	b := &PgBouncer{}
	if err := b.start(path, env, before, mode); err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	if err := b.await(ctx); err != nil {
		log, _ := os.ReadFile(filepath.Join(b.dir, "log"))
		return nil, errors.Join(fmt.Errorf("start PgBouncer: %w\n%s", err, log), b.Stop())
	}
	return b, nil
}

// Stop ends it.
func (b *PgBouncer) Stop() error {
	err := b.hold.Close()
	if !waitOrGiveUp(func() { _ = b.owner.Wait() }, stopTimeout) {
		return errors.New("PgBouncer does not end")
	}
	return err
}

func (b *PgBouncer) start(path string, env []string, before *Cluster, mode string) error {
	user, err := unprivileged() // it refuses root, as Postgres does
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(tmp, "rowcast-bouncer-"); err != nil {
		return err
	}
	users := fmt.Sprintf("%q \"\"\n%q \"\"\n%q \"\"\n", superuser, ServerRole, DBARole)
	settings := fmt.Sprintf(bouncerSettings, before.dir, b.dir, mode)
	if err := errors.Join(os.WriteFile(filepath.Join(b.dir, "users"), []byte(users), 0o644),
		os.WriteFile(filepath.Join(b.dir, "pgbouncer.ini"), []byte(settings), 0o644)); err != nil {
		return err
	}
	if user != nil {
		if err := os.Chown(b.dir, int(user.Uid), int(user.Gid)); err != nil {
			return err
		}
	}
	in, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	b.hold = hold
	b.owner = exec.Command("/bin/sh", "-c", pgbouncerScript, "pgbouncer", path, b.dir)
	b.owner.Dir, b.owner.Stdin = b.dir, in
	b.owner.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	b.owner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: user}
	return b.owner.Start()
}

// URL is the address of a database through it.
func (b *PgBouncer) URL(database, user string) string {
	at := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: url.Values{"host": {b.dir}, "port": {"6432"}}.Encode()}
	return at.String()
}

// Restart ends it, with all connections that lead through it, and starts it again.
func (b *PgBouncer) Restart(ctx context.Context) error {
	before := b.pid()
	if _, err := io.WriteString(b.hold, "start\n"); err != nil {
		return err
	}
	err := poll(ctx, "another PgBouncer", func() error {
		if now := b.pid(); now == "" || now == before {
			return errors.New("it has not been started again")
		}
		return nil
	})
	return errors.Join(err, b.await(ctx))
}

// pid is that of the one that runs; "" while none does.
func (b *PgBouncer) pid() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "pid"))
	return string(text)
}

func (b *PgBouncer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return poll(ctx, "PgBouncer", func() error {
		conn, err := pgx.Connect(ctx, b.URL(superuser, superuser))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}
