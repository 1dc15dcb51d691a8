package pgtest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// adminConnections are enough for a test's own statements, and leave room for many tests at once.
	adminConnections = 8
	// cleanupTimeout bounds what happens after a test.
	cleanupTimeout = 30 * time.Second
	// setUpTimeout bounds getting a database, not counting a download.
	setUpTimeout = 2 * time.Minute
	// nameLength leaves room for the random part below the 63 bytes of a name.
	nameLength = 40
)

// TB is what New needs of a *testing.T.
type TB interface {
	Helper()
	Name() string
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Cleanup(func())
	Logf(format string, args ...any)
}

// DB is a test's own database, migrated by the server's role.
type DB struct {
	Name     string
	URL      string        // as the server's ordinary role
	PoolURL  string        // the same, but through the PgBouncer that TEST_POOLER_URL names, if it does
	AdminURL string        // as a superuser
	Admin    *pgxpool.Pool // as a superuser; closed after the test

	server *server
}

// As is the address for another role that may log in, such as DBARole.
func (d *DB) As(user string) string { return d.server.url(d.Name, user) }

// SharedBy is set in the environment, beside TEST_DATABASE_URL, by who started that server for several processes and could as
// well have started another.
const SharedBy = "PGTEST_SHARED"

var apart bool // see Apart

// Apart gives this process a cluster of its own, if it shares one. To be called in TestMain by packages that make replication
// slots, which wait for every transaction of the cluster: those of other packages' tests may last for minutes.
func Apart() { apart = true }

// home is a server with the template that databases are copied from. Each is found or made by the first test that needs it.
type home struct {
	server   func() (*server, error)
	template func() (string, error)
}

func newHome(open func() (*server, error)) *home {
	h := &home{server: sync.OnceValues(open)}
	h.template = sync.OnceValues(func() (string, error) { // other processes on the same server find it
		s, err := h.server()
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
		defer cancel()
		return s.template(ctx)
	})
	return h
}

var (
	shared = newHome(openShared)
	quiet  = newHome(openQuiet)
)

// openShared gives this process's server: the one that TEST_DATABASE_URL names, else a cluster of its own, which ends with the
// process.
func openShared() (*server, error) {
	if address := os.Getenv("TEST_DATABASE_URL"); address != "" && !(apart && os.Getenv(SharedBy) != "") {
		ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
		defer cancel()
		return openServer(ctx, address)
	}
	return startServer()
}

// openQuiet gives another one, where one can be had.
func openQuiet() (*server, error) {
	if os.Getenv("TEST_DATABASE_URL") != "" && os.Getenv(SharedBy) == "" {
		return shared.server()
	}
	return startServer()
}

func startServer() (*server, error) {
	c, err := Start(context.Background(), Options{Memory: true, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	return &c.server, nil
}

// New gives a test a fresh database with the migrations in it. Without any Postgres the test is skipped, or fails where CI
// or PGTEST_REQUIRE is set.
func New(t TB) *DB {
	t.Helper()
	return shared.migrated(t)
}

// NewQuiet is New in a cluster where no test keeps a transaction open for long: for tests that make replication slots, in a
// package where others do.
func NewQuiet(t TB) *DB {
	t.Helper()
	return quiet.migrated(t)
}

func (h *home) migrated(t TB) *DB {
	t.Helper()
	template, err := h.template()
	if err != nil {
		giveUp(t, err)
	}
	return h.newDB(t, template)
}

// NewEmpty is New without the migrations, for those who test these.
func NewEmpty(t TB) *DB {
	t.Helper()
	return shared.empty(t)
}

// NewQuietEmpty is NewQuiet without the migrations.
func NewQuietEmpty(t TB) *DB {
	t.Helper()
	return quiet.empty(t)
}

func (h *home) empty(t TB) *DB {
	t.Helper()
	if _, err := h.template(); err != nil { // the roles come with it
		giveUp(t, err)
	}
	return h.newDB(t, emptyTemplate)
}

// giveUp ends the test for want of a server.
func giveUp(t TB, err error) {
	t.Helper()
	var none *NotFoundError
	if errors.As(err, &none) && !required() {
		t.Skip(none.Error())
		return
	}
	t.Fatalf("pgtest: %v", err)
}

func (h *home) newDB(t TB, template string) *DB {
	t.Helper()
	s, err := h.server()
	if err != nil {
		giveUp(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	name := databaseName(t.Name())
	if err := s.clone(ctx, name, template); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	d := &DB{Name: name, server: s, URL: s.url(name, ServerRole), AdminURL: s.url(name, s.admin.User.Username())}
	if d.PoolURL, err = throughPooler(d); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	config, err := pgxpool.ParseConfig(d.AdminURL)
	if err != nil {
		t.Fatalf("pgtest: parse admin address: %v", err)
	}
	config.MaxConns = adminConnections
	if d.Admin, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		t.Fatalf("pgtest: open admin pool: %v", err)
	}
	t.Cleanup(func() { d.close(t) })
	return d
}

// throughPooler is how the server's pool connects.
func throughPooler(d *DB) (string, error) {
	pooler := os.Getenv("TEST_POOLER_URL")
	if pooler == "" {
		return d.URL, nil
	}
	at, err := url.Parse(pooler)
	if err != nil {
		return "", errors.New("read TEST_POOLER_URL: it must begin with postgres://")
	}
	at.User, at.Path = url.User(ServerRole), "/"+d.Name
	return at.String(), nil
}

// close drops the database, in a throw-away cluster too: a few hundred of them would fill a small /tmp.
func (d *DB) close(t TB) {
	t.Helper()
	if !waitOrGiveUp(d.Admin.Close, cleanupTimeout) {
		t.Fatalf("pgtest: a connection of Admin was never released")
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if err := d.server.drop(ctx, d.Name); err != nil {
		t.Logf("pgtest: %v", err)
	}
}

func required() bool {
	return os.Getenv("PGTEST_REQUIRE") != "" || (os.Getenv("CI") != "" && os.Getenv("CI") != "false")
}

// databaseName is unique and tells which test it belongs to.
func databaseName(test string) string {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, strings.TrimPrefix(test, "Test"))
	return "t_" + slug[:min(len(slug), nameLength)] + "_" + randomName(6)
}
