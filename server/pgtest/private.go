package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/postgres"
)

// NewCluster gives a test a cluster of its own, for what would harm others. It is skipped where there can be none: a
// server that somebody else runs, or one in Docker, cannot be killed.
func NewCluster(t TB, o Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	c, err := Start(ctx, o)
	var none *NotFoundError
	if errors.As(err, &none) && os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("this test needs a cluster of its own:", none.Error())
		return nil
	}
	if err != nil {
		giveUp(t, err)
		return nil
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Logf("pgtest: %v", err)
		}
	})
	if c.dir == "" {
		t.Skip("this test needs a cluster whose processes it can signal, and there is only Docker")
	}
	return c
}

// NewDB makes a migrated database in the cluster, which goes away with it.
func (c *Cluster) NewDB(t TB) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	const name = "app"
	d := c.DB(t, name)
	if err := errors.Join(c.CreateRoles(ctx), c.CreateDatabase(ctx, name)); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if _, err := (postgres.Migrator{URL: d.URL}).Up(ctx); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return d
}

// DB is a database that is in the cluster already, as a standby's.
func (c *Cluster) DB(t TB, name string) *DB {
	t.Helper()
	d := &DB{Name: name, server: &c.server, URL: c.url(name, ServerRole), AdminURL: c.url(name, superuser)}
	var err error
	if d.Admin, err = pgxpool.New(context.Background(), d.AdminURL); err != nil {
		t.Fatalf("pgtest: open admin pool: %v", err)
	}
	t.Cleanup(d.Admin.Close)
	return d
}

// Directory is where the cluster's own files are, for those that stand beside it.
func (c *Cluster) Directory() string { return filepath.Clean(c.dir) }
