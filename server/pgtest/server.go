package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"rowcast/migrations"
	"rowcast/server/postgres"
	"rowcast/sql"
)

const (
	// ServerRole is the ordinary role that the server under test connects as.
	ServerRole = "rowcast"
	// DBARole is a member of ServerRole and no superuser.
	DBARole = "dba"

	// emptyTemplate is Postgres's own, which nobody connects to, so that a copy never finds it busy.
	emptyTemplate = "template0"

	// lockKey is the advisory lock under which roles and the template are made.
	lockKey = 7_267_001
	// What a server needs at the least for one package's tests.
	neededSlots, neededConnections = 10, 50
)

// roles are shared by the whole cluster, so each is made once and found by everybody else. The grants are what a user of
// Rowcast is told to give.
var roles = []struct {
	name, options string
	login         bool
}{
	{"anon", "nologin", false},
	{"authenticated", "nologin", false},
	{"service_role", "nologin bypassrls", false},
	{ServerRole, "login replication", true},
	{DBARole, "login", true},
}

var grants = []string{
	"grant anon, authenticated, service_role to " + ServerRole,
	"grant " + ServerRole + " to " + DBARole,
}

// server is a Postgres that answers: one of ours, or the one that TEST_DATABASE_URL names.
type server struct {
	admin    url.URL // of a superuser
	password string  // of the admin; "" where none is asked for
}

// openServer checks that tests can use the server at address, and says precisely what it lacks.
func openServer(ctx context.Context, address string) (*server, error) {
	at, err := url.Parse(address)
	if err != nil || (at.Scheme != "postgres" && at.Scheme != "postgresql") {
		return nil, errors.New("read TEST_DATABASE_URL: it must begin with postgres://")
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("read TEST_DATABASE_URL: %w", err)
	}
	if at.User == nil {
		at.User = url.User(config.User)
	}
	if strings.Trim(at.Path, "/") == "" {
		at.Path = "/" + config.Database
	}
	s := &server{admin: *at, password: config.Password}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)

	var version, slots, senders, connections int
	var super bool
	var wal string
	err = conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('wal_level'),
		current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int,
		current_setting('max_connections')::int, (select rolsuper from pg_roles where rolname = current_user)`).
		Scan(&version, &wal, &slots, &senders, &connections, &super)
	if err != nil {
		return nil, fmt.Errorf("inspect TEST_DATABASE_URL: %w", err)
	}
	var lacks []string
	need := func(ok bool, what string) {
		if !ok {
			lacks = append(lacks, what)
		}
	}
	need(version/10000 >= oldest, fmt.Sprintf("it is version %d, older than %d", version/10000, oldest))
	need(super, fmt.Sprintf("alter role %s superuser;", pgx.Identifier{config.User}.Sanitize()))
	need(wal == "logical", "alter system set wal_level = logical; and restart")
	need(slots >= neededSlots, fmt.Sprintf("alter system set max_replication_slots = %d; and restart", 10*neededSlots))
	need(senders >= neededSlots, fmt.Sprintf("alter system set max_wal_senders = %d; and restart", 10*neededSlots))
	need(connections >= neededConnections, fmt.Sprintf("alter system set max_connections = %d; and restart", 6*neededConnections))
	if len(lacks) > 0 {
		return nil, fmt.Errorf("use TEST_DATABASE_URL: %s", strings.Join(lacks, "; "))
	}
	return s, nil
}

// url is the address of a database for a user.
func (s *server) url(database, user string) string {
	at := s.admin
	at.Path = "/" + database
	if password := s.passwordOf(user); password != "" {
		at.User = url.UserPassword(user, password)
	} else {
		at.User = url.User(user)
	}
	return at.String()
}

// passwordOf derives a role's password from the admin's, so that every process knows it and nobody else does. Where the
// admin has none, nobody is asked for one.
func (s *server) passwordOf(user string) string {
	if s.password == "" || user == s.admin.User.Username() {
		return s.password
	}
	sum := sha256.Sum256([]byte("rowcast test role " + user + " " + s.password))
	return hex.EncodeToString(sum[:16])
}

func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.admin.String())
	if err != nil {
		return nil, fmt.Errorf("connect to the test server: %w", err)
	}
	return conn, nil
}

func (s *server) exec(ctx context.Context, statements ...string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return execAll(ctx, conn, statements...)
}

func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement[:min(len(statement), 80)], err)
		}
	}
	return nil
}

func (s *server) askMajor(ctx context.Context) (int, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var version int
	err = conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&version)
	return version, err
}

// CreateRoles makes anon, authenticated, service_role, rowcast and dba with the grants that Rowcast asks for; those that
// exist are left as they are.
func (s *server) CreateRoles(ctx context.Context) error {
	return s.locked(ctx, func(conn *pgx.Conn) error { return s.createRoles(ctx, conn) })
}

func (s *server) createRoles(ctx context.Context, conn *pgx.Conn) error {
	for _, role := range roles {
		statement := "create role " + role.name + " " + role.options
		if password := s.passwordOf(role.name); role.login && password != "" {
			statement += " password '" + password + "'"
		}
		if err := execAll(ctx, conn, statement); err != nil && !exists(err) {
			return err
		}
	}
	return execAll(ctx, conn, grants...)
}

// CreateDatabase makes an empty database in which the server's role may make its schema. The roles must exist.
func (s *server) CreateDatabase(ctx context.Context, name string) error {
	return s.clone(ctx, name, emptyTemplate)
}

func (s *server) clone(ctx context.Context, name, template string) error {
	quoted := pgx.Identifier{name}.Sanitize()
	return s.exec(ctx,
		"create database "+quoted+" template "+pgx.Identifier{template}.Sanitize(),
		// Rights on a database are not copied with it.
		"grant create on database "+quoted+" to "+ServerRole)
}

// drop also ends those who read the WAL of the database, which is all that "force" does not do.
func (s *server) drop(ctx context.Context, name string) error {
	const inUse = "55006"
	for {
		err := s.exec(ctx, "select pg_terminate_backend(active_pid) from pg_replication_slots where database = '"+name+"' and active",
			"drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)")
		if postgres.SQLState(err) != inUse || ctx.Err() != nil {
			return err
		}
		time.Sleep(pollEvery)
	}
}

// template returns the name of a database that holds the migrated schema, making it if nobody has. It is named after what
// is in it, so that two checkouts can share one server, and it counts only once it is marked as a template.
func (s *server) template(ctx context.Context) (string, error) {
	sum, err := migrationsHash()
	if err != nil {
		return "", err
	}
	name := "rowcast_template_" + sum
	err = s.locked(ctx, func(conn *pgx.Conn) error {
		if err := s.createRoles(ctx, conn); err != nil {
			return err
		}
		var done bool
		err := conn.QueryRow(ctx, "select datistemplate from pg_database where datname = $1", name).Scan(&done)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look for template: %w", err)
		}
		if done {
			return nil
		}
		if err := s.drop(ctx, name); err != nil { // left half made
			return err
		}
		if err := s.CreateDatabase(ctx, name); err != nil {
			return err
		}
		if _, err := (postgres.Migrator{URL: s.url(name, ServerRole)}).Up(ctx); err != nil {
			return fmt.Errorf("migrate template: %w", err)
		}
		return execAll(ctx, conn, "alter database "+name+" with is_template true allow_connections false")
	})
	return name, err
}

// locked runs work while no other process on this server does the same. The lock is the session's, and so ends with it.
func (s *server) locked(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", lockKey); err != nil {
		return fmt.Errorf("lock the test server: %w", err)
	}
	return work(conn)
}

// migrationsHash names a schema by all that makes it.
func migrationsHash() (string, error) {
	hash := sha256.New()
	hash.Write([]byte(sql.CreateSchema))
	err := fs.WalkDir(migrations.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.FS, path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read migrations: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)[:6]), nil
}

// exists tells "somebody was faster" from other errors: a role that exists, or two that are being made at once.
func exists(err error) bool {
	state := postgres.SQLState(err)
	return state == "42710" || state == "23505"
}

func randomName(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// waitOrGiveUp bounds a wait that has no context.
func waitOrGiveUp(wait func(), limit time.Duration) bool {
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
