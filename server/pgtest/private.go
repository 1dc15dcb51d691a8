package pgtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"rowcast/server/postgres"
)

// NewCluster gives a test a cluster of its own, for what would harm others, with a migrated database in it. It is skipped where
// there can be none: a server that somebody else runs, or one in Docker, cannot be killed.
func NewCluster(t TB, o Options) *Cluster {
	t.Helper()
	reserve(t, 1)
	return newCluster(t, o)
}

// NewPair is a NewCluster with a standby that follows it.
func NewPair(t TB) (primary, standby *Cluster) {
	t.Helper()
	reserve(t, 2)
	primary = newCluster(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	if err := primary.Halt(ctx); err != nil { // to be copied
		t.Fatalf("pgtest: %v", err)
	}
	standby = newCluster(t, Options{Follow: primary})
	if err := primary.Resume(ctx); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return primary, standby
}

// OrAt is an address on this cluster that also names another: whichever of them takes writes is meant.
func (c *Cluster) OrAt(other *Cluster, address string) string {
	return strings.Replace(address, "host=", "target_session_attrs=read-write&host="+other.directory()+",", 1)
}

// maxClusters is how many a process has at a time beside the shared one: each is a data directory and a dozen processes.
const maxClusters = 2

var (
	clusters  = make(chan struct{}, maxClusters)
	reserving sync.Mutex // held while several are reserved, so that no two tests wait for each other's second
)

// reserve waits for its turn to have so many clusters; they are given back after the test.
func reserve(t TB, n int) {
	reserving.Lock()
	defer reserving.Unlock()
	for range n {
		clusters <- struct{}{}
		t.Cleanup(func() { <-clusters })
	}
}

func newCluster(t TB, o Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	model, err := withDB()
	var c *Cluster
	if err == nil {
		if o.Follow == nil {
			o.Copy = model
		}
		o.Memory = true
		c, err = Start(ctx, o)
	}
	var none *NotFoundError
	switch {
	case errors.Is(err, errDocker):
		t.Skip("NOT TESTED: " + err.Error())
		return nil
	case errors.As(err, &none) && os.Getenv("TEST_DATABASE_URL") != "":
		t.Skip("NOT TESTED: a cluster of its own is needed:", none.Error())
		return nil
	case err != nil:
		giveUp(t, err)
		return nil
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Logf("pgtest: %v", err)
		}
	})
	return c
}

var errDocker = errors.New("there is only a Postgres in Docker, whose processes cannot be signalled")

// withDB is a cluster that the others are copied from, which is faster than making each. It ends with this process.
var withDB = sync.OnceValues(func() (*Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setUpTimeout)
	defer cancel()
	c, err := Start(ctx, Options{Memory: true, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	if c.dir == "" {
		return nil, errors.Join(errDocker, c.Stop())
	}
	err = errors.Join(c.CreateRoles(ctx), c.CreateDatabase(ctx, privateDB))
	if err == nil {
		_, err = postgres.Migrator{URL: c.URL(privateDB, ServerRole)}.Up(ctx)
	}
	return c, errors.Join(err, c.Halt(ctx))
})

// privateDB is the database that every cluster of NewCluster has.
const privateDB = "app"

// DB is the migrated database of a cluster of NewCluster. It goes away with it.
func (c *Cluster) DB(t TB) *DB {
	t.Helper()
	d := &DB{Name: privateDB, server: &c.server, URL: c.url(privateDB, ServerRole), AdminURL: c.url(privateDB, superuser)}
	d.PoolURL = d.URL
	var err error
	if d.Admin, err = pgxpool.New(context.Background(), d.AdminURL); err != nil {
		t.Fatalf("pgtest: open admin pool: %v", err)
	}
	t.Cleanup(d.Admin.Close)
	return d
}

// directory is where the cluster's own files are.
func (c *Cluster) directory() string { return filepath.Clean(c.dir) }
